"""Grouped and depthwise convolutions of a model become layers with groups, and their values verify."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import h2sim
from h2sim.export import load_nir
from tests.export.test_nir import chain, conv, lif
from tests.helpers.models import Lif, Loop, exported, image, machine, quantities, spikes


def net(groups, first=2):
    torch.manual_seed(0)
    return Loop(
        nn.Conv2d(first, 8, 3, padding=1), Lif(), nn.Conv2d(8, 16, 3, padding=1, groups=groups), Lif(),
        nn.Conv2d(16, 6, 1, groups=2, bias=False), nn.BatchNorm2d(6).eval(), Lif(), nn.Flatten(), nn.Linear(216, 3),
    )  # fmt: skip


@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("analog", [False, True])
def test_groups(tmp_path, groups, analog):
    inputs = image(2, 6, 6) if analog else spikes(2, 6, 6)
    made, trace, report = exported(net(groups), inputs, tmp_path / "t.npz")
    assert made.meta["version"] == 2
    assert [layer.groups for layer in trace.meta.layers] == [1, groups, 2, 1]
    assert report.unchecked == ()
    assert {"weight_grad", "membrane", "grad_membrane"} <= quantities(report)["net.2"]
    notes = h2sim.simulate(machine(), trace).notes
    assert any(note.startswith(f"{groups} groups of channels in net.2") for note in notes)


def test_a_model_without_them_says_version_1(tmp_path):
    made, _, _ = exported(
        Loop(nn.Conv2d(2, 4, 3), Lif(), nn.Flatten(), nn.Linear(64, 3)), spikes(2, 6, 6), tmp_path / "t.npz"
    )
    assert made.meta["version"] == 1


def test_groups_of_a_nir_graph():
    network = load_nir(chain(conv(4, 8, groups=2), lif(4, 8, 8)))
    assert network.layers[0]["groups"] == 2
