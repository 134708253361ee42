"""Random units, and what an implementation makes of them beside the float64 reference. Flipped spikes count apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from h2sim.fused import reference
from h2sim.fused.statistics import statistics
from h2sim.fused.unit import means_of
from h2sim.fused.values import Implementation, Norm
from h2sim.neuron import RESETS, Neuron

# relative 2-norm of a gradient's deviation; a sum that nearly cancels is compared with its addends' norm
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
EPS = 1e-5
LAYOUTS = ("nchw", "channels last", "fc")


@dataclass(frozen=True)
class Case:
    """A map x (T, N, C, ...), what comes back to its spikes, and a neuron. gamma None: no norm."""

    x: torch.Tensor
    grad: torch.Tensor
    neuron: Neuron
    gamma: torch.Tensor | None
    beta: torch.Tensor | None


@st.composite
def cases(draw: st.DrawFn, most_steps: int = 33, most_channels: int = 5, most_places: int = 5) -> Case:
    """Units of all layouts, types, neurons, with a norm and without."""
    layout = draw(st.sampled_from(LAYOUTS))
    steps, samples = draw(st.integers(1, most_steps)), draw(st.integers(1, 3))
    channels = draw(st.integers(1, most_channels))
    places = () if layout == "fc" else (draw(st.integers(1, most_places)), draw(st.integers(1, most_places)))
    normed = draw(st.booleans()) and steps * samples * (places or (1, 1))[0] > 1
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    dtype = draw(st.sampled_from(list(TOLERANCE)))

    def drawn(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator).to(dtype)
        if layout != "channels last":
            return values
        return values.movedim(2, -1).contiguous().movedim(-1, 2)

    shape = (steps, samples, channels, *places)
    gamma = torch.rand(channels, generator=generator) + 0.5 if normed else None
    beta = torch.rand(channels, generator=generator) - 0.5 if normed else None
    return Case(drawn(*shape), drawn(*shape), draw(neurons()), gamma, beta)


@st.composite
def neurons(draw: st.DrawFn) -> Neuron:
    """Neurons of every kind; the author's own window among them, in which m = 0 lies."""
    return Neuron(
        threshold=draw(st.sampled_from([0.3, 0.25, 1.0])),
        decay=draw(st.sampled_from([0.25, 0.9, 1.0])),
        window=draw(st.sampled_from([(0.05, 0.55), (-0.25, 0.75)])),
        surrogate_scale=draw(st.sampled_from([1.0, 0.7])),
        detach_reset=draw(st.booleans()),
        fires_at=draw(st.sampled_from(["greater_equal", "greater"])),
        reset=draw(st.sampled_from(RESETS)),
        surrogate=draw(st.sampled_from(["rectangle", "triangle"])),
    )


def flips(case: Case, made: Implementation) -> int:
    """Holds spikes and gradients of an implementation to the reference; returns how many spikes differ.

    Each of those stands at the threshold to 1e-5 of the membranes; the gradients of a case with one are not compared.
    """
    norm, count = None, None
    if case.gamma is not None and case.beta is not None:
        found = statistics(case.x, EPS, made, merged=False)
        norm, count = Norm(case.gamma, case.beta, found.mean, found.inverse), found.count
    s = made.spikes(case.x, norm, case.neuron)
    assert s.dtype == case.x.dtype
    assert s.stride() == case.x.stride()
    inputs = [case.x, *(value for value in (case.gamma, case.beta) if value is not None)]
    exact: list[torch.Tensor] = [value.double().requires_grad_() for value in inputs]
    y = exact[0] if norm is None else reference.normalised(exact[0], exact[1], exact[2], EPS)
    wanted, m = reference.spikes(y, case.neuron)
    differ = wanted != s.double()
    if n := int(differ.sum()):
        at_edge = (m[differ] - case.neuron.threshold).abs() < 1e-5 * m.abs().max()
        assert at_edge.all(), m[differ]
        return n
    scale = m.abs().max()
    if any(bool(((m - edge).abs() < 1e-6 * scale).any()) for edge in case.neuron.window):
        return 0  # in float32 the other side of the window's edge may be met
    derivatives = torch.autograd.grad((wanted * case.grad.double()).sum(), exact)
    _near(case, made, norm, count, list(derivatives))
    return 0


def _near(case: Case, made: Implementation, norm: Norm | None, count: Any, wanted: list[Any]) -> None:
    """The gradients of x, gamma and beta are the wanted ones."""
    means, tolerance = None, TOLERANCE[case.x.dtype]
    dx = torch.empty_like(case.x).copy_(case.grad)
    if norm is not None:
        sums = made.sums(case.x, case.grad, norm, case.neuron)
        terms = case.grad.double().norm() * case.neuron.surrogate_scale * 10 / min(0.25, case.neuron.threshold)
        for ours, exact in ((sums[1], wanted[1]), (sums[0], wanted[2])):
            assert (ours.double() - exact).norm() <= 2e-6 * (terms + exact.norm())
        means = means_of(sums, count, merged=False)
    made.backward(case.x, dx, norm, means, case.neuron)
    scale = 1.0 if norm is None else float(norm.scale.abs().max())
    floor = 1e-6 * scale * case.grad.double().norm()  # what remains where the exact gradient cancels
    deviation = (dx.double() - wanted[0]).norm()
    assert deviation <= tolerance * wanted[0].norm() + floor, deviation / wanted[0].norm()
