"""A pool with neurons that reads the network input: below it nothing is trained, and its values verify all the same."""

from __future__ import annotations

import torch
from torch import nn

from h2sim.arch import load_arch
from h2sim.trace import load_trace, write_trace
from h2sim.trace.upgrade import upgraded
from h2sim.verify import verify_trace
from tests.helpers.models import Lif, Loop, exported, quantities, spikes


def test_its_gradient_is_checked_in_version_1_and_not_computed_in_version_2(tmp_path):
    torch.manual_seed(0)
    net = Loop(nn.AvgPool2d(2), Lif(), nn.Conv2d(2, 4, 3, padding=1), Lif(), nn.Flatten(), nn.Linear(36, 3))
    _, trace, report = exported(net, spikes(2, 6, 6), tmp_path / "t.npz")
    assert report.unchecked == ()
    assert "grad_membrane" in quantities(report)["net.0"]
    write_trace(tmp_path / "new.npz", *upgraded(trace))
    new = verify_trace(load_arch("h2learn"), load_trace(tmp_path / "new.npz"))
    assert new.passed
    assert [part.layer for part in new.unchecked] == ["net.0"]
    assert "nothing that it reads is trained" in new.unchecked[0].why
