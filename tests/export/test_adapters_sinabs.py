"""Sinabs' neurons run by the library itself: the adapter's membrane is the library's, and its spikes follow."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers.adapters import currents, ran, spec_of, torch
from tests.helpers.models import library

sinabs = library("sinabs")
import sinabs.layers as sl  # noqa: E402
from sinabs import activation  # noqa: E402

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export.neurons import neuron_of, reset_states  # noqa: E402
from h2sim.export.protocol import ReadOut  # noqa: E402

N, T = 3, 14
SINGLE = {"spike_fn": activation.SingleSpike}
RESETS = {"subtract": activation.MembraneSubtract(), "zero": activation.MembraneReset()}
OTHERS = {
    "synaptic": {"tau_syn": 3.0},
    "clipped": {"min_v_mem": -0.1},
    "subtracts more": {"reset_fn": activation.MembraneSubtract(0.9)},
    "resets to a value": {"reset_fn": activation.MembraneReset(0.05)},
    "a time of each neuron": {"tau_mem": torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0])},
    "all at once": {"tau_mem": torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0]), "tau_syn": 2.0, "min_v_mem": -0.1},
}


def lif(cls=sl.LIF, **options):
    return cls(**{"tau_mem": 3.0, "spike_threshold": torch.tensor(0.3), **SINGLE, **options})


def run_of(module, seed=0, mean=0.3):
    """The run of a layer that reads (N, T, ...), in the order (T, N, ...)."""
    return ran(module, lambda x: module(x.transpose(0, 1)).transpose(0, 1), currents(T, N, 5, seed=seed, mean=mean))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trained", [{}, {"train_alphas": True}], ids=["tau", "alpha"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_a_leaky_neuron_is_the_sources(reset, norm, trained, seed):
    run = run_of(lif(reset_fn=RESETS[reset], norm_input=norm, **trained), seed)
    spec = run.spec
    assert 0 < run.s.mean() < 1
    assert (spec.equation, spec.reset, spec.detach_reset) == ("lif", reset, reset == "zero")
    assert (spec.decay, spec.gain) == pytest.approx((0.716531, 0.283469 if norm else 1.0), abs=1e-6)
    assert (spec.multi_step, spec.time_axis, spec.flat_timesteps, spec.flat_samples) == (True, 1, None, None)
    assert run.follows_gradient()
    assert not run.follows_gradient(dataclasses.replace(spec, detach_reset=reset != "zero"))


@pytest.mark.parametrize("reset", RESETS)
def test_an_integrate_and_fire_neuron_does_not_leak(reset):
    run = run_of(sl.IAF(spike_threshold=torch.tensor(1.0), reset_fn=RESETS[reset], **SINGLE))
    assert (run.spec.equation, run.spec.decay, run.spec.gain) == ("lif", 1.0, 1.0)
    assert run.follows_gradient()


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS.keys())
def test_another_equation_gives_the_librarys_own_membrane(options, norm):
    settings = {"norm_input": norm, "record_states": True, **options}
    module = lif(**settings)
    run = run_of(module)
    assert 0 < run.s.mean() < 1
    assert (run.spec.equation, run.spec.gain) == ("other", 1.0)
    after = module.recordings["v_mem"].transpose(0, 1).detach()
    quiet = (run.s == 0) & (after > -0.1)  # where the library's membrane was neither reset nor clipped
    added = module.reset_fn.reset_value if isinstance(module.reset_fn, activation.MembraneReset) else 0.0
    assert torch.allclose(run.membrane()[quiet] + added, after[quiet], atol=1e-6)


def test_values_that_are_all_equal_are_one_number():
    run = run_of(lif(tau_mem=torch.full((5,), 3.0), spike_threshold=torch.full((5,), 0.3)))
    assert run.spec.equation == "lif"
    assert run.follows_gradient()


@pytest.mark.parametrize("spike", [activation.MultiSpike, activation.MaxSpike(1), activation.SingleSpike], ids=str)
@pytest.mark.parametrize(
    "surrogate",
    [activation.SingleExponential(), activation.Gaussian(), activation.Heaviside(0.5), activation.MultiGaussian()],
    ids=str,
)
def test_every_spike_function_has_the_surrogate_that_it_was_given(surrogate, spike):
    run = run_of(lif(spike_fn=spike, surrogate_grad_fn=surrogate, spike_threshold=torch.tensor(0.6)), mean=0.1)
    assert 0 < run.s.mean() < 1
    assert run.s.max() == 1
    assert run.follows_gradient()
    assert run.spec.surrogate == repr(surrogate)


@pytest.mark.parametrize(("sizes", "flat"), [
    ({"batch_size": N}, (None, N)), ({"num_timesteps": T}, (T, None)), ({"batch_size": N, "num_timesteps": T}, (T, N)),
])  # fmt: skip
@pytest.mark.parametrize("cls", [sl.LIFSqueeze, sl.IAFSqueeze])
def test_a_squeezed_layer_says_how_its_time_lies(cls, sizes, flat):
    module = lif(cls, **sizes) if cls is sl.LIFSqueeze else cls(**SINGLE, **sizes)

    def forward(x):
        return module(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (N, T)).transpose(0, 1)

    run = ran(module, forward, currents(T, N, 5))
    assert (run.spec.flat_timesteps, run.spec.flat_samples, run.spec.time_axis) == (*flat, 1)
    assert run.follows_gradient()


@pytest.mark.parametrize("base", [{}, *OTHERS.values()], ids=["lif", *OTHERS])
@pytest.mark.parametrize(
    "wrong",
    [{"tau_mem": 2.0}, {"spike_threshold": torch.tensor(0.35)}, {"norm_input": False}, {"reset_fn": RESETS["zero"]}],
    ids=["tau", "threshold", "norm", "reset"],
)
def test_another_parameter_than_the_one_that_ran_is_noticed(wrong, base):
    module = lif(**base)
    run = ran(module, lambda x: module(x.transpose(0, 1)).transpose(0, 1), currents(60, N, 5, mean=0.5))
    with pytest.raises(ExportError, match=r"^neuron: spikes: expected those of .*; got \d+ of 900 that differ"):
        run.membrane(spec_of(lif(**{**base, **wrong})))


def test_states_are_reset_before_a_step():
    module = torch.nn.Sequential(lif(), sl.IAF(**SINGLE))
    module(currents(N, T, 5))
    assert module[0].v_mem.any()
    reset_states(module)
    assert not module[0].v_mem.any()
    assert not module[1].v_mem.any()


@pytest.mark.parametrize("layer", [
    sl.ExpLeak(tau_mem=3.0), sl.ExpLeakSqueeze(tau_mem=3.0, batch_size=N), sl.LIF(tau_mem=3.0, spike_fn=None),
], ids=["ExpLeak", "ExpLeakSqueeze", "LIF without spikes"])  # fmt: skip
def test_an_integrator_is_a_read_out(layer):
    assert neuron_of(layer, "out") == ReadOut()


class Other:
    """A reset function of someone's own."""


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: sl.LIFRecurrent(tau_mem=3.0, rec_connect=torch.nn.Linear(5, 5)), "recurrent connections, which"),
        (lambda: sl.IAFRecurrent(rec_connect=torch.nn.Linear(5, 5)), "recurrent connections, which"),
        (lambda: sl.ALIFRecurrent(3.0, 3.0, rec_connect=torch.nn.Linear(5, 5)), "recurrent connections, which"),
        (lambda: sl.ALIF(tau_mem=3.0, tau_adapt=3.0), "ALIF, whose equation h2sim does not know"),
        (lambda: lif(spike_threshold=torch.rand(5)), "spike_threshold of 5 values, each with a surrogate of its own"),
        (lambda: lif(reset_fn=Other()), "reset function Other, which h2sim does not know"),
        (lambda: lif(tau_mem=float("inf")), "gain 0, not above 0"),
        (lambda: lif(spike_fn=type("Free", (), {"required_states": ["i_syn"]})), "spikes that depend on ['i_syn']"),
    ],
)  # fmt: skip
def test_a_neuron_that_no_trace_can_hold_is_refused_by_name(make, why):
    reason = neuron_of(make(), "neuron")
    assert isinstance(reason, str)
    assert reason.startswith(why)


def test_a_layer_without_states_is_no_neuron():
    assert neuron_of(sl.SumPool2d(2), "pool") is None
