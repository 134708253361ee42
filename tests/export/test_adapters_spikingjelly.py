"""SpikingJelly's neurons run by the library itself: the adapter's membrane is the library's, and its spikes follow."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers.adapters import currents, ran, spec_of, torch
from tests.helpers.models import library

library("spikingjelly.activation_based.neuron")
from spikingjelly.activation_based import functional, neuron, surrogate  # noqa: E402

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export.neurons import neuron_of  # noqa: E402
from h2sim.export.protocol import ReadOut  # noqa: E402


class Seen(surrogate.Rect):
    """A surrogate that keeps v - threshold of every timestep."""

    def __init__(self):
        super().__init__(alpha=1.25)
        self.seen = []

    def forward(self, u):
        self.seen.append(u.detach().clone())
        return super().forward(u)


def cuba(v_reset=0.0, **options):
    return neuron.CUBALIFNode(**{"c_decay": 0.4, "v_decay": 0.7, "v_threshold": 0.6, "v_reset": v_reset, **options})


def klif(k=1.3, **options):
    module = neuron.KLIFNode(**{"tau": 2.5, "v_threshold": 0.4, **options})
    module.k.data.fill_(k)
    return module


def clif(**options):
    return neuron.ComplementaryLIFNode(**{"tau": 2.0, "v_threshold": 0.5, **options})


OTHERS = {
    "cuba": (cuba, {"c_decay": 0.5}, {"v_decay": 0.6}, {"v_threshold": 0.7}, {"v_reset": None}),
    "cuba subtracts": (lambda **o: cuba(**{"v_reset": None, **o}), {"c_decay": 0.5}, {"v_reset": 0.0}),
    "cuba returns elsewhere": (lambda **o: cuba(**{"v_reset": -0.2, **o}), {"v_reset": 0.0}),
    "klif": (klif, {"k": 1.1}, {"tau": 2.0}, {"decay_input": False}, {"v_reset": None}),
    "klif whole input": (lambda **o: klif(**{"decay_input": False, "v_reset": 0.1, **o}), {"tau": 2.0}),
    "klif subtracts": (lambda **o: klif(**{"v_reset": None, **o}), {"k": 1.1}, {"scale_reset": True}),
    "klif scaled": (lambda **o: klif(**{"scale_reset": True, **o}), {"k": 1.1}, {"scale_reset": False}),
    "klif scaled, subtracts": (lambda **o: klif(**{"v_reset": None, "scale_reset": True, **o}), {"k": 1.1}),
    "clif": (clif, {"tau": 1.6}, {"v_threshold": 0.6}),
}


def run_of(module, x, mode="s"):
    functional.set_step_mode(module, mode)
    return ran(module, module if mode == "m" else lambda x: torch.stack([module(now) for now in x]), x)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", OTHERS)
def test_another_equation_gives_the_librarys_own_membrane(name, seed, mode):
    module = OTHERS[name][0]()
    module.surrogate_function = Seen()
    run = run_of(module, currents(12, 3, 5, seed=seed), mode)
    assert 0 < run.s.mean() < 1
    assert (run.spec.equation, run.spec.gain) == ("other", 1.0)
    assert (run.spec.multi_step, run.spec.time_axis) == (mode == "m", None)
    above = run.membrane() - run.spec.threshold
    assert torch.allclose(above, torch.stack(module.surrogate_function.seen), atol=1e-6)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, (_, *all_) in OTHERS.items() for wrong in all_])
def test_another_parameter_than_the_one_that_ran_is_noticed(name, wrong):
    run = run_of(OTHERS[name][0](), currents(60, 3, 5))
    with pytest.raises(ExportError, match=r"^neuron: spikes: expected those of .*; got \d+ of 900 that differ"):
        run.membrane(spec_of(OTHERS[name][0](**wrong)))


LIFS = [
    lambda: neuron.LIFNode(tau=2.5, v_threshold=0.4),
    lambda: neuron.LIFNode(tau=2.5, decay_input=False, v_reset=None, detach_reset=True),
    lambda: neuron.LIFNode(tau=2.5, decay_input=False, v_reset=0.2),
    lambda: neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.3),
    lambda: neuron.IFNode(v_reset=-0.1),
    lambda: cuba(c_decay=0.0),
    lambda: cuba(c_decay=0.0, v_reset=None),
]


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("make", LIFS)
def test_the_sources_neuron_is_explained_with_its_gradient(make, mode):
    run = run_of(make(), currents(12, 3, 5), mode)
    assert run.spec.equation == "lif"
    assert run.follows_gradient()
    other = dataclasses.replace(run.spec, detach_reset=not run.spec.detach_reset)
    assert not run.follows_gradient(other)


@pytest.mark.parametrize("node", [neuron.NonSpikingIFNode(), neuron.NonSpikingLIFNode(tau=3.0)], ids=["if", "lif"])
def test_an_integrator_is_a_read_out(node):
    assert neuron_of(node, "out") == ReadOut()


def test_a_complementary_neuron_has_no_gradient_in_evaluation():
    assert neuron_of(clif().eval(), "neuron") == "no surrogate gradient in evaluation mode"


@pytest.mark.parametrize(
    "make",
    [
        neuron.QIFNode, neuron.EIFNode, neuron.IzhikevichNode, neuron.ILIFNode, neuron.TernaryLIFNode, neuron.RAFNode,
        lambda: neuron.GatedLIFNode(T=4), lambda: neuron.LIAFNode(torch.relu, False), lambda: neuron.PSN(T=4),
        lambda: neuron.MaskedPSN(k=2, T=4), lambda: neuron.SlidingPSN(k=2), neuron.OTTTLIFNode,
        lambda: neuron.MPBNLIFNode(out_features=4), neuron.HalfThresholdIFNode,
    ],
)  # fmt: skip
def test_other_neurons_are_refused_by_name(make):
    node = make()
    assert neuron_of(node, "neuron") == f"{type(node).__name__}, whose equation h2sim does not know"
