"""What lines in the documents read, under the names that documents use; each is made when it is first asked for."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.io import library
from tests.docs.lines import blocks, read_words
from tests.helpers.gpu_made import NsysExport, cuda_step
from tests.helpers.houses import ROOT

NETWORK = "'8C3(Encoding)-10FC'"
SMALLEST = "4C3-10FC --input-shape 1,8,8"
SMALL = {  # appended to lines that take minutes of training: what they do, with few samples
    "train": "--train-samples 64 --test-samples 16",
    "attack": "--test-samples 2",
    "certify": "--test-samples 2",
    "convert": "--test-samples 16 --images 16",
    "evolve": "--test-samples 16 --images 16 --population 5 --generations 2 --workers 1",
}
SPEC = """arch: h2learn
traces: [mnist-digits]
method: grid
parameters:
  engines.backward.rows: [8, 16]
  engines.backward.columns: [32, 64]
  tile: {values: [[8, 8], [4, 8]]}
objectives: {seconds: minimize, energy_j: minimize}
"""
GPU = """# schema: h2sim-gpu-trace
# version: 1
# origin: measured
# network: cifar10
# dataset: noise
# samples: 64
# implementation: vanilla
# device.name: My GPU
# device.power_w: 250
# step.seconds: 0.123
layer,phase,seconds
"""
RULES = "rules:\n- {kernel: Memcpy, layer: data, phase: other}\n"


def _traces(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(2):
        shutil.copy(library.find("trace", "mnist-digits"), folder / f"batch-{number:02}.npz")


def _profile(path: Path) -> None:
    plain = cuda_step().write(path.with_suffix(""))
    path.write_bytes(gzip.compress(plain.read_bytes()))


def _export(path: Path) -> None:
    made = NsysExport(path)
    made.nvtx("conv1", 10, 60)
    made.kernel("implicit_convolve_sgemm", 15, 300, 7)
    made.close()


def _graph(path: Path) -> None:
    import nir
    import numpy as np

    neurons = nir.LIF(np.ones(10), np.ones(10), np.zeros(10), np.ones(10))
    nodes = {
        "input": nir.Input(np.array([6])), "fc": nir.Linear(np.ones((10, 6))), "lif": neurons,
        "output": nir.Output(np.array([10])),
    }  # fmt: skip
    nir.write(path, nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")], type_check=False))


def _text(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    return write


def _trace(path: Path) -> None:
    shutil.copy(library.find("trace", "mnist-digits"), path)


def _network(path: Path) -> None:
    shutil.copy(library.find("network", "cifar10"), path)


def _own_model(path: Path) -> None:
    """The file that the guide to measuring shows."""
    path.write_text(blocks((ROOT / "docs/how-to/measure.md").read_text(encoding="utf-8"), "python")[0])


NEEDS = {  # packages of extras, by a word of the line
    "train": ("torch", "mlxtend"), "attack": ("torch", "mlxtend"), "certify": ("torch", "mlxtend"),
    "convert": ("torch", "mlxtend"), "evolve": ("torch", "mlxtend"), "record": ("torch",),
    "model.py": ("spikingjelly",), "model.npz": ("spikingjelly",), "model.json": ("spikingjelly",),
    "run/": ("torch", "mlxtend"), "vgg6/": ("torch", "mlxtend"), ".nir": ("nir",), ".parquet": ("pyarrow",),
}  # fmt: skip
ID = "4f3a"  # stands for the beginning of the id of a sweep's machine


Maker = str | Callable[[Path], None]
TRACES = ("my", "a", "b", "old", "before", "after", "epoch-1", "epoch-4", "snntorch", "own", "graph")
MAKERS: dict[str, Maker] = {
    **{f"{name}.npz": _trace for name in TRACES},
    "mine.yaml": "h2sim arch show h2learn > mine.yaml",
    "rival.yaml": "h2sim arch show spinalflow > rival.yaml",
    "prices.yaml": "h2sim table show 28nm > prices.yaml",
    "space.yaml": _text(SPEC),
    "rules.yaml": _text(RULES),
    "my-network.yaml": _network,
    "cells.lib": _text(""),
    "model.nir": _graph,
    "ours.json": "h2sim run h2learn mnist-digits --json ours.json",
    "dual.json": "h2sim run h2learn mnist-digits --mode dual --json dual.json",
    "dense.json": "h2sim run h2learn mnist-digits --mode dense --json dense.json",
    "cifar10.npz": "h2sim trace synth cifar10 --sparsity table-3.2 -o cifar10.npz",
    "cifar10.json": "h2sim run h2learn cifar10.npz --json cifar10.json",
    "mine.csv": _text(GPU),
    "mine-vanilla.json": "h2sim gpu import profile.json.gz --network cifar10 --batch 64 -o mine-vanilla.json",
    "mine-chapter4.json": "h2sim gpu import profile.json.gz --network cifar10 --batch 64 -o mine-chapter4.json",
    "mine.json": "h2sim gpu import profile.json.gz --network cifar10 --batch 64 -o mine.json",
    "my_model.py": _own_model,
    "model.npz": "h2sim measure my_model.py:step --device cpu --warm-up 0 --repeats 2 -o model.npz",
    "model-gpu.json": "ls model.npz model-gpu.json",  # made with it
    "model.json": "h2sim run h2learn model.npz --json model.json",
    "profile.json.gz": _profile,
    "profile.sqlite": _export,
    "space": "h2sim sweep space.yaml -o space --workers 0",
    "batches": " && ".join(
        ["mkdir batches"]
        + [f"h2sim trace synth {SMALLEST} --sparsity 0.8 --seed {seed} -o batches/{seed}.npz" for seed in (0, 1)]
    ),
    "ce": lambda path: _traces(path / "traces"),
    "mse": lambda path: _traces(path / "traces"),
    "run": "h2sim train mnist-small mnist-5k --epochs 4 --shift 2 -o run",
    "vgg6": "h2sim train vgg6-bn-max mnist-5k --size 32,32 --channels 3 --epochs 2 --initial-deviation 0.3 -o vgg6",
    "analog": f"h2sim train {NETWORK} mnist-5k --epochs 1 -o analog",
    "other": f"h2sim train {NETWORK} mnist-5k --epochs 1 -o other",
    "rated": "h2sim train 8C3-AP2-10FC mnist-5k --epochs 1 --timesteps 4 -o rated",
    "ann": f"h2sim train {NETWORK} mnist-5k --recipe ann --epochs 2 -o ann",
    "converted": f"h2sim convert {NETWORK} mnist-5k --ann ann --scale 0.4 -o converted",
    "robust": "h2sim train robust-fc mnist-5k --recipe certified --epochs 1 -o robust",
}


def _file(word: str) -> str:
    """What lies in the folder of what a word names: `run` of run/epoch-1.npz, `my_model.py` of my_model.py:step."""
    name = word.split("/")[0]
    return name.partition(":")[0] if ".py:" in name else name


def trains(line: str) -> bool:
    """Whether a line calls a command that trains, or looks at what was trained."""
    return line.split()[1] in SMALL


def small(line: str) -> str:
    """The line with what makes it short, where its command has such options."""
    return f"{line} {SMALL[line.split()[1]]}" if line.split()[1] in SMALL else line


@dataclass
class Pantry:
    """A folder of inputs, and the programs that lines call."""

    shelf: Path
    programs: Path
    made: set[str] = field(default_factory=set)

    def serve(self, line: str, place: Path) -> None:
        """Puts what a line reads into a folder, under the names that it has in the line."""
        for word in read_words(line):
            name = _file(word)
            if name in MAKERS and not (place / name).exists():
                self._make(name)
                copy = shutil.copytree if (self.shelf / name).is_dir() else shutil.copy
                copy(self.shelf / name, place / name)

    def shell(self, line: str, place: Path) -> subprocess.CompletedProcess[str]:
        """Runs a line as a shell does, in a folder."""
        env = {**os.environ, "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line], cwd=place, env=env, capture_output=True, text=True
        )

    def _make(self, name: str) -> None:
        if name in self.made:
            return
        maker = MAKERS[name]
        if isinstance(maker, str):
            for needed in {_file(word) for word in read_words(maker)} & set(MAKERS) - {name}:
                self._make(needed)
            done = self.shell(small(maker), self.shelf)
            assert done.returncode == 0, f"{maker}: {done.stderr}"
        else:
            maker(self.shelf / name)
        self.made.add(name)


def do(line: str, pantry: Pantry, place: Path) -> None:
    """Runs a line of the documents in a folder with what it reads; it has to end well."""
    missing = sorted({p for word, needed in NEEDS.items() if word in line for p in needed if find_spec(p) is None})
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    pantry.serve(line, place)
    if ID in line:
        done = pantry.shell("h2sim sweep export space -o points.csv && sed -n '2s/,.*//p' points.csv", place)
        line = line.replace(ID, done.stdout.split()[-1])
    status, told = _here(small(line), place) if plain(line) else _in_a_shell(small(line), pantry, place)
    assert status == 0, told
    assert "Traceback" not in told


def plain(line: str) -> bool:
    """Whether a line is one command of h2sim and asks nothing of a shell but its quotes."""
    return line.startswith("h2sim ") and not set(line) & set("|>&;$*~`")


def _in_a_shell(line: str, pantry: Pantry, place: Path) -> tuple[int, str]:
    done = pantry.shell(line, place)
    return done.returncode, f"{done.stdout[-2000:]}{done.stderr}"


def _here(line: str, place: Path) -> tuple[int, str]:
    """The same in this process, which has imported already what each command would have to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(main, shlex.split(line)[1:], prog_name="h2sim")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output[-4000:]


def open_pantry(folder: Path) -> Pantry:
    """An empty one. Its program h2sim is the package that runs the tests."""
    shelf, programs = folder / "shelf", folder / "programs"
    shelf.mkdir(), programs.mkdir()
    for name, call in (("h2sim", "-m h2sim"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        program.chmod(0o755)
    return Pantry(shelf, programs)
