"""Measures what record.json lacks of figures 4.2 and 4.6 to 4.9: peak memory on the CPU; on a GPU time and energy too.

    python reports/gpu/measure.py                       # on the CPU, a quarter of an hour
    python reports/gpu/measure.py --device cuda         # on a GPU, at the source's batch
    python reports/gpu/measure.py --device cuda --figure 4.9 --processes 4

Each point is measured in a process of its own and written at once; a second call goes on where the first was stopped.
On the CPU a peak is the resident memory's high-water mark of one step (VmHWM) above what the process held before it,
which has the weights and their gradients; on a GPU it is the most bytes that torch's tensors hold, these included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from networks import NETWORKS, WAYS
from step import MEASURES, Point
from torch import distributed

from h2sim.io.files import write_text

HERE = Path(__file__).parent
CIFAR10, IMAGENET = ("small", "medium", "large"), ("alexnet", "resnet34")
STEPS, NORMS = (4, 10, 20, 32), (False, True)
BATCHES = {"cpu": 4, "cuda": 64}  # the source's is 64
PLAIN_WAYS = ("vanilla", "trainer", "checkpoint", "fused", "fused-sliced")


Record = dict[Point, dict[str, Any]]  # what was measured


def wanted(device: str, figure: str = "", processes: int = 1) -> list[Point]:
    """The points of a figure, of all by default, that a device can give."""
    found = [point for name, each in FIGURES.items() if figure in ("", name) for point in each(device)]
    return [replace(point, processes=processes) for point in found if processes == 1 or point.network in IMAGENET]


def _operations(device: str) -> Iterator[Point]:
    """Figure 4.2: beside operations alone; the medium network at the source's batch too."""
    of = partial(Point, device=device, way="conv", batch_norm=False)
    yield from (of(network=n, timesteps=t, batch=BATCHES[device]) for n, t in product(CIFAR10, STEPS))
    yield of(network="medium", timesteps=10, batch=64)
    yield from _ways(device)
    yield from _parts(device)


def _ways(device: str) -> Iterator[Point]:
    """Figure 4.6."""
    for network, norm, steps, way in product(CIFAR10, NORMS, STEPS, PLAIN_WAYS):
        yield Point(
            device=device, network=network, batch_norm=norm, timesteps=steps, batch=BATCHES[device], way=way
        )  # fmt: skip


def _parts(device: str) -> Iterator[Point]:
    """Figure 4.7, at the source's batch."""
    for norm, way in product(NORMS, PLAIN_WAYS):
        yield Point(device=device, network="medium", batch_norm=norm, timesteps=10, batch=64, way=way)


def _forward(device: str) -> Iterator[Point]:
    """Figure 4.8: the forward pass alone, on a GPU."""
    of = partial(Point, device=device, batch_norm=True, timesteps=10, batch=64, forward=True)
    ways = ("vanilla", "torchscript", "fused")
    yield from (of(network=n, way=way) for n, way in product(CIFAR10, ways) if device == "cuda")


def _imagenet(device: str) -> Iterator[Point]:
    """Figure 4.9, on a GPU, or on several."""
    of = partial(Point, device=device, batch_norm=True, timesteps=10, batch=32)
    yield from (of(network=n, way=w) for n, w in product(IMAGENET, ("vanilla", "fused-sliced")) if device == "cuda")


FIGURES = {"4.2": _operations, "4.6": _ways, "4.7": _parts, "4.8": _forward, "4.9": _imagenet}


def here(point: Point) -> dict[str, Any]:
    """Measures in this process and those that it starts; of several the first one's figures."""
    if point.processes == 1:
        return MEASURES[point.device](point)
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_one_rank, (point, folder), nprocs=point.processes)
        return json.loads((Path(folder) / "0.json").read_text())


def _one_rank(rank: int, point: Point, folder: str) -> None:
    backend = "nccl" if point.device == "cuda" else "gloo"
    distributed.init_process_group(backend, f"file://{folder}/address", rank=rank, world_size=point.processes)
    if point.device == "cuda":
        torch.cuda.set_device(rank)
    found = MEASURES[point.device](point)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def in_a_process(point: Point) -> dict[str, Any]:
    """What a fresh process measures, which gives freed memory back at once."""
    settings = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--one", json.dumps(asdict(point))]
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read(path: Path) -> Record:
    """The record; nothing where there is no file."""
    rows = json.loads(path.read_text())["points"] if path.exists() else []
    names = [field.name for field in fields(Point)]
    return {
        Point(**{name: row[name] for name in names}): {key: row[key] for key in row if key not in names} for row in rows
    }


def write(path: Path, record: Record) -> None:
    """The record, a point a line, in one order."""
    rows = [json.dumps({**asdict(point), **record[point]}) for point in sorted(record, key=order)]
    head = '{"schema": "h2sim-gpu-figures", "version": 1, "points": [\n'
    write_text(path, head + ",\n".join(rows) + "\n]}\n")


def order(point: Point) -> tuple[Any, ...]:
    places = {"network": list(NETWORKS), "way": list(WAYS)}
    return tuple(places[f.name].index(v) if f.name in places else v
                 for f, v in zip(fields(point), astuple(point), strict=True))  # fmt: skip


def fill(path: Path, points: Iterable[Point]) -> None:
    """Measures the points that the record lacks."""
    record = read(path)
    for point in dict.fromkeys(points):
        if point not in record:
            record[point] = in_a_process(point)
            write(path, record)
            print(*astuple(point), *record[point].values(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(MEASURES), default="cpu")
    parser.add_argument("--figure", choices=list(FIGURES), default="", help="[default: all]")
    parser.add_argument("--processes", type=int, default=1, help="GPUs that train together")
    parser.add_argument("--record", type=Path, default=HERE / "record.json")
    parser.add_argument("--one", metavar="POINT", help="measure in this process, and print it")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(here(Point(**json.loads(given.one)))))
        return
    if given.device == "cuda" and torch.cuda.device_count() < given.processes:
        sys.exit(f"measure.py: --processes: expected at most {torch.cuda.device_count()}, the CUDA GPUs here; "
                 f"got {given.processes}")  # fmt: skip
    fill(given.record, wanted(given.device, given.figure, given.processes))


if __name__ == "__main__":
    main()
