"""Properties between runs at length: each is tried on random pairs of a machine and a trace.

python -m tests.fuzz.metamorphic --seed 0 --pairs 2000 -o reports/robust/metamorphic.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
import zlib
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np

from h2sim._version import __version__
from tests.fuzz.campaign import THREADS
from tests.fuzz.pairs import draw_pair
from tests.fuzz.properties import PROPERTIES

BLOCK = 10


def contradictions(seed: int, number: int, folder: Path, names: tuple[str, ...] = tuple(PROPERTIES)) -> list[str]:
    """What contradicts the properties on pair `number`: `property: sentence` each."""
    pair = draw_pair(np.random.default_rng([seed, number]), folder)
    found = []
    for name in names:
        rng = np.random.default_rng([seed, number, zlib.crc32(name.encode())])
        found += [f"{name}: {said}" for said in PROPERTIES[name](pair, rng)]
    return found


def _block(job: tuple[int, int, int]) -> list[tuple[int, str]]:
    seed, start, end = job
    with tempfile.TemporaryDirectory(prefix="h2sim-pairs-") as folder:
        return [(n, said) for n in range(start, end) for said in contradictions(seed, n, Path(folder))]


def record(pairs: int, found: list[tuple[int, str]], command: str) -> str:
    """The Markdown record: a line a property. The same command gives the same bytes."""
    wrong = Counter(name for _, name in {(n, said.partition(":")[0]) for n, said in found})
    lines = [
        "# Record of properties between runs",
        "",
        "Each property of `tests/fuzz/properties.py` on random pairs of a machine and a trace. *contradicted*: pairs",
        "on which it does not hold. `tests/fuzz/test_properties.py` shows for each that it notices a planted bug.",
        "",
        "| property | pairs | contradicted |",
        "|---|---:|---:|",
        *(f"| {name.replace('_', ' ')} | {pairs:,} | {wrong[name]:,} |" for name in PROPERTIES),
        "",
        f"`{command}`",
        "",
        f"h2sim {__version__}, Python {platform.python_version()}, numpy {metadata.version('numpy')}, "
        f"numba {metadata.version('numba')}",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command; exit status 1 where a property does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.metamorphic", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="write the record here")
    given = parser.parse_args()
    os.environ.update(THREADS)
    jobs = [(given.seed, start, min(given.pairs, start + BLOCK)) for start in range(0, given.pairs, BLOCK)]
    found: list[tuple[int, str]] = []
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for done, part in enumerate(pool.imap(_block, jobs), start=1):
            found += part
            if done % 10 == 0:
                print(f"{done * BLOCK:,} of {given.pairs:,}, {len(found)} contradictions", file=sys.stderr, flush=True)
    for number, said in found:
        print(f"--- pair {number}: {said}", file=sys.stderr)
    text = record(given.pairs, found, f"python -m tests.fuzz.metamorphic {shlex.join(sys.argv[1:])}")
    print(text)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, encoding="utf-8")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
