"""Peak memory of a training step on the CPU: networks of chapter 4 of the source, each way in a process of its own.

    python reports/gpu/memory.py                   # all that is missing in memory.csv, then memory.md
    python reports/gpu/memory.py --steps 4,10 --networks medium

Every row is written as soon as it is measured; a second call goes on where the first one was stopped. A peak is the
resident memory's high-water mark of one step (VmHWM) above what the process held before it; pages of the file cache
and other processes do not count.
"""

from __future__ import annotations

import argparse
import csv
import gc
import io
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from h2sim.fused import FusedUnit
from h2sim.io.files import write_text
from h2sim.neuron import Neuron, fire
from h2sim.train.lif import lif

HERE = Path(__file__).parent
# convolutions 3x3 with padding 1: (channels, stride); then matrix products 1024, 512 and 10. Table 4.1 is lost: medium
# is the network whose maps have the 71.13 MB that section 4.1.2 prints, large is the authors' code (CIFAR_BN).
NETWORKS = {
    "medium": [(128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2)],
    "large": [(c, s) for c in (128, 256, 512) for s in (1, 1, 2)],
}
STEPS = (4, 10, 20, 32)
WAYS = ("vanilla", "trainer", "checkpoint", "fused", "fused-sliced")
FIELDS = ("network", "batch_norm", "timesteps", "batch", "way", "peak_bytes", "loss")
Key = tuple[str, ...]


def measured(network: str, norm: bool, steps: int, batch: int, way: str) -> dict[str, Any]:
    """One step in this process: peak_bytes and loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Network(NETWORKS[network], norm, way)
    frames = torch.rand(steps, batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(batch) % 10
    step(model, frames[:2, :1], labels[:1])  # compiles, and takes what libraries keep for themselves
    for parameter in model.parameters():  # their memory is there before the step, as in a run
        parameter.grad = torch.zeros_like(parameter)
    gc.collect()
    idle = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    loss = step(model, frames, labels)
    return {"peak_bytes": status("VmHWM") - idle, "loss": f"{loss:.6f}"}


def status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def step(model: nn.Module, frames: torch.Tensor, labels: torch.Tensor) -> float:
    loss = functional.cross_entropy(model(frames), labels)
    loss.backward()
    return float(loss.detach())


NEURON = Neuron()


def framed(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A module of frames over all timesteps."""
    return torch.unflatten(module(x.flatten(0, 1)), 0, x.shape[:2])


def vanilla(y: torch.Tensor) -> torch.Tensor:
    """Layer by layer, each timestep by autograd, as the authors' plain version."""
    m, *rest = y.unbind()
    m = m.clone()  # a view would keep all of y
    spikes = [fire(m, NEURON)]
    for current in rest:
        m = NEURON.decay * (m * (1 - spikes[-1])) + current  # in this order m is kept once
        spikes.append(fire(m, NEURON))
    return torch.stack(spikes)


class Layer(nn.Module):
    """[BN ->] LIF -> reader, in one of the ways."""

    def __init__(self, channels: int, reader: nn.Module | None, norm: bool, way: str) -> None:
        super().__init__()
        self.norm, self.reader, self.way = nn.BatchNorm2d(channels) if norm else None, reader, way
        self.unit = FusedUnit(NEURON, reader, self.norm, sliced=way == "fused-sliced")

    def parts(self, x: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            x = framed(self.norm, x if x.dim() == 5 else x[..., None, None]).reshape(x.shape)
        s = vanilla(x) if self.way == "vanilla" else lif(x, NEURON)
        if self.reader is None:
            return s
        return self.reader(s.flatten(2)) if isinstance(self.reader, nn.Linear) else framed(self.reader, s)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way.startswith("fused"):
            return self.unit(x)
        return checkpoint(self.parts, x, use_reentrant=False) if self.way == "checkpoint" else self.parts(x)


class Network(nn.Module):
    """[BN ->] LIF -> next product after the first convolution; mean over T before the last product."""

    def __init__(self, convs: list[tuple[int, int]], norm: bool, way: str) -> None:
        super().__init__()
        widths = [channels for channels, _ in convs]
        pairs = zip([3, *widths[:-1]], convs, strict=True)
        kernels = [nn.Conv2d(before, after, 3, stride, 1, bias=not norm) for before, (after, stride) in pairs]
        readers = [*kernels[1:], nn.Linear(widths[-1] * 16, 1024), nn.Linear(1024, 512), None]
        read = zip([*widths, 1024, 512], readers, strict=True)
        self.first, self.last = kernels[0], nn.Linear(512, 10)
        self.layers = nn.Sequential(*(Layer(channels, reader, norm, way) for channels, reader in read))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(framed(self.first, frames)).mean(0))


