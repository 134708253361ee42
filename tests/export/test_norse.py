"""Norse models: LIFBoxCell is the source's equation but for a gain, LIFCell and LIF have a synaptic current."""

from __future__ import annotations

import pytest

from tests.helpers.models import TARGETS, exported, library, mean_loss, quantities, spikes, torch

norse = library("norse.torch")
from norse.torch.functional.lif_box import LIFBoxParameters  # noqa: E402
from norse.torch.functional.reset import reset_subtract  # noqa: E402
from torch import nn  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402


class Cells(nn.Module):
    """conv - cell - fc - cell, states handed on by the model."""

    def __init__(self, cell):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.cell1, self.fc, self.cell2 = nn.Conv2d(2, 4, 3), cell(), nn.Linear(64, 3), cell()

    def forward(self, x):
        first = second = None
        out = []
        for step in x:
            s, first = self.cell1(self.conv(step), first)
            s, second = self.cell2(self.fc(s.flatten(1)), second)
            out.append(s)
        return torch.stack(out)


def box(method="triangle", rate=400.0, **options):
    settings = {"tau_mem_inv": torch.tensor(rate), "v_th": torch.tensor(0.1), "method": method, "alpha": 0.5, **options}
    return lambda: norse.LIFBoxCell(LIFBoxParameters(**settings))


@pytest.mark.parametrize(
    "cell",
    [
        box(),
        box("super", reset_method=reset_subtract),
        box("tanh", v_leak=torch.tensor(-0.05), v_reset=torch.tensor(-0.05)),
    ],
)
def test_a_box_cell_is_the_sources_neuron_with_its_membrane_divided_by_the_gain(cell, tmp_path):
    made, written, report = exported(Cells(cell), spikes(2, 6, 6), tmp_path / "t.npz")
    p = cell().p
    assert written.meta.neuron.decay == pytest.approx(0.6)
    assert written.meta.neuron.threshold == pytest.approx(float(p.v_th - p.v_leak) / 0.4)
    assert "conv: membrane, threshold and window divided by the input gain 0.4" in made.notes
    assert {"spikes", "window", "membrane", "weight_grad"} <= quantities(report)["conv"]
    assert {"spikes", "window", "membrane", "weight_grad"} <= quantities(report)["fc"]
    assert written.mask("conv", "spikes").any()


def test_a_triangle_has_its_own_window(tmp_path):
    _, written, _ = exported(Cells(box()), spikes(2, 6, 6), tmp_path / "t.npz")
    assert written.meta.neuron.window == pytest.approx(((0.1 - 1) / 0.4, (0.1 + 1) / 0.4), abs=1e-5)
    assert written.meta.neuron.surrogate_scale is None


def test_a_cell_with_a_synaptic_current_gives_masks_and_weight_gradients(tmp_path):
    p = norse.LIFParameters(v_th=torch.tensor(0.05), method="triangle")
    _, written, report = exported(Cells(lambda: norse.LIFCell(p)), spikes(2, 6, 6), tmp_path / "t.npz")
    assert written.meta.neuron.equation == "other"
    assert quantities(report)["conv"] == {"grad is dm != 0", "weight_grad"}
    assert written.mask("conv", "spikes").any()


def test_a_layer_over_all_timesteps_takes_one_call(tmp_path):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            p = norse.LIFParameters(v_th=torch.tensor(0.02), method="triangle")
            self.fc1, self.lif, self.fc2 = nn.Linear(8, 12), norse.LIF(p), nn.Linear(12, 3)

        def forward(self, x):
            return self.fc2(self.lif(self.fc1(x))[0])

    _, written, report = exported(Whole(), spikes(8), tmp_path / "t.npz")
    assert (written.meta.timesteps, written.meta.batch) == (4, 3)
    assert {"current", "weight_grad"} <= quantities(report)["fc2"]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (lambda: norse.LIFRecurrentCell(64, 64), "recurrent connections"),
        (lambda: norse.LIFAdExCell(), "LIFAdExCell, whose equation h2sim does not know"),
        (box("heaviside"), "method 'heaviside', which has no surrogate"),
        (box(tau_mem_inv=torch.rand(3)), "tau_mem_inv of 3 values"),
        (box(v_reset=torch.tensor(0.05)), r"v_leak 0 and v_reset 0.05: a trace has v_reset as v_leak"),
        (
            box(v_leak=torch.tensor(0.05), reset_method=reset_subtract),
            "v_leak 0.05 and v_reset 0: a trace has v_l",
        ),
        (box(reset_method=lambda z, v, reset, th: v), "reset method <lambda>"),
    ],
)
def test_a_neuron_that_no_trace_can_hold_is_refused_by_name(cell, why):
    with pytest.raises(ExportError, match=f"^cell1: .*cannot be exported: {why}"):
        export.trace(Cells(cell), spikes(2, 6, 6), TARGETS, mean_loss)
