"""Losses, readouts, reductions: what each does to the loss and to the gradient masks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from h2sim.train.objective import Objective  # noqa: E402

OUTPUT = torch.rand((5, 6, 3), generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def test_cross_entropy_is_of_the_mean_over_time():
    assert Objective().value(OUTPUT, LABELS) == functional.cross_entropy(OUTPUT.mean(0), LABELS)


def test_mean_squared_error_is_against_one_hot_labels():
    wanted = torch.eye(3)[LABELS]
    assert torch.isclose(Objective(loss="mse").value(OUTPUT, LABELS), functional.mse_loss(OUTPUT.mean(0), wanted))


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_the_parts_of_a_batch_add_up_to_its_mean(loss):
    objective = Objective(loss=loss)
    parts = [objective.value(OUTPUT[:, part], LABELS[part], batch=6) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), objective.value(OUTPUT, LABELS))


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_the_sum_is_the_mean_times_the_batch(loss):
    total = Objective(loss=loss, reduction="sum").value(OUTPUT, LABELS, batch=6)
    torch.testing.assert_close(total, 6 * Objective(loss=loss).value(OUTPUT, LABELS))


def test_a_rightly_learnt_sample_has_no_gradient_under_rate_mse_and_has_one_under_cross_entropy():
    spikes = torch.zeros((4, 1, 3))
    spikes[:, 0, 1] = 1  # the right class fires at every timestep, the others never
    for loss, silent in (("mse", True), ("ce", False)):
        leaf = spikes.clone().requires_grad_()
        Objective(loss=loss, readout="rate").value(leaf, torch.tensor([1])).backward()
        assert bool((leaf.grad == 0).all()) is silent


def test_a_trace_is_told_loss_readout_reduction_scale_and_gradient_type():
    objective = Objective("mse", "rate", "sum", 1024.0, "float16")
    assert objective.last_layer_spikes
    assert objective.to_source(8) == {
        "loss": "mean squared error against one-hot",
        "readout": "spiking rate",
        "loss_reduction": "sum over 8",
        "loss_scale": 1024.0,
        "gradient_dtype": "float16",
    }
