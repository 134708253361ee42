"""A norm by the statistics of the step is recorded as a norm of a layer; one by fixed numbers is folded."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn import functional

import h2sim
from h2sim import export
from h2sim.errors import ExportError
from h2sim.trace.bits import unpack
from tests.helpers.models import (
    TARGETS,
    Lif,
    Loop,
    N,
    T,
    exported,
    kinds,
    machine,
    mean_loss,
    quantities,
    spikes,
    torch,
)  # fmt: skip


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


CHECKED = {
    "grad_current", "grad_membrane", "current", "spikes", "window", "membrane", "grad is dL/dx != 0", "weight_grad",
}  # fmt: skip
# norms that are no scale and offset by channel of something normalised over axes that a trace knows
OTHERS = ("GroupNorm", "RMSNorm")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_that_computes_statistics_is_recorded_as_one(name, training, tmp_path, capsys):
    make, always = NORMS[name]
    model = normed(make(), training)
    with torch.no_grad():
        for parameter in () if name == "LayerNorm" else model.net[1].parameters():
            parameter.uniform_(0.5, 1.5)
    made, written, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    live = training or always
    assert made.meta["source"]["batch_norm"] is live
    assert made.meta["version"] == (2 if live else 1)
    assert ("norm" in made.meta["layers"][0]) is live
    assert capsys.readouterr().err == ""
    assert not h2sim.simulate(machine(), written).warnings
    if live and name not in OTHERS:
        assert quantities(report)["net.0"] == CHECKED
        assert not report.notes
    if live:
        grad = torch.from_numpy(made.members["net.0.grad_current"])
        assert torch.equal(grad != 0, torch.from_numpy(written_mask(written, "net.0")))


def written_mask(trace, name):
    """dL/dx != 0, bool (T, N, C, H, W)."""
    layer = trace.meta.layer(name)
    return unpack(trace.mask(name, "grad"), layer.neurons).reshape(T, N, *layer.out_chw).astype(bool)


def test_what_a_norm_is_over_is_found_by_its_values(tmp_path):
    """One call a timestep is a statistic a timestep; one call for all of them is one over time; others are told."""
    made, _, _ = exported(normed(nn.BatchNorm2d(4), True), spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["layers"][0]["norm"] == {
        "kind": "batch", "training": True, "over": ["N", "H", "W"], "eps": 1e-5,
    }  # fmt: skip
    made, _, _ = exported(normed(nn.InstanceNorm2d(4), True), spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["layers"][0]["norm"]["over"] == ["H", "W"]
    made, _, report = exported(normed(nn.GroupNorm(2, 4), True), spikes(2, 6, 6), tmp_path / "t.npz")
    said = "net.0: net.1 has no one scale and offset for each channel, or is over other axes than a trace knows: "
    assert said + "the values behind it are not checked" in made.notes
    assert "net.0.norm_weight" not in made.members
    assert "net.0: no norm_weight recorded, or several norms: what is behind the norm not checked" in report.notes


class OfOne(nn.Module):
    """A norm of each channel's one maximum: its statistics say nothing, and those over channels give the same."""

    def __init__(self, groups):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif, self.norm = nn.Conv2d(2, 4, 3), Lif(threshold=0.01), nn.GroupNorm(groups, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        maxima = [functional.adaptive_max_pool2d(self.lif(self.conv(now)), 1) for now in x]
        return sum(self.fc(self.norm(each).flatten(1)) for each in maxima)


@pytest.mark.parametrize(("groups", "over"), [(1, ["C", "H", "W"]), (4, ["H", "W"])])
def test_the_groups_of_a_norm_say_what_its_values_do_not(groups, over, tmp_path):
    made, _, report = exported(OfOne(groups), spikes(2, 6, 6, rate=0.9), tmp_path / "t.npz")
    (norm,) = [layer["norm"] for layer in made.meta["layers"] if layer["kind"] == "norm"]
    assert norm["over"] == over
    assert {"grad_membrane", "weight_grad"} <= quantities(report)["conv"]


class Scaled(nn.BatchNorm2d):
    """tdBN as its paper's code writes it: scaled in its own forward."""

    def forward(self, x):
        return 0.5 * super().forward(x)


def test_a_norm_of_ones_own_is_checked_by_its_scale(tmp_path):
    model = normed(Scaled(4), True)
    with torch.no_grad():
        model.net[1].weight.uniform_(0.5, 1.5)
    made, _, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    ours, theirs = torch.from_numpy(made.members["net.0.norm_weight"]), 0.5 * model.net[1].weight.detach()
    assert torch.allclose(ours, theirs, rtol=1e-4)
    assert quantities(report)["net.0"] == CHECKED


class Between(nn.Module):
    """A norm where a trace has no layer of weights before it: of spikes, of a pool, of a sum."""

    def __init__(self, place):
        super().__init__()
        torch.manual_seed(0)
        self.place, self.norm = place, nn.BatchNorm2d(4)
        self.conv1, self.lif1, self.conv2, self.lif2 = nn.Conv2d(2, 4, 3, padding=1), Lif(), nn.Conv2d(4, 4, 1), Lif()
        self.fc = nn.LazyLinear(3)

    def step(self, x):
        s = self.lif1(self.conv1(x))
        if self.place == "spikes":
            return self.lif2(self.conv2(self.norm(s)))
        if self.place == "pool of spikes":
            return self.lif2(self.conv2(self.norm(functional.max_pool2d(s, 2))))
        if self.place == "pool":
            return self.lif2(self.norm(functional.max_pool2d(self.conv2(s), 2)))
        if self.place == "factor":
            return self.lif2(0.5 * self.norm(self.conv2(s)))
        return self.lif2(self.norm(self.conv2(s) + s))

    def forward(self, x):
        return sum(self.fc(self.step(now).flatten(1)) for now in x) / len(x)


@pytest.mark.parametrize(
    ("place", "layer", "kind"),
    [
        ("spikes", "norm", "norm"),
        ("pool of spikes", "norm", "norm"),
        ("pool", "lif2", "pool"),
        ("sum", "lif2", "add"),
        ("factor", "conv2", "conv"),
    ],
)
def test_a_norm_anywhere_is_recorded_and_checked(place, layer, kind, tmp_path):
    model = Between(place)
    with torch.no_grad():
        model(spikes(2, 6, 6))
        model.norm.weight.uniform_(0.5, 1.5)
        model.norm.bias.uniform_(0, 0.3)
        for lif in (model.lif1, model.lif2):
            lif.reset_mem()
    made, written, report = exported(model, spikes(2, 6, 6, rate=0.5), tmp_path / "t.npz")
    assert kinds(made)[layer][0] == kind
    assert not report.notes
    assert written.mask("conv1", "spikes").any()
    assert {"grad_membrane", "weight_grad"} <= quantities(report)["conv1"]
    if kind == "norm":
        assert {"spikes", "membrane", "weight_grad"} <= quantities(report)["conv2"]
    else:
        assert {"spikes", "membrane", "grad_current"} <= quantities(report)[layer]


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
            Loop(nn.Conv2d(2, 4, 3), Lif(), nn.AvgPool2d(4), nn.BatchNorm2d(4).eval(), nn.Flatten(), nn.Linear(4, 3)),
            "net.3: batch norm: expected to follow a layer of weights, or to be trained; got one by fixed numbers",
        ),
        (
            Loop(nn.Conv2d(2, 4, 3), nn.LocalResponseNorm(2), Lif(), nn.Flatten(), nn.Linear(64, 3)),
            "net.2: reads: .*got a product of net.0 and net.0 on the way",
        ),
    ],
)
def test_a_norm_that_no_layer_holds(model, why):
    with pytest.raises(ExportError, match=f"^{why}"):
        export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss)