def in_a_process(key: Key) -> dict[str, str]:
    """The row of a key, measured by a fresh process that gives freed memory back at once."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--one", *key], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(zip(FIELDS, key, strict=False)) | json.loads(done.stdout)


def read(path: Path) -> dict[Key, dict[str, str]]:
    """The rows that there are, by what they are of."""
    if not path.exists():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_text()))
    return {tuple(row[name] for name in FIELDS[:5]): row for row in rows}


def order(key: Key) -> tuple[Any, ...]:
    network, norm, steps, batch, way = key
    return list(NETWORKS).index(network), norm, int(steps), int(batch), WAYS.index(way)


def write(path: Path, rows: dict[Key, dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[key] for key in sorted(rows, key=order))
    write_text(path, text.getvalue())


def page(rows: dict[Key, dict[str, str]]) -> str:
    """The rows as a page: a line per network, norm and T, with each way's peak and its ratio to vanilla's."""
    lines = [
        "# Peak memory of a training step on the CPU",
        "",
        "Made by `python reports/gpu/memory.py` from `memory.csv`; float32, one thread, each cell in a process of its",
        "own: the resident memory's high-water mark of one step above what the process held before it, which has the",
        "weights and their gradients. In brackets the share of `vanilla`: layer by layer, autograd through every",
        "timestep. `trainer` keeps what `h2sim train --backend plain` keeps, with torch's batch norm; `checkpoint` is",
        "`torch.utils.checkpoint` around [BN-LIF-product]; `fused` is `h2sim.fused` with `sliced=False`;",
        "`fused-sliced`, as by default, goes through the samples in parts where their map outweighs the weights. The",
        "source prints 0.41 without and 0.33 with batch norm for its best case on GPUs (figure 4.6), at a batch of",
        "64. Time, energy, and all that a GPU does: not measured.",
        "",
        "All ways compute the same loss (`memory.csv`), but for one spike: medium, batch norm, T 32. There one of",
        "8.4 million membranes of the third layer lies 2e-9 from the threshold, and torch's batch norm and the",
        "units round it to two sides; the units' spike is float64's. The losses are 2.2066 and 2.1936.",
        "",
        "| network | batch norm | T | batch | " + " | ".join(f"{way}, MB" for way in WAYS) + " |",
        "|---|---|---:|---:|" + "---:|" * len(WAYS),
    ]
    for head in dict.fromkeys(key[:4] for key in sorted(rows, key=order)):
        peaks = [rows.get((*head, way), {}).get("peak_bytes") for way in WAYS]
        cells = []
        for peak in peaks:
            share = f" ({int(peak) / int(peaks[0]):.2f})" if peak and peaks[0] and peak is not peaks[0] else ""
            cells.append(f"{int(peak) / 1e6:.0f}{share}" if peak else "not measured")
        lines.append(f"| {' | '.join([*head, *cells])} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--steps", default=",".join(map(str, STEPS)))
    parser.add_argument("--norms", default="no,yes")
    parser.add_argument("--batch", default="4")
    parser.add_argument("--one", nargs=5, metavar="X", help="measure in this process: network norm steps batch way")
    given = parser.parse_args()
    if given.one:
        network, norm, steps, batch, way = given.one
        print(json.dumps(measured(network, norm == "yes", int(steps), int(batch), way)))
        return
    rows: dict[Key, dict[str, Any]] = dict(read(HERE / "memory.csv"))
    asked = (given.networks.split(","), given.norms.split(","), given.steps.split(","), [given.batch], WAYS)
    for key in product(*asked):
        if key not in rows:
            rows[key] = in_a_process(key)
            write(HERE / "memory.csv", rows)
            print(*rows[key].values(), flush=True)
    write_text(HERE / "memory.md", page({key: {k: str(v) for k, v in row.items()} for key, row in rows.items()}))


if __name__ == "__main__":
    main()
