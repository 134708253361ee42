"""The Triton kernels under Triton's interpreter: `TRITON_INTERPRET=1 python -m tests.fused.interpreted`.

A process of its own, because the decorator reads that variable when the kernels are imported.
"""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings

from h2sim.fused import operators
from h2sim.fused.choice import implementation
from h2sim.fused.readers import Conv2d
from h2sim.fused.values import Norm
from h2sim.neuron import RESETS, Neuron
from tests.helpers.fused import cases, flips


def agrees_with_the_reference(examples: int) -> None:
    flipped, spikes = [], []

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(cases(most_steps=18, most_channels=3, most_places=3))
    def run(case):
        flipped.append(flips(case, implementation("triton")))
        spikes.append(case.x.numel())

    run()
    assert sum(flipped) <= max(1, sum(spikes) // 100_000), (sum(flipped), sum(spikes))
    print(f"{len(spikes)} cases, {sum(spikes)} spikes, {sum(flipped)} flipped")


def gives_the_bytes_of_plain_torch() -> None:
    """With membranes in registers (T 6) and in memory (T 19), over more than a tile in each direction."""
    for shape in ((6, 3, 2, 7, 9), (19, 2, 2, 9, 9), (5, 3, 67)):
        for reset in RESETS:
            for norm in (None, Norm(*torch.rand(4, shape[2]))):
                x, grad = torch.randn(shape), torch.randn(shape)
                neuron = Neuron(reset=reset, surrogate="triangle" if reset == "none" else "rectangle")
                found = []
                for name in ("plain", "triton"):
                    dx = grad.clone()
                    implementation(name).backward(x, dx, norm, None, neuron)
                    found.append((implementation(name).spikes(x, norm, neuron), dx))
                assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True)), (shape, neuron)


def sums_are_the_same_bytes_again() -> None:
    x, grad, norm = torch.randn(4, 5, 2, 9, 9), torch.randn(4, 5, 2, 9, 9), Norm(*torch.rand(4, 2))
    made = implementation("triton")
    assert torch.equal(made.sums(x, grad, norm, Neuron()), made.sums(x, grad, norm, Neuron()))
    large = 1000 + 0.01 * x
    torch.testing.assert_close(
        made.moments(large), implementation("plain").moments(large), rtol=2e-4, atol=0, check_dtype=True
    )


def compiles_whole() -> None:
    """torch.compile takes a unit with Triton inside as one operator, and it computes what it does outside."""
    x, weight = torch.randn(3, 2, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 3, 3, requires_grad=True)
    gamma, beta = torch.rand(2, requires_grad=True), torch.rand(2, requires_grad=True)
    neuron, reader = operators.encoded(Neuron()), Conv2d(padding=(1, 1)).encoded()

    def run(x, gamma, beta, weight):
        mean, _, inverse, count = operators.statistics(x.detach(), 1e-5, "triton", False)
        return operators.unit(
            x, gamma, beta, mean, inverse, count, weight, None, neuron, reader, "triton", True, False
        )  # fmt: skip

    inputs = (x, gamma, beta, weight)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found = [torch.autograd.grad(step(*inputs).square().sum(), inputs) for step in (run, compiled)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-7, atol=1e-7)


if __name__ == "__main__":
    torch.manual_seed(0)
    gives_the_bytes_of_plain_torch()
    sums_are_the_same_bytes_again()
    compiles_whole()
    agrees_with_the_reference(25)
