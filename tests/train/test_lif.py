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
from h2sim.train.lif import Neuron, lif, membrane_gradient, membranes, rounded  # noqa: E402


class _Fire(torch.autograd.Function):
    """The step function with the rectangular surrogate, one timestep."""

    @staticmethod
    def forward(ctx, membrane, neuron):
        ctx.save_for_backward(membrane)
        ctx.neuron = neuron
        return (membrane >= neuron.threshold).to(membrane.dtype)

    @staticmethod
    def backward(ctx, grad):
        (membrane,) = ctx.saved_tensors
        return grad * ctx.neuron.in_window(membrane) * ctx.neuron.surrogate_scale, None


def stepwise_lif(current, neuron):
    """Eq. 2.1-2.3 step by step, differentiated by autograd; returns spikes and the list of membranes."""
    states, spikes = [], []
    for t in range(current.shape[0]):
        membrane = current[t]
        if t:
            last = spikes[-1].detach() if neuron.detach_reset else spikes[-1]
            membrane = membrane + neuron.decay * states[-1] * (1 - last)
        membrane.retain_grad()
        states.append(membrane)
        spikes.append(_Fire.apply(membrane, neuron))
    return torch.stack(spikes), states


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("decay", "scale", "window"), [(0.25, 1.0, (0.05, 0.55)), (0.9, 0.7, (-0.2, 1.1))])
def test_the_fused_neuron_equals_autograd_through_every_timestep(detach_reset, decay, scale, window):
    neuron = Neuron(0.3, decay, window, scale, detach_reset)
    generator = torch.Generator().manual_seed(0)
    current = torch.randn((7, 3, 4, 5, 5), generator=generator, dtype=torch.float64) * 0.4
    weight = torch.randn(current.shape, generator=generator, dtype=torch.float64)
    fused, plain = current.clone().requires_grad_(), current.clone().requires_grad_()
    (lif(fused, neuron) * weight).sum().backward()
    spikes, states = stepwise_lif(plain, neuron)
    (spikes * weight).sum().backward()
    membrane, fired = membranes(current, neuron)
    assert torch.equal(fired, spikes.detach())
    torch.testing.assert_close(membrane, torch.stack(states).detach())
    torch.testing.assert_close(fused.grad, plain.grad)
    torch.testing.assert_close(
        membrane_gradient(weight, membrane, fired, neuron), torch.stack([m.grad for m in states])
    )


@settings(max_examples=40)
@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans(),
    st.sampled_from([0.0, 0.25, 0.9, 1.0]), st.sampled_from([0.3, 1.0]),
)  # fmt: skip
def test_the_kernels_are_the_plain_torch_operations_bit_for_bit(steps, batch, neurons, seed, detach, decay, scale):
    generator = torch.Generator().manual_seed(seed)
    neuron = Neuron(0.3, decay, (0.05, 0.55), scale, detach)
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


def test_a_neuron_survives_its_meta_entry_and_other_resets_are_refused():
    neuron = Neuron(0.2, 0.5, (-0.1, 0.5), 2.0, True)
    assert Neuron.from_meta(neuron.to_meta()) == neuron
    with pytest.raises(NetworkError, match="subtract"):
        Neuron.from_meta({**neuron.to_meta(), "reset": "subtract"})
    with pytest.raises(NetworkError, match=r"neuron\.window: expected low < high; got \[1, 1\]"):
        Neuron(window=(1, 1))
    with pytest.raises(NetworkError, match="neuron: expected finite numbers of float32; got"):
        Neuron(threshold=float("nan"))
