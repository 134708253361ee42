"""snnTorch's neurons run by the library itself: the adapter's membrane is the library's, and its spikes follow."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers.adapters import currents, ran, spec_of, torch
from tests.helpers.models import Loop, exported, library, quantities, spikes

snn = library("snntorch")
from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import neurons  # noqa: E402

TRIANGLE = snn.surrogate.triangular()
SEVERAL = torch.tensor([0.2, 0.5, 0.9, 1.0, 1.5])
THRESHOLDS = torch.tensor([0.3, 0.5, 0.8, 1.1, -0.2])
RESETS = ("zero", "subtract", "none")


def stepped(module, x):
    """Spikes and membranes before any reset at the same timestep, (T, N, ...), by the library."""
    module.reset_mem()
    membranes, inner = [], module.fire

    def fire(mem):
        membranes.append(mem.detach().clone())
        return inner(mem)

    module.fire = fire
    s = torch.stack([module(now) for now in x])
    module.fire = inner
    return s, torch.stack(membranes)


def checked(module, x):
    """The run, after the adapter's membrane was compared with the library's."""
    membranes = []

    def forward(current):
        s, v = stepped(module, current)
        membranes.append(v)
        return s

    run = ran(module, forward, x)
    (v,) = membranes
    assert 0 < run.s.mean() < 1
    above = run.membrane() * run.spec.scale - run.spec.threshold
    assert torch.allclose(above, v - module.threshold.detach(), atol=1e-5)
    return run


def settings(**options):
    return {"threshold": 0.6, "spike_grad": TRIANGLE, "init_hidden": True, **options}


NEURONS = {
    "leaky": lambda **options: snn.Leaky(**settings(**{"beta": 0.7, **options})),
    "lapicque": lambda **options: snn.Lapicque(**settings(**{"beta": 0.6, "threshold": 0.3, **options})),
    "rc": lambda **options: snn.Lapicque(**settings(**{"R": 2, "C": 1.5, "time_step": 0.9, **options})),
    "synaptic": lambda **options: snn.Synaptic(**settings(**{"alpha": 0.4, "beta": 0.7, **options})),
    "alpha": lambda **options: snn.Alpha(**settings(**{"alpha": 0.9, "beta": 0.5, "threshold": 0.2, **options})),
}


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", NEURONS)
def test_a_neurons_membrane_is_the_librarys_own(name, reset, learns):
    module = NEURONS[name](reset_mechanism=reset, learn_threshold=learns)
    run = checked(module, currents(9, 3, 5))
    lif = (name in ("leaky", "lapicque", "rc") and reset != "zero") or (name, reset) == ("leaky", "zero")
    assert run.spec.equation == ("lif" if lif else "other")
    assert run.spec.reset == ("subtract-after-leak" if lif and reset == "subtract" else reset)
    assert run.follows_gradient() == (run.spec.equation == "lif")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", ["leaky", "synaptic"])
def test_a_reset_at_once_is_not_detached(name, reset):
    run = checked(NEURONS[name](reset_mechanism=reset, reset_delay=False), currents(9, 3, 5))
    assert not run.spec.detach_reset
    assert run.spec.equation == ("lif" if name == "leaky" and reset != "subtract" else "other")
    assert run.follows_gradient() == (run.spec.equation == "lif")


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_a_synaptic_neuron_without_synaptic_decay_may_be_the_sources(reset, delay):
    run = checked(NEURONS["synaptic"](alpha=0.0, reset_mechanism=reset, reset_delay=delay), currents(9, 3, 5))
    assert (run.spec.equation == "lif") == (reset == "none" or (reset == "zero") != delay)
    assert run.follows_gradient() == (run.spec.equation == "lif")


def test_a_neuron_that_does_not_leak_subtracts_as_the_source_does():
    run = checked(NEURONS["leaky"](beta=1.0, reset_mechanism="subtract"), currents(9, 3, 5))
    assert (run.spec.equation, run.spec.decay, run.spec.detach_reset) == ("lif", 1.0, True)
    assert run.follows_gradient()


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(5,), (4, 2, 5)], ids=str)
@pytest.mark.parametrize(
    "several",
    [{"beta": SEVERAL}, {"threshold": THRESHOLDS}, {"beta": SEVERAL, "threshold": THRESHOLDS}],
    ids=["beta", "threshold", "both"],
)
@pytest.mark.parametrize("name", ["leaky", "synaptic"])
def test_a_learnt_value_of_each_neuron_gives_its_membrane(name, several, shape, reset, delay):
    learns = {f"learn_{key}": True for key in several}
    module = NEURONS[name](**several, **learns, reset_mechanism=reset, reset_delay=delay)
    spec = checked(module, currents(9, 3, *shape)).spec
    assert spec.equation == "other"
    assert spec.threshold == pytest.approx(1.1 if "threshold" in several else 0.6)
    assert spec.decay == pytest.approx(1.0 if "beta" in several else 0.7)
    assert len(spec.notes) == len(several)


@pytest.mark.parametrize("name", ["leaky", "synaptic"])
def test_a_model_that_learns_a_value_of_each_neuron_gives_masks(name, tmp_path):
    torch.manual_seed(0)
    learnt = {"beta": SEVERAL, "learn_beta": True, "threshold": THRESHOLDS.abs() / 4, "learn_threshold": True}
    model = Loop(torch.nn.Linear(8, 5), NEURONS[name](**learnt), torch.nn.Linear(5, 3))
    made, written, _ = exported(model, spikes(8), tmp_path / "t.npz")
    assert written.meta.layer("net.0").neuron.equation == "other"
    assert written.mask("net.0", "spikes").any()
    assert any("T is the largest threshold" in note for note in made.notes)


@pytest.mark.parametrize("reset", RESETS)
def test_an_alpha_neuron_has_thresholds_and_decays_of_its_own_too(reset):
    module = NEURONS["alpha"](alpha=SEVERAL[:3], beta=SEVERAL[:3] / 2, threshold=THRESHOLDS[:3], reset_mechanism=reset)
    assert checked(module, currents(9, 3, 3)).spec.threshold == pytest.approx(0.8)


def test_values_that_are_all_equal_are_one_number():
    equal = {"beta": torch.full((5,), 0.7), "threshold": torch.full((5,), 0.6), "learn_beta": True}
    spec = spec_of(NEURONS["leaky"](**equal, reset_mechanism="zero"))
    assert (spec.equation, spec.notes) == ("lif", ())
    assert (spec.decay, spec.threshold) == pytest.approx((0.7, 0.6))


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_a_threshold_below_zero_is_reset_as_the_library_does(reset, delay):
    module = NEURONS["leaky"](threshold=-0.3, reset_mechanism=reset, reset_delay=delay)
    run = checked(module, currents(9, 3, 5, mean=-0.3))
    assert run.spec.equation == ("lif" if reset == "none" or (reset == "zero" and delay) else "other")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("leaky", "beta"), ("leaky", "threshold"), ("lapicque", "C"), ("lapicque", "threshold"), ("rc", "R"),
        ("rc", "time_step"), ("synaptic", "alpha"), ("synaptic", "beta"), ("synaptic", "threshold"), ("alpha", "alpha"),
        ("alpha", "beta"), ("alpha", "threshold"),
    ],
)  # fmt: skip
def test_another_parameter_than_the_one_that_ran_is_noticed(name, field, reset):
    module = NEURONS[name](reset_mechanism=reset)
    run = checked(module, currents(30, 3, 5))
    setattr(module, field, getattr(module, field) * 0.8)
    with pytest.raises(ExportError, match=r"^neuron: spikes: expected those of .*; got \d+ of 450 that differ"):
        run.membrane(spec_of(module))


@pytest.mark.parametrize("name", NEURONS)
def test_another_reset_is_noticed(name):
    run = checked(NEURONS[name](reset_mechanism="zero"), currents(30, 3, 5))
    for other in ("subtract", "none"):
        with pytest.raises(ExportError, match=r"^neuron: spikes: expected those of .*; got \d+ of 450 that differ"):
            run.membrane(spec_of(NEURONS[name](reset_mechanism=other)))


def test_a_gradient_through_the_reset_is_noticed():
    run = checked(NEURONS["leaky"](reset_mechanism="zero"), currents(9, 3, 5))
    assert not run.follows_gradient(dataclasses.replace(run.spec, detach_reset=False))


@pytest.mark.parametrize("name", ["DeltaLeaky", "LinearLeaky", "StateLeaky", "AssociativeLeaky"])
def test_the_other_neurons_are_refused_by_name(name):
    made = type(name, (getattr(snn, name),), {"__init__": lambda self: torch.nn.Module.__init__(self)})()
    assert neurons.neuron_of(made, "neuron") == f"{name}, whose equation h2sim does not know"


@pytest.mark.parametrize("name", ["leaky", "lapicque"])
def test_the_librarys_default_reset_is_one_that_a_trace_says_and_verify_checks(name, tmp_path):
    torch.manual_seed(1)
    model = Loop(torch.nn.Linear(8, 6), NEURONS[name](reset_mechanism="subtract"), torch.nn.Linear(6, 3))
    with torch.no_grad():
        model.net[0].weight.mul_(12)
    _, written, report = exported(model, spikes(8), tmp_path / "t.npz")
    neuron = written.meta.layer("net.0").neuron
    assert (neuron.equation, neuron.reset) == ("lif", "subtract-after-leak")
    assert written.mask("net.0", "spikes").any()
    assert quantities(report)["net.0"] >= {"membrane", "spikes", "window"}
