"""The neuron's equation, window and surrogate height, against plain formulas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import NeuronSpec, dynamics  # noqa: E402
from tests.helpers.models import Spike  # noqa: E402

EPS = torch.finfo(torch.float32).eps


class Width(torch.autograd.Function):
    """A rectangle of a given half width and height."""

    @staticmethod
    def forward(ctx, u, half, height):
        ctx.save_for_backward(u)
        ctx.half, ctx.height = half, height
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * ctx.height * (u.abs() < ctx.half).to(u.dtype), None, None


def currents(seed, timesteps=6):
    return torch.randn(timesteps, 2, 5, generator=torch.Generator().manual_seed(seed))


def library_spikes(spec, x):
    """v and s of the spec's equation written out in the library's unit, one neuron and timestep after the other."""
    v = torch.zeros_like(x, dtype=torch.float64)
    s = torch.zeros_like(v)
    kept = torch.zeros_like(v[0])
    for t in range(len(x)):
        v[t] = spec.decay * kept + spec.gain * x[t].double()
        s[t] = v[t] >= spec.threshold
        kept = v[t] * (1 - s[t]) if spec.reset == "zero" else v[t] - spec.threshold * s[t] * (spec.reset == "subtract")
    return v, s


@settings(max_examples=40)
@given(
    decay=st.floats(0, 1), threshold=st.floats(0.1, 2), gain=st.floats(0.05, 2), seed=st.integers(0, 999),
    reset=st.sampled_from(["zero", "subtract", "none"]),
)  # fmt: skip
def test_the_membrane_divided_by_the_gain_gives_the_librarys_spikes(decay, threshold, gain, seed, reset):
    spec = NeuronSpec(decay=decay, threshold=threshold, fire=Spike.apply, reset=reset, gain=gain)
    x = currents(seed)
    v, s = library_spikes(spec, x)
    m = dynamics.membrane_of(spec, x, s.float(), EPS, "lif")
    assert torch.allclose(m.double() * gain, v, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"decay": 0.6}, {"threshold": 0.5}, {"gain": 0.8}, {"reset": "subtract"}, {"reset": "none"}], ids=str
)
def test_a_wrong_parameter_is_noticed_by_the_spikes(wrong):
    right = {"decay": 0.5, "threshold": 0.4, "fire": Spike.apply, "reset": "zero", "gain": 1.0}
    x = currents(0, 20)
    _, s = library_spikes(NeuronSpec(**right), x)
    with pytest.raises(ExportError, match=r"^lif: spikes: expected those of v\[t\] = .*; got \d+ of 200 that differ"):
        dynamics.membrane_of(NeuronSpec(**{**right, **wrong}), x, s.float(), EPS, "lif")


@settings(max_examples=40)
@given(
    half=st.floats(0.01, 3), height=st.floats(0.1, 5), threshold=st.floats(-1, 2), gain=st.floats(0.1, 2),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_a_rectangle_is_found_again(half, height, threshold, gain, seed):
    spec = NeuronSpec(decay=0.5, threshold=threshold, fire=lambda u: Width.apply(u, half, height), gain=gain)
    m = currents(seed)
    window = dynamics.Windows(0.0).of(spec, m, "lif")
    assert window.exact
    assert window.interval == pytest.approx(((threshold - half) / gain, (threshold + half) / gain), abs=1e-4, rel=1e-4)
    assert window.height == pytest.approx(height * gain)
    low, high = window.interval
    assert torch.equal(window.mask, (m > low) & (m < high))


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_the_gradient_is_what_autograd_finds_and_a_missing_path_is_noticed(reset, detach):
    spec = NeuronSpec(decay=0.5, threshold=0.3, fire=Spike.apply, reset=reset, gain=0.5, detach_reset=detach)
    x = currents(3).requires_grad_()
    weights, kept, loss, spikes = currents(4), torch.zeros(2, 5), 0.0, []
    for t in range(6):
        v = spec.decay * kept + spec.gain * x[t]
        s = spec.fire(v - spec.threshold)
        back = s.detach() if detach else s
        kept = v * (1 - back) if reset == "zero" else v - spec.threshold * back * (reset == "subtract")
        loss = loss + (weights[t] * s).sum()
        spikes.append(s.detach())
    loss.backward()
    s = torch.stack(spikes)
    m = dynamics.membrane_of(spec, x.detach(), s, EPS, "lif")
    slope = dynamics.derivative(spec, m, "lif")
    assert dynamics.follows_gradient(spec, m, s, weights, x.grad, slope)
    assert not dynamics.follows_gradient(spec, m, s, weights, 1.01 * x.grad, slope)
    other = NeuronSpec(decay=0.5, threshold=0.3, fire=Spike.apply, reset=reset, gain=0.5, detach_reset=not detach)
    assert dynamics.follows_gradient(other, m, s, weights, x.grad, slope) == (reset == "none")
