"""The neuron: autograd step by step, the plain fused form and the compiled kernels agree."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from h2sim.errors import NetworkError  # noqa: E402
from h2sim.export.record import LayerRecord  # noqa: E402
from h2sim.train import lif as lif_module  # noqa: E402
from h2sim.train.lif import RESETS, Neuron, lif, membrane_gradient, membranes, rounded  # noqa: E402


class _Fire(torch.autograd.Function):
    """The step function with its surrogate, one timestep; m and th_f may both have a gradient."""

    @staticmethod
    def forward(ctx, membrane, threshold, neuron):
        ctx.save_for_backward(membrane, threshold)
        ctx.neuron = neuron
        return (membrane > threshold if neuron.fires_at == "greater" else membrane >= threshold).to(membrane.dtype)

    @staticmethod
    def backward(ctx, grad):
        membrane, threshold = ctx.saved_tensors
        if ctx.neuron.surrogate == "rectangle":
            low, high = ctx.neuron.window
            by_membrane = ((membrane > low) & (membrane < high)) * ctx.neuron.surrogate_scale
            return grad * by_membrane, -(grad * by_membrane).sum(), None
        z = membrane / threshold - 1
        height = ctx.neuron.surrogate_scale * (1 - z.abs()).clamp_min(0)
        return grad * height / threshold, -(grad * height * membrane / threshold**2).sum(), None


def stepwise_lif(current, neuron, threshold=None, decay=None):
    """Eq. 2.1-2.3 step by step, differentiated by autograd; returns spikes and the list of membranes."""
    v = torch.tensor(neuron.threshold, dtype=current.dtype) if threshold is None else threshold
    a = torch.tensor(neuron.decay, dtype=current.dtype) if decay is None else decay
    states, spikes = [], []
    for t in range(current.shape[0]):
        membrane = current[t]
        if t:
            before, last = states[-1], spikes[-1].detach() if neuron.detach_reset else spikes[-1]
            kept = {"zero": before * (1 - last), "subtract": before - v * last}.get(neuron.reset, before)
            membrane = membrane + a * kept
            if neuron.reset == "subtract-after-leak":
                membrane = membrane - v * last
        membrane.retain_grad()
        states.append(membrane)
        spikes.append(_Fire.apply(membrane, v, neuron))
    return torch.stack(spikes), states


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("decay", "scale", "window"), [(0.25, 1.0, (0.05, 0.55)), (0.9, 0.7, (-0.2, 1.1))])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", ["rectangle", "triangle"])
def test_the_fused_neuron_equals_autograd_through_every_timestep(detach_reset, decay, scale, window, reset, surrogate):
    neuron = Neuron(0.3, decay, window, scale, detach_reset, "greater_equal", reset, surrogate)
    generator = torch.Generator().manual_seed(0)
    current = torch.randn((7, 3, 4, 5, 5), generator=generator, dtype=torch.float64) * 0.4
    weight = torch.randn(current.shape, generator=generator, dtype=torch.float64)
    fused, plain = current.clone().requires_grad_(), current.clone().requires_grad_()
    ours, theirs = ([torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in (0.3, decay)] for _ in range(2))
    (lif(fused, neuron, threshold=ours[0], decay=ours[1]) * weight).sum().backward()
    spikes, states = stepwise_lif(plain, neuron, *theirs)
    (spikes * weight).sum().backward()
    membrane, fired = membranes(current, neuron)
    assert torch.equal(fired, spikes.detach())
    torch.testing.assert_close(membrane, torch.stack(states).detach())
    torch.testing.assert_close(fused.grad, plain.grad)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)
    torch.testing.assert_close(
        membrane_gradient(weight, membrane, fired, neuron), torch.stack([m.grad for m in states])
    )


DIET = {"decay": 0.9, "surrogate_scale": 0.3, "surrogate": "triangle", "fires_at": "greater", "threshold": 0.8}
UNIT = [  # s11 section 7: neuron, currents, dL/do; membranes, spikes; dL/dI, dL/dv, dL/dlam
    (DIET | {"reset": "subtract", "detach_reset": True}, (0.6, 0.5, 0.7), (1, 1, 1), (0.6, 1.04, 0.916), (0, 1, 1),
     (0.77720625, 0.5510625, 0.320625), -1.207865625, 0.4075875),
    (DIET | {"reset": "subtract"}, (0.6, 0.5, 0.7), (1, 1, 1), (0.6, 1.04, 0.916), (0, 1, 1),
     (0.6233489015625, 0.490464375, 0.320625), -1.0545987855, 0.371228625),
    (DIET | {"reset": "subtract-after-leak", "detach_reset": True}, (0.6, 0.5, 0.7), (1, 1, 1), (0.6, 1.04, 0.836),
     (0, 1, 1), (0.80758125, 0.5848125, 0.358125), -1.284553125, 0.7233375),
    (DIET | {"reset": "subtract", "detach_reset": True, "decay": 1.0}, (1, 0.3, 0.2, 0.9), (1, -1, 2, 1),
     (1, 0.5, 0.7, 1.6), (1, 0, 0, 1), (0.703125, 0.421875, 0.65625, 0), -1.201171875, 0.4125),
    (DIET | {"reset": "subtract-after-leak", "detach_reset": True, "decay": 1.0}, (1, 0.3, 0.2, 0.9), (1, -1, 2, 1),
     (1, 0.5, 0.7, 1.6), (1, 0, 0, 1), (0.703125, 0.421875, 0.65625, 0), -1.201171875, 0.75),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "current", "weights", "membrane", "spikes", "by_current", "by_v", "by_lam"), UNIT)
def test_one_neuron_worked_out_by_hand(fields, current, weights, membrane, spikes, by_current, by_v, by_lam):
    def column(numbers):
        return torch.tensor(numbers, dtype=torch.float64).view(-1, 1, 1)

    neuron, leaf = Neuron(**fields), column(current).requires_grad_()
    v, lam = (torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in (neuron.threshold, neuron.decay))
    fired = lif(leaf, neuron, threshold=v, decay=lam)
    (fired * column(weights)).sum().backward()
    torch.testing.assert_close(membranes(column(current), neuron)[0], column(membrane))
    assert torch.equal(fired.detach(), column(spikes))
    torch.testing.assert_close(leaf.grad, column(by_current), rtol=0, atol=1e-9)
    torch.testing.assert_close(v.grad, torch.tensor(by_v, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(lam.grad, torch.tensor(by_lam, dtype=torch.float64), rtol=0, atol=1e-9)


IF = [  # s10 section 6: I, threshold, T; steps of spikes and last membrane after its reset, strict and not
    (0.25, 1, 8, (5,), 1, (4, 8), 0), (0.5, 1, 6, (3, 5), 1, (2, 4, 6), 0),
    (0.75, 1, 8, (2, 3, 5, 6, 7), 1, (2, 3, 4, 6, 7, 8), 0), (1.5, 1, 4, (1, 2, 3, 4), 2, (1, 2, 3, 4), 2),
    (-0.25, 1, 4, (), -1, (), -1), (0.375, 0.75, 6, (3, 5), 0.75, (2, 4, 6), 0),
]  # fmt: skip


@pytest.mark.parametrize(("current", "threshold", "steps", "strict", "v_strict", "loose", "v_loose"), IF)
@pytest.mark.parametrize("reset", ["subtract", "subtract-after-leak"])
def test_an_if_neuron_of_a_constant_current(current, threshold, steps, strict, v_strict, loose, v_loose, reset):
    for fires_at, wanted, left in (("greater", strict, v_strict), ("greater_equal", loose, v_loose)):
        neuron = Neuron(threshold, 1.0, reset=reset, fires_at=fires_at)
        membrane, spikes = lif_module.compiled_membranes(torch.full((steps, 1, 1), current), neuron)
        assert tuple((spikes.flatten().nonzero().flatten() + 1).tolist()) == wanted
        assert float(membrane[-1] - threshold * spikes[-1]) == left
    rate = min(max(int(current * steps // threshold), 0), steps)
    assert len(loose) == rate  # eq. 6 of s10, for non-strict firing


@settings(max_examples=150)
@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans(),
    st.sampled_from([0.0, 0.25, 0.9, 1.0]), st.sampled_from([0.3, 1.0]), st.sampled_from(RESETS),
    st.sampled_from(["rectangle", "triangle"]), st.sampled_from(["greater", "greater_equal"]),
)  # fmt: skip
def test_the_kernels_are_the_plain_torch_operations_bit_for_bit(
    steps, batch, neurons, seed, detach, decay, scale, reset, surrogate, fires_at
):
    generator = torch.Generator().manual_seed(seed)
    neuron = Neuron(0.3, decay, (0.05, 0.55), scale, detach, fires_at, reset, surrogate)
    current = torch.randn((steps, batch, neurons), generator=generator) * 0.5
    grad_spikes = torch.randn(current.shape, generator=generator)
    membrane, spikes = membranes(current, neuron)
    fast_membrane, fast_spikes = lif_module.compiled_membranes(current, neuron)
    assert torch.equal(membrane, fast_membrane)
    assert torch.equal(spikes, fast_spikes)
    plain = membrane_gradient(grad_spikes, membrane, spikes, neuron)
    assert torch.equal(plain, lif_module.compiled_membrane_gradient(grad_spikes, membrane, spikes, neuron))


def test_a_record_holds_the_packed_masks_and_the_values():
    neuron, record = Neuron(), LayerRecord()
    current = torch.rand((3, 2, 5), generator=torch.Generator().manual_seed(1)).requires_grad_()
    lif(current, neuron, record).square().sum().backward()
    membrane, spikes = membranes(current.detach(), neuron)
    bits = {name: np.unpackbits(getattr(record, name), axis=2)[..., :5] for name in ("spikes", "window", "grad")}
    assert np.array_equal(bits["spikes"], spikes.numpy())
    assert np.array_equal(bits["window"], neuron.in_window(membrane).numpy())
    assert np.array_equal(bits["grad"], current.grad.numpy() != 0)
    assert np.array_equal(record.membrane, membrane.numpy().astype(np.float16))
    assert np.array_equal(record.grad_membrane, current.grad.numpy())


def test_a_record_without_values_keeps_the_masks_only():
    record = LayerRecord(values=False)
    current = torch.rand((3, 2, 5)).requires_grad_()
    lif(current, Neuron(), record).sum().backward()
    assert record.spikes is not None
    assert record.grad is not None
    assert record.membrane is None
    assert record.grad_membrane is None


def test_detaching_the_reset_changes_the_gradient_and_not_the_spikes():
    current = torch.linspace(0.1, 0.5, 20, dtype=torch.float64).reshape(5, 1, 4)
    results = []
    for detach_reset in (False, True):
        leaf = current.clone().requires_grad_()
        spikes = lif(leaf, Neuron(detach_reset=detach_reset))
        spikes.sum().backward()
        results.append((spikes.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.equal(results[0][1], results[1][1])


def test_float16_gradients_underflow_and_flushing_drops_the_subnormals_too():
    grad = torch.tensor([1.0, 3e-5, 2e-8, -3e-5, 1 / 3])
    assert torch.equal(rounded(grad, "float32"), grad)
    assert torch.equal(rounded(grad, "float16"), grad.half().float())
    assert rounded(grad, "float16")[2] == 0
    assert rounded(grad, "float16-flush").tolist() == [1.0, 0.0, 0.0, 0.0, float(grad[4].half())]


def test_gradients_are_rounded_at_every_timestep():
    neuron = Neuron(decay=1.0, window=(-1.0, 0.29))  # nothing fires: dm[t] = dm[t+1] + ds[t]
    current = torch.zeros((3, 1, 1)).requires_grad_()
    (lif(current, neuron, None, "float16") * torch.tensor([1.0, 2.0**-11, 1.0]).view(3, 1, 1)).sum().backward()
    assert current.grad.flatten().tolist() == [2.0, 1.0, 1.0]  # 1 + 2^-11 is a tie: even


@pytest.mark.parametrize("fields", [{}, {"reset": "subtract"}, {"reset": "none", "fires_at": "greater"}, DIET])
def test_a_neuron_survives_its_meta_entry(fields):
    neuron = Neuron(**{"threshold": 0.2, "decay": 0.5, "window": (-0.1, 0.5), "detach_reset": True, **fields})
    assert Neuron.from_meta(neuron.to_meta()) == neuron


def test_a_neuron_that_cannot_be_is_refused():
    with pytest.raises(NetworkError, match=r"neuron\.reset: expected one of zero, subtract, .*; got 'subtrct'"):
        Neuron.from_meta({**Neuron().to_meta(), "reset": "subtrct"})
    with pytest.raises(NetworkError, match=r"neuron\.threshold: expected a number above 0 for a triangle; got 0"):
        Neuron(threshold=0, surrogate="triangle")
    with pytest.raises(NetworkError, match=r"neuron\.window: expected low < high; got \[1, 1\]"):
        Neuron(window=(1, 1))
    with pytest.raises(NetworkError, match="neuron: expected finite numbers of float32; got"):
        Neuron(threshold=float("nan"))
