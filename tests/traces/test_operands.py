"""Derived maps against torch: values s * k, and where a gradient is needed, on random networks."""

from __future__ import annotations

import numpy as np
import pytest

from h2sim.trace.derived import Derived
from tests.helpers.operands import draw, in_torch, made_of

torch = pytest.importorskip("torch")


def scaled(derived: Derived, name: str) -> np.ndarray:
    scales = np.array([float(s) for s in derived.operands[name].scales])
    return derived.counts(name) * scales.reshape(-1, 1, 1)


@pytest.mark.parametrize("seed", range(120))
def test_counts_times_scales_are_the_map_and_never_above_the_most(seed, tmp_path):
    drawn = draw(seed)
    derived, (maps, _) = Derived(drawn.trace(tmp_path)), in_torch(drawn)
    seen = 0
    for name in drawn.shapes:
        operand = derived.operands[name]
        assert (operand.kind == "analog") == (name in drawn.analog)
        if operand.kind == "analog":
            continue
        seen += 1
        k = derived.counts(name)
        assert 0 <= k.min() <= k.max() <= operand.most
        np.testing.assert_allclose(scaled(derived, name), maps[name].detach().numpy(), rtol=1e-12)
    assert seen


@pytest.mark.parametrize("seed", range(120))
def test_needed_is_where_torch_s_jacobian_is_not_zero(seed, tmp_path):
    drawn = draw(seed)
    derived, (maps, leaves) = Derived(drawn.trace(tmp_path)), in_torch(drawn)
    for name in drawn.shapes:
        y = maps[name]
        expected = np.zeros(y.numel(), bool)
        if y.requires_grad:
            rows = torch.eye(y.numel(), dtype=torch.float64).reshape(-1, *y.shape)
            parts = torch.autograd.grad(
                y, list(leaves.values()), rows, is_grads_batched=True, retain_graph=True, allow_unused=True
            )
            for part in parts:
                if part is not None:
                    expected |= (part != 0).reshape(y.numel(), -1).any(1).numpy()
        np.testing.assert_array_equal(derived.needed(name).ravel(), expected, err_msg=name)


@pytest.mark.parametrize("seed", range(60))
def test_pairs_are_the_partial_derivatives_that_go_on_to_what_needs_them(seed, tmp_path):
    drawn = draw(seed)
    derived, (maps, _) = Derived(drawn.trace(tmp_path)), in_torch(drawn)
    seen = 0
    for entry in drawn.layers:
        name = entry["name"]
        if not derived.meta.layer(name).is_map:
            continue
        inputs = [maps[source].detach().clone().requires_grad_() for source in entry["inputs"]]
        y = made_of(drawn, entry, inputs)
        rows = torch.eye(y.numel(), dtype=torch.float64).reshape(-1, *y.shape)
        parts = torch.autograd.grad(y, inputs, rows, is_grads_batched=True)
        through = sum(
            int(((part != 0).numpy() & derived.needed(source)).sum())
            for source, part in zip(entry["inputs"], parts, strict=True)
        )
        assert derived.pairs(name) == through, name
        seen += through
    assert seen or not any(derived.needed(layer.name).any() for layer in derived.meta.layers if layer.is_map)
