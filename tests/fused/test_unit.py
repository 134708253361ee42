"""The unit: its reference's derivatives are exact, and every implementation agrees with the reference."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402

from h2sim.fused import plain, reference, unit  # noqa: E402
from h2sim.fused.choice import chosen, implementation  # noqa: E402
from h2sim.fused.readers import AvgPool2d, Conv2d, Linear, Reader  # noqa: E402
from h2sim.fused.values import Norm, by_channel  # noqa: E402
from h2sim.neuron import RESETS, Neuron  # noqa: E402
from tests.helpers.fused import cases, flips  # noqa: E402

SURROGATES = ("rectangle", "triangle")


class Ramp(Neuron):
    """A neuron whose step is the ramp of which the surrogate is the derivative."""

    def fires(self, membrane):
        return reference.risen(membrane, self)


def doubles(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("reset", RESETS)
def test_the_equations_of_the_backward_pass_are_the_derivatives_of_the_ramp(reset, surrogate):
    neuron = Neuron(reset=reset, surrogate=surrogate, surrogate_scale=0.8, decay=0.6)

    def run(x, gamma, beta):
        return reference.spikes(reference.normalised(x, gamma, beta, 1e-5), neuron, ramp=True)[0]

    assert torch.autograd.gradcheck(run, (doubles(4, 2, 3, 2), doubles(3), doubles(3)))


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("reset", RESETS)
def test_the_backward_pass_written_by_hand_is_the_derivative_of_the_ramp(reset, surrogate):
    """With the ramp in the step's place: dx, dgamma and dbeta of plain.py against autograd, to float64's precision."""
    neuron = Ramp(reset=reset, surrogate=surrogate, surrogate_scale=0.8, decay=0.6)
    x, gamma, beta, grad = doubles(5, 3, 4, 2, 2), doubles(4), doubles(4), torch.randn(5, 3, 4, 2, 2).double()
    (reference.spikes(reference.normalised(x, gamma, beta, 1e-5), neuron, ramp=True)[0] * grad).sum().backward()

    made, data = plain.Plain(), x.detach()
    moments = made.moments(data)
    count = torch.tensor([data.numel() / 4]).double()
    norm = Norm(gamma.detach(), beta.detach(), moments[0], torch.rsqrt(moments[1] / count + 1e-5))
    dx = grad.clone()
    sums = made.sums(data, dx, norm, neuron)
    made.backward(data, dx, norm, unit.means_of(sums, count, merged=False), neuron)
    for ours, exact in ((dx, x.grad), (sums[1], gamma.grad), (sums[0], beta.grad)):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "numba"])
def test_an_implementation_agrees_with_the_reference(name):
    flipped, spikes = [], []

    @settings(max_examples=150)
    @given(cases())
    def run(case):
        flipped.append(flips(case, implementation(name)))
        spikes.append(case.x.numel())

    run()
    assert sum(flipped) <= max(1, sum(spikes) // 100_000)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(6, 3, 5, 4, 7), (9, 2, 33)])
def test_numba_gives_the_bytes_of_plain_torch(shape, reset, normed):
    x, grad, neuron = torch.randn(shape), torch.randn(shape), Neuron(reset=reset, fires_at="greater")
    norm = Norm(*torch.rand(4, shape[2])) if normed else None
    found = []
    for name in ("plain", "numba"):
        dx = grad.clone()
        implementation(name).backward(x, dx, norm, None, neuron)
        found.append((implementation(name).spikes(x, norm, neuron), dx))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["plain", "numba"])
def test_statistics_hold_where_the_deviation_is_small_beside_the_mean(name):
    x = 1000 + 0.01 * torch.randn(4, 8, 3, 9, 9)
    exact = x.double().movedim(2, 0).flatten(1)
    mean, squares = implementation(name).moments(x)
    torch.testing.assert_close(mean, exact.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(squares, (exact - exact.mean(1, keepdim=True)).square().sum(1), rtol=1e-6, atol=0)


READERS = [
    (Conv2d(padding=(1, 1), stride=(2, 1)), (6, 4, 3, 3)),
    (Conv2d(groups=2), (4, 2, 2, 2)),
    (Linear(), (7, 4 * 6 * 6)),
    (AvgPool2d((2, 2), (2, 2)), None),
    (Reader(), None),
]


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(("reader", "shape"), READERS, ids=lambda value: getattr(value, "kind", ""))
def test_a_unit_is_its_parts_one_after_another(reader, shape, sliced, monkeypatch):
    """Against autograd through fire(), the reader's own torch function, and the norm, in float64."""
    monkeypatch.setattr(unit, "SLICE_BYTES", 3 * 4 * 36 * 8 * 2)  # two of the three samples
    neuron = Neuron()
    x, gamma, beta = doubles(3, 3, 4, 6, 6), doubles(4), doubles(4)
    weight, bias = (doubles(*shape), doubles(shape[0])) if shape else (None, None)
    out = reader(reference.spikes(reference.normalised(x, gamma, beta, 1e-5), neuron)[0], weight, bias)
    grad = torch.randn_like(out)
    (out * grad).sum().backward()

    made = plain.Plain()
    mean, squares = made.moments(x.detach())
    count = torch.tensor([3 * 3 * 36.0]).double()
    norm = Norm(gamma.detach(), beta.detach(), mean, torch.rsqrt(squares / count + 1e-5))
    given_ = unit.Parameters(norm, count, *(None if p is None else p.detach() for p in (weight, bias)))
    how = unit.Unit(neuron, reader, made, sliced)
    assert len(list(unit.slices(how, x, None))) == (2 if sliced and reader.kind != "none" else 1)
    torch.testing.assert_close(unit.forward(how, x.detach(), given_), out.detach())
    before = grad.clone()
    found = unit.backward(how, grad, x.detach(), given_)
    assert torch.equal(grad, before)  # autograd's own gradient is never written over
    pairs = [(found.x, x), (found.gamma, gamma), (found.beta, beta), (found.weight, weight), (found.bias, bias)]
    for ours, exact in pairs:
        assert (ours is None) == (exact is None)
        if exact is not None:
            torch.testing.assert_close(ours, exact.grad)


