"""Any network of the operations that people put between neurons and weights is verified, or refused by name.

python -m tests.export.test_random_models 20000 5000     # more of them: from seed 20000, 5000 networks
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from torch.nn import functional

import h2sim
from h2sim import export
from h2sim.errors import ExportError
from h2sim.verify import verify_trace
from tests.helpers.models import machine, torch
from tests.helpers.random_models import RandomNet

# a network that seeds may draw and no trace holds
REFUSED = (
    "only of spikes: attention", "double it by a factor", "put it behind the mean", "take it in a product only",
    "in front of the last product alone", "a trace that stands still", "expected 0 or 1",
)  # fmt: skip
# seeds that found faults: routes of a maximum whose values differed from torch by rounding; norms of one element, over
# axes that fitted by chance; masks of each timestep under a norm and a mean over time
FOUND = (10031, 10093, 10134, 10210, 10231, 10364, 10420, 10430, 10648, 10871, 10910, 10936)


def outcome(seed: int, path: Path) -> str:
    """'verified', or the refusal."""
    net = RandomNet(seed).train()
    try:
        export.trace(net, net.inputs(), torch.tensor([0, 2]), functional.cross_entropy, path)
    except ExportError as error:
        return str(error)
    trace = h2sim.load_trace(path)
    trace.check()
    report = verify_trace(machine(), trace)
    assert report.passed, (seed, net.program, [row for row in report.rows if not row.passed])
    h2sim.simulate(machine(), trace)
    return "verified"


@pytest.mark.parametrize("seed", [*range(60), *FOUND])
def test_any_network_is_verified_or_refused_by_name(seed, tmp_path):
    said = outcome(seed, tmp_path / "t.npz")
    assert said == "verified" or any(why in said for why in REFUSED), said


def test_most_networks_are_verified(tmp_path):
    said = [outcome(seed, tmp_path / "t.npz") for seed in range(100, 140)]
    assert said.count("verified") >= 30


if __name__ == "__main__":
    first, number = map(int, sys.argv[1:])
    counted: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + number):
            said = outcome(seed, Path(folder) / "t.npz").splitlines()[0].rpartition("; got ")[-1][:80]
            counted[said] = counted.get(said, 0) + 1
    for said, times in sorted(counted.items(), key=lambda item: -item[1]):
        print(times, said)
