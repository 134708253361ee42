"""What the extras read: NIR graphs, folders of training runs, and Liberty files for Yosys."""

from __future__ import annotations

import importlib.util
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.containers import change_checkpoint, change_hdf5
from tests.fuzz.kind import Files, Kind, always, expect
from tests.fuzz.kinds_machine import check_network
from tests.fuzz.mutate import Rng, change_bytes, change_json, change_text

LIBERTY = """library (small) {
  cell (INV) { area : 1.0; pin (A) { direction : input; } pin (Y) { direction : output; function : "A'"; } }
  cell (NAND) { area : 1.5; pin (A) { direction : input; } pin (B) { direction : input; }
    pin (Y) { direction : output; function : "(A B)'"; } }
  cell (DFF) { area : 4.5; ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }
    pin (C) { direction : input; clock : true; } pin (D) { direction : input; }
    pin (Q) { direction : output; function : "IQ"; } }
}
"""
LIBERTY_TOKENS = (
    "cell",
    "(",
    ")",
    "{",
    "}",
    '"',
    ";",
    "area",
    "-1;",
    "1e400;",
    "nan;",
    "x" * 3000,
    "\\",
    "/*",
    "\u00e9",
)


# NIR


@cache
def _graphs() -> list[Files]:
    import nir

    def lif(*shape: int) -> Any:
        return nir.LIF(np.ones(shape), np.ones(shape), np.zeros(shape), np.ones(shape))

    def conv(out: int, size: int, inputs: int) -> Any:
        return nir.Conv2d((size, size), np.ones((out, inputs, 3, 3)), 1, 1, 1, 1, np.ones(out))

    nodes = {
        "input": nir.Input(np.array((1, 4, 4))), "c1": conv(2, 4, 1), "l1": lif(2, 4, 4), "c2": conv(2, 4, 2),
        "l2": lif(2, 4, 4), "p": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "l3": lif(2, 2, 2),
        "f": nir.Flatten(np.array([2, 2, 2]), 0), "fc": nir.Affine(np.ones((3, 8)), np.ones(3)),
        "li": nir.LI(np.ones(3), np.ones(3), np.zeros(3)), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    edges = [("input", "c1"), ("c1", "l1"), ("l1", "c2"), ("c2", "l2"), ("l1", "l2"), ("l2", "p"), ("p", "l3"),
             ("l3", "f"), ("f", "fc"), ("fc", "li"), ("li", "output")]  # fmt: skip
    flat = {
        "input": nir.Input(np.array([6])),
        "a": nir.Linear(np.ones((4, 6))),
        "b": lif(4),
        "output": nir.Output(np.array([4])),
    }
    chain = [("input", "a"), ("a", "b"), ("b", "output")]
    inner = {"input": nir.Input(np.array([4])), "b": lif(4), "s": nir.Scale(np.full(4, 0.5)), "output": flat["output"]}
    held = nir.NIRGraph(inner, [("input", "b"), ("b", "s"), ("s", "output")], type_check=False)
    nested = {**flat, "b": held, "c": nir.Linear(np.ones((3, 4)))}
    around = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "output")]
    found: list[Files] = []
    with tempfile.TemporaryDirectory() as folder:
        for graph in ((nodes, edges), (flat, chain), (nested, around)):
            nir.write(Path(folder) / "g.nir", nir.NIRGraph(*graph, type_check=False))
            found.append({"g.nir": (Path(folder) / "g.nir").read_bytes()})
    return found


def _read_graph(folder: Path) -> None:
    from h2sim.export import load_nir

    check_network(load_nir(folder / "g.nir", timesteps=2), folder)


# runs


@cache
def _runs() -> list[Files]:
    """A run that was stopped after its first step; its log, which holds seconds, is empty."""
    from h2sim.train.folder import RunFolder
    from h2sim.train.session import torch_session

    with tempfile.TemporaryDirectory() as folder, torch_session():
        trainer, run = _trainer(), RunFolder(Path(folder) / "run")
        run.start(trainer.settings)
        run.losses = [trainer.step()]
        run.save(trainer)
        return [{name: (run.path / name).read_bytes() for name in ("run.json", "checkpoint.pt")}]


def _trainer() -> Any:
    from tests.helpers.tiny import binary_layers, halves, tiny_trainer

    return tiny_trainer(binary_layers(), halves(n_samples=16), epochs=1, timesteps=2)


def _change_run(rng: Rng, name: str, data: bytes) -> bytes:
    return change_json(rng, data) if name == "run.json" else change_checkpoint(rng, data)


def _read_run(folder: Path) -> None:
    """Resumes the run, and takes its weights for another, as `--resume` and `--start-from` do."""
    from h2sim.train.folder import RunFolder, start_weights
    from h2sim.train.session import torch_session

    with torch_session():
        trainer, run = _trainer(), RunFolder(folder)
        run.resume(trainer.settings, trainer)
        expect(0 <= trainer.iteration <= trainer.iterations, f"iteration {trainer.iteration} of {trainer.iterations}")
        if trainer.iteration < trainer.iterations:
            trainer.step()
        start_weights(_trainer(), folder)


# Liberty


@cache
def _cells() -> list[Files]:
    return [{"c.lib": LIBERTY.encode()}]


def _change_cells(rng: Rng, data: bytes) -> bytes:
    if rng.random() < 0.4:
        return change_bytes(rng, data)
    return change_text(rng, data.decode(), LIBERTY_TOKENS).encode()


def _read_cells(folder: Path) -> None:
    """The file itself; Yosys, which reads its cells, is another program, and wants more address space than there is."""
    from h2sim.rtl.area import check_liberty

    check_liberty(folder / "c.lib")
    expect(b"cell" in (folder / "c.lib").read_bytes(), "a Liberty file without cells was taken")


def _there(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


KINDS = (
    *((Kind("NIR graph", _graphs, always(change_hdf5), _read_graph, share=0.8),) if _there("nir", "torch") else ()),
    *((Kind("training run", _runs, _change_run, _read_run, share=0.5),) if _there("torch") else ()),
    *((Kind("Liberty", _cells, always(_change_cells), _read_cells, share=0.2),) if _there("amaranth") else ()),
)