def test_live_norms_are_named_together():
    torch.manual_seed(0)
    blocks = [layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.BatchNorm1d(8), Lif())]
    made = export.trace(Loop(*blocks, nn.Linear(8, 3)), spikes(8), TARGETS, mean_loss)
    said = "net.1, net.4, net.7, net.10 and 2 more: by the statistics of the step: recorded as norms of layers"
    assert said in made.notes


def test_event_counts_as_input_are_kept_as_counts(tmp_path):
    counts = torch.poisson(torch.full((T, N, 2, 6, 6), 0.3), generator=torch.Generator().manual_seed(0))
    made, written, report = exported(normed(nn.Identity(), True), counts, tmp_path / "t.npz")
    (note,) = [note for note in made.notes if "as event counts do" in note]
    assert "whole numbers from 0 to 5" in note
    assert "kept as counts from 0 to 7, one pass a bit plane" in note
    assert made.meta["input"] == {"kind": "counts", "most": 7}
    assert made.meta["layers"][0]["kind"] == "conv"
    assert torch.equal(torch.from_numpy(written.input_counts()), counts.to(torch.uint8))
    assert {"spikes", "membrane", "weight_grad"} <= quantities(report)["net.0"]


def test_other_inputs_are_no_counts(tmp_path):
    """Whole numbers that stand still are an image's; anything else is analog, or spikes."""
    counts = torch.poisson(torch.full((T, N, 2, 6, 6), 0.3), generator=torch.Generator().manual_seed(0))
    for usual, kind in ((spikes(2, 6, 6), "conv"), (counts + 0.5, "encode"), (counts[:1].expand_as(counts), "encode")):
        made, _, _ = exported(normed(nn.Identity(), True), usual, tmp_path / "t.npz")
        assert made.meta["layers"][0]["kind"] == kind
        assert "input" not in made.meta
