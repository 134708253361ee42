#!/bin/sh
# From nothing to a verdict on a SpikingJelly model: minutes, lines and megabytes of each step, for reports/models.md.
# sh reports/first-path.sh [FOLDER]; it needs Python, pip and git, and makes everything in FOLDER.
set -eu
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:-$(mktemp -d)}"
mkdir -p "$folder"
cd "$folder"
export XDG_CACHE_HOME="$folder/cache"  # nothing compiled before
timed() {
    start=$(date +%s.%N)
    "$@" >out.txt 2>&1 || { cat out.txt; exit 1; }
    echo "$(date +%s.%N) $start" | awk '{printf "%.1f s", $1 - $2}'
}
cat >model.py <<'PY'
import torch
from spikingjelly.activation_based import functional, layer, neuron

net = torch.nn.Sequential(
    layer.Conv2d(1, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), neuron.LIFNode(), layer.MaxPool2d(2),
    layer.Conv2d(32, 64, 3, padding=1, bias=False), layer.BatchNorm2d(64), neuron.LIFNode(), layer.MaxPool2d(2),
    layer.Flatten(), layer.Dropout(0.5), layer.Linear(64 * 49, 10), neuron.LIFNode(),
)
functional.set_step_mode(net, "m")
inputs, labels = torch.rand(4, 1, 28, 28).expand(4, -1, -1, -1, -1), torch.arange(4)


def loss(output, labels):
    return torch.nn.functional.cross_entropy(output.mean(0), labels)
PY
cat >export.py <<'PY'
from model import net, inputs, labels, loss
import h2sim.export
h2sim.export.trace(net, inputs, labels, loss, "mine.npz")
PY
echo "| step | what | took |"
echo "|---|---|---:|"
echo "| a virtual environment with torch, SpikingJelly and h2sim | 1 line | $(
    timed sh -c "python3 -m venv venv && venv/bin/pip install -q torch==2.13.0 torchvision==0.28.0 spikingjelly==2.0.0 '$root'"
) |"
echo "| of which h2sim | | $(du -sm venv/lib/python3*/site-packages/h2sim | cut -f1) of $(du -sm venv | cut -f1) MB |"
echo "| the model, exported | 2 lines of h2sim | $(timed venv/bin/python export.py) |"
echo "| \`h2sim run h2learn mine.npz\`, first time (compiles) | 1 line | $(timed venv/bin/h2sim run h2learn mine.npz) |"
head -1 out.txt >verdict.txt
echo "| \`h2sim verify h2learn mine.npz\` | 1 line | $(timed venv/bin/h2sim verify h2learn mine.npz) |"
echo "| the trace | | $(du -m mine.npz | cut -f1) MB |"
echo
cat verdict.txt
head -1 out.txt