def test_a_static_input_is_read_without_copies_of_its_timesteps():
    once = torch.randn(1, 2, 3, 4, 4)
    for name in ("plain", "numba"):
        made = implementation(name)
        assert torch.equal(made.spikes(once.expand(5, -1, -1, -1, -1), None, Neuron()),
                           made.spikes(once.repeat(5, 1, 1, 1, 1), None, Neuron()))  # fmt: skip


def test_fixed_statistics_pass_the_gradient_times_the_scale():
    x, grad = torch.randn(4, 2, 3, 5), torch.randn(4, 2, 3, 5)
    norm = Norm(*torch.rand(4, 3))
    y = (x - by_channel(norm.mean, x)) * by_channel(norm.scale, x) + by_channel(norm.beta, x)
    for name in ("plain", "numba"):
        dx, dy = grad.clone(), grad.clone()
        implementation(name).backward(x, dx, norm, None, Neuron())
        implementation(name).backward(y, dy, None, None, Neuron())
        torch.testing.assert_close(dx, dy * by_channel(norm.scale, x))


def test_a_second_run_has_the_same_bytes():
    x, grad, norm = torch.randn(7, 3, 5, 8, 8), torch.randn(7, 3, 5, 8, 8), Norm(*torch.rand(4, 5))
    for name in ("plain", "numba"):
        first, second = (implementation(name).sums(x, grad, norm, Neuron()) for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "x", "said"),
    [
        ("fast", torch.zeros(1), "implementation: expected one of auto, plain, numba, triton; got 'fast'"),
        ("numba", torch.zeros(1).double(), "expected x in float32, float16 or bfloat16; got torch.float64"),
        ("numba", torch.zeros(1, device="meta"), "expected x on the CPU; got meta"),
    ],
)
def test_an_implementation_that_cannot_take_a_map_says_so(name, x, said):
    with pytest.raises(ValueError, match=said):
        chosen(name, x)


def test_readers_pass_through_their_text():
    from h2sim.fused.readers import decoded

    for reader, _ in READERS:
        assert decoded(reader.encoded()) == reader
        assert dataclasses.is_dataclass(reader)
