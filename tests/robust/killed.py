"""What the kill campaign kills: commands with small inputs, each a function that runs in its own folder.

A new command that writes is one more row of ROWS.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
NOTATION = "4C3-AP2-6C3-10FC"


@dataclass(frozen=True)
class Row:
    """A command to be killed. Its working folder is a fresh one each time.

    call: runs it. prepare: puts its inputs into a folder. again: runs it after it was killed. growing: files that a
    run writes more than once, whose state amid a run is neither the old nor the last one. keeps_old: whether files of
    an earlier run may stand where it writes. goes_on: the folder of an input that it goes on with, and so changes.
    """

    call: Callable[[], None]
    prepare: Callable[[Path], None] = lambda folder: None
    again: Callable[[], None] | None = None
    growing: tuple[str, ...] = ()
    keeps_old: bool = True
    cold: bool = False
    goes_on: str = ""


def h2sim(line: str) -> Callable[[], None]:
    """The command of this line."""

    def call() -> None:
        from h2sim.cli import main

        main(line.split(), prog_name="h2sim")

    return call


def with_profile(folder: Path) -> None:
    """A profile of two steps."""
    from tests.helpers.gpu_made import cuda_step

    cuda_step().write(folder / "profile.json")


def with_trace(folder: Path) -> None:
    """A small trace."""
    from tests.helpers.traces import tiny_trace

    tiny_trace(folder)


def with_digits(folder: Path) -> None:
    """48 random pictures to train on and 8 held out, as IDX files."""
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    for part, n in (("train", 48), ("t10k", 8)):
        labels = np.arange(n, dtype=np.uint8) % 10
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", size) for size in array.shape)
            (folder / "data" / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())


@cache
def _run_files() -> dict[str, bytes]:
    """What a training run of two epochs leaves, by its name in the run's folder; another process makes it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "simulator")])
    with tempfile.TemporaryDirectory() as place:
        with_digits(Path(place))
        command = [sys.executable, "-W", "ignore", "-c", "from h2sim.cli import main; main()", *train(2).split()]
        subprocess.run(command, cwd=place, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
        run = Path(place) / "run"
        return {file.relative_to(run).as_posix(): file.read_bytes() for file in run.rglob("*") if file.is_file()}


def with_run(folder: Path) -> None:
    """A training run that has ended, and its data."""
    with_digits(folder)
    for name, content in _run_files().items():
        (folder / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "run" / name).write_bytes(content)


def export_a_step() -> None:
    """`h2sim.export.trace` on a small model, as in a user's own script: no command, no handlers of ours."""
    import torch

    from h2sim import export
    from tests.helpers.models import TARGETS, conv_pool_fc, mean_loss, spikes

    torch.set_num_threads(1)
    export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss, "step.npz", values=True)


def reproduce_a_part() -> None:
    """`h2sim reproduce -o report` with two claims and one figure, so that it takes a second and not many minutes."""
    from h2sim.reproduce import report
    from h2sim.reproduce.setting import Setting

    whole = report.load_claims
    kept = ("peak", "fe-adders")
    report.FIGURES = report.FIGURES[:1]
    report.JOINT = report.FIGURES[0].stem
    report.joint.scenario = lambda table, theirs: Setting()
    report.MEASURES = {name: report.MEASURES[name] for name in kept}
    report.load_claims = lambda assumptions: {name: whole(assumptions)[name] for name in kept}
    h2sim("reproduce -o report")()


def call_kernels() -> None:
    """Compiles or loads some kernels, calls each with two kinds of arguments, and writes what they return."""
    from h2sim.io.files import write_text
    from h2sim.kernels import backward, bits, datapath

    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (3, 20), dtype=np.uint8)
    said = [bits.tile_popcounts(packed, 2, 8, 10, 3, 4).tolist()]
    for kind in (np.uint8, np.int64):
        total, largest = (rng.integers(0, 100, 7).astype(kind) for _ in range(2))
        backward.take_larger(total, largest)
        backward.add_rows(rng.integers(0, 9, (5, 7)).astype(kind), np.arange(5), 0, 5, 1, total)
        said += [largest.tolist(), total.tolist()]
    said.append(float(datapath.tree_sum(rng.random(9).astype(np.float32), 9)))
    write_text(Path("kernels.json"), f"{said}\n")


def train(epochs: int) -> str:
    """A command line that trains for so many epochs."""
    return (
        f"train {NOTATION} mnist --data data --epochs {epochs} --batch 8 --timesteps 3 --trace-epochs 0,1,last "
        "--trace-values --trace-samples 2 -o run"
    )


GROWING = ("run/checkpoint.pt", "run/log.csv")
ON = h2sim(f"{train(4)} --resume")
RUN = "run h2learn tiny.npz --json out.json --csv out.csv --timeline time.json --plots plots"
ROWS = {
    "run": Row(h2sim(RUN), with_trace),
    "train": Row(h2sim(train(2)), with_digits, h2sim(f"{train(2)} --resume"), GROWING, keeps_old=False),
    "train to more epochs": Row(ON, with_run, ON, GROWING, keeps_old=False, goes_on="run"),
    "export.trace": Row(export_a_step),
    "trace synth": Row(h2sim("trace synth mnist-small --sparsity 0.75 --batch 2 -o synth.npz")),
    "gpu import": Row(
        h2sim(f"gpu import profile.json --network {NOTATION} --input-shape 2,9,9 --batch 4 -o gpu.json"), with_profile
    ),
    "reproduce": Row(reproduce_a_part),
    "kernels": Row(call_kernels, cold=True),
}  # fmt: skip
