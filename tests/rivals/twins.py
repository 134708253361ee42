"""Every rival against its stepped twin on many random layers.

    python -m tests.rivals.twins -o reports/rivals/twins.json

The tests that compare the two run as hypothesis runs them, with more examples; a record of each is kept.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import seed, settings

from h2sim.io.files import replacing

# kind of machine: its tests that draw layers and hold the fast count to the stepped machine
TWINS = {
    "spinalflow": "equal.test_spinalflow",
    "sata": "rivals.test_sata",
    "dense-array": "rivals.test_dense_array",
    "prosperity": "rivals.test_prosperity",
}


def comparisons(kind: str) -> Iterator[Callable[..., None]]:
    """The tests of a machine that draw cases and name the twin."""
    module = importlib.import_module(f"tests.{TWINS[kind]}")
    for name, test in vars(module).items():
        if name.startswith("test_") and "stepped" in name and hasattr(test, "hypothesis"):
            yield test


def compared(test: Any, cases: int, first: int) -> tuple[int, int]:
    """(cases, disagreements): a disagreement ends the run, and is told."""
    inner, own, done = test.hypothesis.inner_test, test._hypothesis_internal_use_settings, [0]

    def counting(*arguments: Any, **named: Any) -> None:
        done[0] += 1
        inner(*arguments, **named)

    counting.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    test.hypothesis.inner_test = counting
    test._hypothesis_internal_use_settings = settings(max_examples=cases, database=None, deadline=None)
    try:
        seed(first)(test)()
    except AssertionError as error:
        print(f"{test.__module__}.{test.__name__}: {error}")
        return done[0], 1
    finally:
        test.hypothesis.inner_test, test._hypothesis_internal_use_settings = inner, own
    return done[0], 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="of each test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    record: dict[str, tuple[int, int]] = {}
    for kind in TWINS:
        found = [compared(test, options.cases, options.seed) for test in comparisons(kind)]
        record[kind] = sum(cases for cases, _ in found), sum(faults for _, faults in found)
        print(f"{kind}: {record[kind][0]:,} cases, {record[kind][1]} disagreements", flush=True)
    command = f"python -m tests.rivals.twins --cases {options.cases} --seed {options.seed} -o reports/rivals/twins.json"
    with replacing(options.output) as aside:
        aside.write_text(json.dumps({"command": command, "machines": record}, indent=1) + "\n", encoding="utf-8")
    return int(any(faults for _, faults in record.values()))


if __name__ == "__main__":
    raise SystemExit(main())
