"""Norse's networks, as its documentation writes them, become traces whose values verify."""

from __future__ import annotations

import pytest

from tests.helpers.lively import READ_OUT, SMOOTH, assert_lively, layers_of, rows_of
from tests.helpers.models import exported, library, torch

library("norse")
from norse.torch import (  # noqa: E402
    LI,
    LIF,
    LIBoxCell,
    LICell,
    LIFBoxCell,
    LIFBoxParameters,
    LIFCell,
    LIFParameters,
    LIFRecurrentCell,
    Lift,
    SequentialState,
)  # fmt: skip
from norse.torch.module.leaky_integrator import LILinearCell  # noqa: E402
from torch import nn  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402

T, N = 4, 2
TARGETS = torch.tensor([1, 0])
OTHER = {"grad is dm != 0", "weight_grad"}  # LIFCell's synaptic current makes another equation: its masks are exact
UNCHECKED = ("another neuron equation: spikes, window and membrane not checked",
             "another neuron equation: gradient not checked")  # fmt: skip


def events(*shape, rate=0.3):
    return (torch.rand(T, N, *shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def last_voltage(output, targets):
    """Cross-entropy of the largest membrane potential over time, as the library's tasks take it."""
    return nn.functional.nll_loss(nn.functional.log_softmax(output.max(0).values, dim=1), targets)


class ConvNet(nn.Module):
    """norse.task's ConvNet, with fewer channels: LIF cells, maxima of spikes, a leaky read-out with weights."""

    def __init__(self, num_channels=1, feature_size=28, method="super", alpha=10.0):
        super().__init__()
        self.features = int(((feature_size - 4) / 2 - 4) / 2)
        self.conv1 = nn.Conv2d(num_channels, 4, 5, 1)
        self.conv2 = nn.Conv2d(4, 6, 5, 1)
        self.fc1 = nn.Linear(self.features * self.features * 6, 16)
        p = LIFParameters(method=method, alpha=torch.tensor(alpha), v_th=torch.tensor(0.05))
        self.lif0, self.lif1, self.lif2 = LIFCell(p=p), LIFCell(p=p), LIFCell(p=p)
        self.out = LILinearCell(16, 3)

    def forward(self, x):
        s0 = s1 = s2 = so = None
        voltages = torch.zeros(x.shape[0], x.shape[1], 3)
        for ts in range(x.shape[0]):
            z = self.conv1(x[ts, :])
            z, s0 = self.lif0(z, s0)
            z = torch.nn.functional.max_pool2d(z, 2, 2)
            z = 10 * self.conv2(z)
            z, s1 = self.lif1(z, s1)
            z = torch.nn.functional.max_pool2d(z, 2, 2)
            z = z.view(-1, self.features**2 * 6)
            z = self.fc1(z)
            z, s2 = self.lif2(z, s2)
            v, so = self.out(torch.nn.functional.relu(z), so)
            voltages[ts, :, :] = v
        return voltages


def test_the_mnist_convnet(tmp_path):
    torch.manual_seed(0)
    made, trace, report = exported(
        ConvNet(), events(1, 28, 28), tmp_path / "t.npz", last_voltage, TARGETS, window_threshold=0.001
    )
    assert rows_of(report) == {"conv1": OTHER, "conv2": OTHER, "fc1": OTHER, "out": READ_OUT}
    assert [(part.layer, part.why) for part in report.unchecked] == [
        (layer, why) for layer in ("conv1", "conv2", "fc1") for why in UNCHECKED
    ]
    assert layers_of(made) == {
        "conv1": ("conv", ("input",)), "lif0.max_pool": ("max pool~", ("conv1",)),
        "conv2": ("conv", ("lif0.max_pool",)),
        "lif1.max_pool": ("max pool~", ("conv2",)), "fc1": ("fc", ("lif1.max_pool",)), "lif2.relu": ("gate", ("fc1",)),
        "out": ("fc~", ("lif2.relu",)),
    }  # fmt: skip
    assert "conv2: conv2.scaled folded into weight and bias" in made.notes  # 10 * conv2(z)
    assert_lively(made, trace)


def run(model, x):
    """A stateful sequence over the timesteps."""
    state, outputs = None, []
    for now in x:
        out, state = model(now, state)
        outputs.append(out)
    return torch.stack(outputs)


def box(read_out):
    torch.manual_seed(0)
    p = LIFBoxParameters(v_th=torch.tensor(0.05))
    net = SequentialState(
        nn.Conv2d(1, 4, 5), LIFBoxCell(p=p), nn.MaxPool2d(2), nn.Conv2d(4, 6, 5), LIFBoxCell(p=p), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(96, 3), read_out(),
    )  # fmt: skip
    with torch.no_grad():
        net[3].weight.mul_(4)
    return net


@pytest.mark.parametrize("read_out", [LICell, LIBoxCell])
def test_box_cells_in_a_stateful_sequence(read_out, tmp_path):
    made, trace, report = exported(
        box(read_out), events(1, 28, 28), tmp_path / "t.npz", last_voltage, TARGETS, forward=run, window_threshold=0.2
    )
    assert rows_of(report) == {"0": SMOOTH, "3": SMOOTH, "7": READ_OUT}
    assert report.not_recomputed == ("0", "3")  # SuperSpike is no rectangle
    assert layers_of(made) == {
        "0": ("conv", ("input",)), "2": ("max pool~", ("0",)), "3": ("conv", ("2",)), "5": ("pool~", ("3",)),
        "7": ("fc~", ("5",)),
    }  # fmt: skip
    assert trace.meta.neuron.fires_at == "greater"
    assert_lively(made, trace)


def test_lifted_layers_over_all_timesteps(tmp_path):
    torch.manual_seed(0)
    p = LIFParameters(v_th=torch.tensor(0.02))
    net = SequentialState(
        Lift(nn.Conv2d(1, 4, 5)), LIF(p=p), Lift(nn.MaxPool2d(2)), nn.Flatten(2), nn.Linear(576, 3), LI()
    )
    made, trace, report = exported(
        net, events(1, 28, 28), tmp_path / "t.npz", lambda out, y: last_voltage(out[0], y), TARGETS,
        window_threshold=0.001,
    )  # fmt: skip
    assert rows_of(report) == {"0.lifted_module": OTHER, "4": READ_OUT}
    assert [kind for kind, _ in layers_of(made).values()] == ["conv", "max pool~", "fc~"]
    assert_lively(made, trace)


def test_recurrence_is_refused():
    net = SequentialState(nn.Linear(20, 8), LIFRecurrentCell(8, 8), nn.Linear(8, 3))
    why = "^1: LIFRecurrentCell: cannot be exported: recurrent connections, which the machine does not have$"
    with pytest.raises(ExportError, match=why):
        export.trace(net, events(20), TARGETS, last_voltage, forward=run)
