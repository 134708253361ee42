"""A norm that computes statistics makes a dense gradient of a sparse one: traces of it say so, others do not."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn import functional

import h2sim
from h2sim import export
from h2sim.errors import ExportError
from tests.helpers.models import TARGETS, Lif, Loop, N, T, exported, machine, mean_loss, spikes, torch

FLATTERED = "the Backward Engine looks better than it would be"


class Doubled(nn.BatchNorm2d):
    """Computes in a way of its own, but by fixed numbers in evaluation mode."""

    def forward(self, x):
        return 2 * super().forward(x)


class Always(nn.BatchNorm2d):
    """Uses the batch's statistics in evaluation mode too."""

    def forward(self, x):
        return functional.batch_norm(x, None, None, self.weight, self.bias, True)


NORMS = {
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), False),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), False),
    "without running statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), True),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), True),
    "LayerNorm": (lambda: nn.LayerNorm([4, 6, 6]), True),
    "RMSNorm": (lambda: nn.RMSNorm([4, 6, 6]), True),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), True),
    "InstanceNorm2d with statistics": (lambda: nn.InstanceNorm2d(4, track_running_stats=True), False),
    "of one's own, fixed": (lambda: Doubled(4), False),
    "of one's own, not fixed": (lambda: Always(4), True),
}


def normed(norm, training):
    """conv - norm - neuron - fc in training or evaluation mode."""
    torch.manual_seed(0)
    return Loop(nn.Conv2d(2, 4, 3, padding=1), norm, Lif(), nn.Flatten(), nn.Linear(144, 3)).train(training)


def lines(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("h2sim: warning:")]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "always"), NORMS.values(), ids=NORMS)
def test_a_norm_that_computes_statistics_is_told(make, always, training, tmp_path, capsys):
    model = normed(make(), training)
    made, written, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    live = training or always
    assert made.meta["source"]["batch_norm"] is live
    assert [FLATTERED in line and "export.trace: net.1: " in line for line in lines(capsys)] == [True] * live
    assert any(FLATTERED in note for note in made.notes) is live
    assert any(FLATTERED in note for note in report.notes) is live
    assert any(FLATTERED in said for said in h2sim.simulate(machine(), written).warnings) is live


def test_a_norm_in_another_mode_than_its_model(tmp_path):
    model = normed(nn.BatchNorm2d(4), True)
    model.net[1].eval()
    made, _, _ = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["source"]["batch_norm"] is False
    assert "net.0: net.1 folded into weight and bias" in made.notes
    model = normed(nn.BatchNorm2d(4), False)
    model.net[1].train()
    made, _, _ = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["source"]["batch_norm"] is True


def test_only_what_is_plain_batch_norm_is_folded(tmp_path):
    """A norm that doubles was folded as if it did not: the trace held weights that no layer had."""
    made, _, _ = exported(normed(Doubled(4), False), spikes(2, 6, 6), tmp_path / "t.npz")
    assert "net.0: weight and bias left out: net.1 is no fixed scale and shift per channel" in made.notes
    assert "net.0.weight" not in made.members


def test_the_step_leaves_running_statistics_as_they_were():
    model = normed(Always(4), True)
    before = [buffer.clone() for buffer in model.buffers()]
    export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, model.buffers(), strict=True))


def test_a_source_of_ones_own_does_not_hide_batch_norm():
    model = normed(nn.BatchNorm2d(4), True)
    made = export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss, source={"batch_norm": False, "epoch": 3})
    assert made.meta["source"]["batch_norm"] is True
    assert made.meta["source"]["epoch"] == 3


class Functional(nn.Module):
    """conv - batch norm as a function - neuron - fc."""

    def __init__(self, *affine):
        super().__init__()
        self.conv, self.lif, self.fc = nn.Conv2d(2, 4, 3, padding=1), Lif(), nn.Linear(144, 3)
        self.gain = nn.Parameter(torch.ones(4)) if affine else None

    def forward(self, x):
        normal = [functional.batch_norm(self.conv(now), None, None, self.gain, training=True) for now in x]
        return sum(self.fc(self.lif(now).flatten(1)) for now in normal)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Functional(), r"lif: reads: .*the operation NativeBatchNorm on the way \(call it as the module nn.BatchN"),
        (Functional("gain"), "gain: weights of Functional: .*got the operation native_batch_norm outside of every one"),
        (
            Loop(nn.Conv2d(2, 4, 3), Lif(), nn.AvgPool2d(4), nn.BatchNorm2d(4), nn.Flatten()),
            "net.3: batch norm: expected to follow a layer of weights where nothing reads it; got it after the average",
        ),
        (
            Loop(nn.Conv2d(2, 4, 3), nn.LocalResponseNorm(2), Lif(), nn.Flatten(), nn.Linear(64, 3)),
            "net.2: reads: .*got the operation Div on the way",
        ),
    ],
)
def test_a_norm_that_no_layer_holds(model, why):
    with pytest.raises(ExportError, match=f"^{why}"):
        export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss)


def test_a_live_norm_is_named_with_others(capsys):
    torch.manual_seed(0)
    blocks = [layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.BatchNorm1d(8), Lif())]
    export.trace(Loop(*blocks, nn.Linear(8, 3)), spikes(8), TARGETS, mean_loss)
    (line,) = lines(capsys)
    assert "net.1, net.4, net.7, net.10 and 2 more: batch norm by the statistics of the batch, as in training" in line


def test_event_counts_as_input_are_told(capsys):
    counts = torch.poisson(torch.full((T, N, 2, 6, 6), 0.3), generator=torch.Generator().manual_seed(0))
    made = export.trace(normed(nn.Identity(), True), counts, TARGETS, mean_loss)
    (line,) = lines(capsys)
    assert "the network input holds whole numbers from 0 to" in line
    assert any("as event counts do" in note for note in made.notes)
    assert made.meta["layers"][0]["kind"] == "encode"
    for usual in (spikes(2, 6, 6), counts + 0.5, counts[:1].expand_as(counts)):
        export.trace(normed(nn.Identity(), True), usual, TARGETS, mean_loss)
    assert not lines(capsys)
