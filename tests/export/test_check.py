"""`check` tells all obstacles of a model at once, or the layers that its trace would have, and leaves it as it was."""

from __future__ import annotations

import pytest
from torch import nn

from h2sim import export
from h2sim.errors import ExportError
from tests.helpers.models import TARGETS, Lif, Loop, N, T, conv_pool_fc, kinds, mean_loss, spikes, torch


class Shuffle(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x)


def obstructed():
    torch.manual_seed(0)
    return Loop(
        nn.Conv2d(2, 4, 3, dilation=2), Lif(), nn.ConvTranspose2d(4, 4, 3), Lif(), Shuffle(), nn.Conv2d(4, 4, 1),
        Lif(said_decay=0.9), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


WHERE = ["net.0", "net.2", "net.6", "net.5"]


def test_every_obstacle_is_told_with_its_reason_and_what_would_do():
    report = export.check(obstructed(), spikes(2, 6, 6))
    assert not report.ok
    assert [each.module for each in report.obstacles] == WHERE
    assert report.layers == ()
    first, second, *_ = report.obstacles
    assert first.why == "Conv2d: cannot be exported: dilation (2, 2); the machine's windows are dense (1, 1)"
    assert first.rewrite == "set dilation=1"
    assert second.rewrite == "enlarge with nn.Upsample instead"
    text = str(report)
    assert text.startswith("Loop: cannot be exported: 4 obstacles\n")
    assert max(map(len, text.splitlines())) <= 120
    for each in report.obstacles:
        assert each.module in text


def test_the_error_of_trace_has_the_same_list():
    report = export.check(obstructed(), spikes(2, 6, 6))
    with pytest.raises(ExportError) as caught:
        export.trace(obstructed(), spikes(2, 6, 6), TARGETS, mean_loss)
    assert caught.value.lines == tuple(map(str, report.obstacles))


def test_a_model_without_obstacles_has_the_layers_of_its_trace():
    model = conv_pool_fc()
    report = export.check(model, spikes(2, 6, 6), network="mine")
    made = export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss)
    assert report.ok
    assert [layer["name"] for layer in report.layers] == list(kinds(made))
    assert report.reads == {"net.0": "spikes", "net.2": "spikes", "net.6": "spikes"}
    assert str(report).startswith("mine: can be exported: 4 layers (2 conv, 1 pool, 1 fc)\n")


def test_what_weights_read_is_in_words():
    torch.manual_seed(0)
    model = Loop(
        nn.Conv2d(2, 4, 3), Lif(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), Lif(), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip
    report = export.check(model, spikes(2, 6, 6))
    assert report.reads == {
        "net.0": "spikes", "net.3": "counts 0..4, 3 planes", "net.4": "analog", "net.7": "spikes",
    }  # fmt: skip


def test_the_model_is_left_as_it_was_found():
    model = conv_pool_fc()
    model(spikes(2, 6, 6))
    kept, weights = model.net[1].kept, [parameter.clone() for parameter in model.parameters()]
    export.check(model, spikes(2, 6, 6))
    assert model.net[1].kept is kept
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_weights_that_no_layer_shows_are_an_obstacle_without_a_loss():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif, self.w = nn.Linear(8, 8), Lif(), nn.Parameter(torch.ones(3, 8))

        def forward(self, x):
            return sum(self.lif(self.fc(now)) @ self.w.t() for now in x)

    (obstacle,) = export.check(Loose(), spikes(8)).obstacles
    assert obstacle.module == "w"
    assert "the operation mm outside of every one" in obstacle.why


def test_products_of_counts_are_an_obstacle_by_name():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif1, self.fc2, self.lif2, self.out = (
                nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif(), nn.Linear(8, 3),
            )  # fmt: skip

        def forward(self, x):
            outputs = []
            for now in x:
                a = self.lif1(self.fc1(now))
                b = self.lif2(self.fc2(a))
                outputs.append(self.out((a + b) * b))
            return sum(outputs)

    (obstacle,) = export.check(Product(), spikes(8)).obstacles
    assert obstacle.module == "out"
    assert "got a product of lif1.sum and lif2 on the way" in obstacle.why
    assert "attention, which is planned" in obstacle.rewrite


def test_what_makes_an_answer_pointless_is_raised():
    with pytest.raises(ExportError, match=r"^model: neurons: expected at least one that is called"):
        export.check(nn.Linear(8, 3), spikes(8))
    with pytest.raises(ExportError, match=r"^model: timesteps: expected 9; got 4"):
        export.check(conv_pool_fc(), spikes(2, 6, 6), timesteps=9)


def test_a_crash_behind_an_obstacle_does_not_hide_it():
    """What a refused module sends may not be what the next one takes."""
    model = Loop(nn.Conv2d(2, 4, 3), Lif(), nn.LSTM(4, 4), nn.Linear(4, 3))
    with pytest.raises(ExportError, match=r"^net.2: LSTM: cannot be exported: recurrent connections"):
        export.check(model, spikes(2, 6, 6))


def test_sizes_are_those_of_the_inputs():
    report = export.check(conv_pool_fc(), spikes(2, 6, 6))
    assert report.layers[0]["in_shape"] == [2, 6, 6]
    assert (T, N) == (4, 3)
