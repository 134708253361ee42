#!/bin/sh
# Writes the pages in this folder: `sh reports/pages/make.sh`, a few minutes on two cores, most of them the sweep.
# The sweep is the study of reports/sweeps with a budget of 1,000 machines instead of 44,000; in the folder that STUDY
# names it goes on where it was ended.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
aside=${STUDY:-$(mktemp -d)}
cd "$aside"
for trace in mnist-digits mnist-table34 mnist-table34-fp16; do
    h2sim run h2learn "$trace" --html "$here/h2learn-$trace.html"
done
for rival in spinalflow sata; do
    h2sim run "$rival" mnist-digits --html "$here/$rival-mnist-digits.html"
done
h2sim run h2learn mnist-digits --json h2learn.json
h2sim run h2learn mnist-digits --set memory.bandwidth_bytes_per_s='512 GB/s' --json fast.json
h2sim compare h2learn.json fast.json --machine sata --machine dense-array --machine prosperity \
    --machine bit-sparse-128 --machine ptb --machine sato --machine loas --machine spinalflow --machine loihi \
    --html "$here/compare.html"
h2sim sweep study -o study budget=1000
h2sim sweep report study -o "$here/study.html"
