"""Norse's neurons run by the library itself: the adapter's membrane explains their spikes; read-outs."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers.adapters import currents, ran, spec_of, torch
from tests.helpers.models import exported, library, quantities, spikes

norse = library("norse.torch")
from norse.torch.functional.lif_box import LIFBoxParameters  # noqa: E402
from norse.torch.functional.reset import reset_subtract  # noqa: E402
from torch import nn  # noqa: E402

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export.neurons import neuron_of  # noqa: E402
from h2sim.export.protocol import ReadOut  # noqa: E402


def box(**options):
    settings = {"tau_mem_inv": 400.0, "v_th": 0.3, "v_leak": 0.0, "v_reset": 0.0, "alpha": 0.5, **options}
    tensors = {key: torch.tensor(value) if isinstance(value, float) else value for key, value in settings.items()}
    return norse.LIFBoxCell(LIFBoxParameters(**{"method": "triangle", **tensors}))


def iaf(cls, v_th=1.0, v_reset=0.0):
    p = norse.IAFParameters(torch.tensor(v_th), torch.tensor(v_reset), method="triangle", alpha=torch.tensor(0.5))
    return cls(p)


def lif(cls, **options):
    settings = {"v_th": 0.1, "v_leak": 0.0, "v_reset": 0.0, "tau_syn_inv": 300.0, "tau_mem_inv": 200.0, **options}
    return cls(norse.LIFParameters(**{key: torch.tensor(value) for key, value in settings.items()}, method="triangle"))


NEURONS = {
    "box": (box, {"tau_mem_inv": 300.0}, {"v_th": 0.35}),
    "box leaks elsewhere": (lambda **o: box(**{"v_leak": -0.1, "v_reset": -0.1, **o}), {"v_th": 0.35}),
    "box subtracts": (lambda **o: box(reset_method=reset_subtract, **o), {"tau_mem_inv": 300.0}, {"v_th": 0.35}),
    "iaf": (lambda **o: iaf(norse.IAFCell, **o), {"v_th": 1.2}),
    "iaf in one call": (lambda **o: iaf(norse.IAF, **{"v_reset": -0.3, **o}), {"v_th": 1.2}, {"v_reset": 0.0}),
    "lif": (lambda **o: lif(norse.LIFCell, **o), {"tau_mem_inv": 150.0}, {"tau_syn_inv": 150.0}, {"v_reset": -0.3}),
    "lif in one call": (lambda **o: lif(norse.LIF, **{"v_leak": 0.05, **o}), {"v_leak": 0.0}, {"v_th": 0.15}),
}


def steps(module):
    def forward(x):
        state, out = None, []
        for now in x:
            s, state = module(now, state)
            out.append(s)
        return torch.stack(out)

    return forward


def one_call(module):
    return lambda x: module(x)[0]


def run_of(name, x):
    module = NEURONS[name][0]()
    return ran(module, one_call(module) if name.endswith("one call") else steps(module), x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NEURONS)
def test_the_adapters_membrane_explains_the_spikes_and_the_gradient(name, seed):
    run = run_of(name, currents(12, 3, 5, seed=seed))
    assert 0 < run.s.mean() < 1
    run.membrane()
    assert run.spec.equation == ("other" if name.startswith("lif") else "lif")
    assert run.follows_gradient() == (run.spec.equation == "lif")
    assert not run.follows_gradient(dataclasses.replace(run.spec, detach_reset=True))
    assert (run.spec.multi_step, run.spec.time_axis) == (name.endswith("one call"), None)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, (_, *all_) in NEURONS.items() for wrong in all_])
def test_another_parameter_than_the_one_that_ran_is_noticed(name, wrong):
    run = run_of(name, currents(60, 3, 5))
    with pytest.raises(ExportError, match=r"^neuron: spikes: expected those of .*; got \d+ of 900 that differ"):
        run.membrane(spec_of(NEURONS[name][0](**wrong)))


@pytest.mark.parametrize("cell", [norse.LICell, norse.LI, norse.LIBoxCell])
def test_an_integrator_is_a_read_out(cell):
    assert neuron_of(cell(), "out") == ReadOut()


def test_an_integrator_with_weights_gives_them():
    cell = norse.LILinearCell(6, 3)
    read_out = neuron_of(cell, "out")
    assert isinstance(read_out, ReadOut)
    assert (read_out.weight is cell.input_weights, read_out.bias) == (True, None)


@pytest.mark.parametrize(
    "name", ["LIFRecurrentCell", "LIFRecurrent", "LSNNRecurrentCell", "LIFRefracRecurrentCell", "CobaLIFCell"]
)
def test_recurrent_neurons_are_refused(name):
    assert neuron_of(getattr(norse, name)(4, 4), "cell") == "recurrent connections, which the machine does not have"


@pytest.mark.parametrize("name", ["LIFRefracCell", "LIFExCell", "LIFEx", "LIFAdExCell", "LIFAdEx", "LSNNCell", "LSNN"])
def test_other_neurons_are_refused_by_name(name):
    assert neuron_of(getattr(norse, name)(), "cell") == f"{name}, whose equation h2sim does not know"


def test_a_model_of_integrate_and_fire_neurons_is_exported_in_full(tmp_path):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = iaf(norse.IAFCell, 0.6)
            self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 3)

        def forward(self, x):
            state, out = None, []
            for now in x:
                s, state = self.cell(self.fc1(now), state)
                out.append(self.fc2(s))
            return torch.stack(out)

    torch.manual_seed(0)
    _, written, report = exported(Steps(), spikes(8), tmp_path / "t.npz")
    assert written.meta.layer("fc1").neuron.equation == "lif"
    assert {"spikes", "window", "membrane", "weight_grad"} <= quantities(report)["fc1"]
