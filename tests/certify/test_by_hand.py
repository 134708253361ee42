"""Bounds and gradients of small cases, digit by digit (float64; fires at m >= th; th = alpha = 0.25)."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from h2sim.certify import bounds, crown, ibp  # noqa: E402
from h2sim.certify.certificate import margin_rows  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from tests.certify.nets import fc  # noqa: E402
from tests.helpers.tiny import tiny_layers, window  # noqa: E402

NEURON = Neuron(0.25, 0.25, (-0.25, 0.75))


def network(weights, biases, neuron=NEURON):
    """Fully connected layers of these weights and biases."""
    layers, source = [], "input"
    for number, weight in enumerate(weights):
        layers.append(fc(f"fc{number}", source, len(weight[0]), len(weight)))
        source = f"fc{number}"
    made = SpikingNetwork(layers, neuron, torch.Generator()).double()
    with torch.no_grad():
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            made.weights[f"fc{number}"].copy_(torch.tensor(weight, dtype=torch.float64))
            made.biases[f"fc{number}"].copy_(torch.tensor(bias, dtype=torch.float64))
    return made


def box(upper, lower):
    """Bounds of spikes (T', 1, F), lower first."""
    return tuple(torch.tensor(side, dtype=torch.float64).unsqueeze(1) for side in (lower, upper))


def margins_of(made, inputs, row):
    layers = ibp.spread(made, inputs, len(inputs[0]))
    rows = torch.tensor([[row]], dtype=torch.float64)
    last = layers[made.layers[-1]["name"]]
    return layers, ibp.margins(last, rows), crown.margins(made, layers, inputs, rows)


CASES = {
    "A": ([[[0.5]]], [[0.0]], [[1]], [[0]], [-1], -1, -1),
    "B": ([[[0.8]]], [[0.05]], [[1]], [[0]], [1], 0, -1 / 3),
    "C": ([[[0.5, -0.3], [0.2, 0.4]]], [[0, 0.1]], [[1, 1], [1, 0]], [[1, 0], [0, 0]], [1, -1], -1, -0.904),
    "D": ([[[0.6, -0.2], [0.3, 0.3]], [[0.7, -0.4], [-0.1, 0.5]]], [[0.1, -0.1], [0, 0.05]],
          [[1, 1], [1, 1]], [[1, 0], [0, 1]], [1, -1], -0.5, -0.8333333),
}  # fmt: skip


def case(name):
    weights, biases, upper, lower, row, by_ibp, by_crown = CASES[name]
    return network(weights, biases), box(upper, lower), row, by_ibp, by_crown


@pytest.mark.parametrize("name", CASES)
def test_margins(name):
    made, inputs, row, by_ibp, by_crown = case(name)
    _, ours_ibp, ours_crown = margins_of(made, inputs, row)
    assert ours_ibp.item() == pytest.approx(by_ibp, abs=1e-7)
    assert ours_crown.item() == pytest.approx(by_crown, abs=1e-7)


def assert_layer(layer, m_upper, m_lower, s_upper=None, s_lower=None):
    for ours, theirs in ((layer.membrane_upper, m_upper), (layer.membrane_lower, m_lower),
                         (layer.spike_upper, s_upper), (layer.spike_lower, s_lower)):  # fmt: skip
        if theirs is not None:
            torch.testing.assert_close(ours[:, 0], torch.tensor(theirs, dtype=torch.float64), atol=1e-12, rtol=0)


def test_membranes_and_lines_of_case_b():
    made, inputs, row, *_ = case("B")
    layer = margins_of(made, inputs, row)[0]["fc0"]
    assert_layer(layer, [[0.85]], [[0.05]])
    lines = crown.sloped(layer, NEURON)
    found = [x.item() for x in (lines.slope_upper, lines.constant_upper, lines.slope_lower, lines.constant_lower)]
    assert found == pytest.approx([0, 1, 1.666667, -0.416667], abs=1e-6)


def test_every_step_of_case_c():
    made, inputs, row, *_ = case("C")
    layer = margins_of(made, inputs, row)[0]["fc0"]
    assert_layer(layer, [[0.5, 0.7], [0.5625, 0.3]], [[0.2, 0.3], [0, 0.1]], [[1, 1], [1, 1]], [[0.0, 1], [0, 0]])
    lines = crown.sloped(layer, NEURON)
    expected = {
        "slope_upper": [[0, 0], [0, 6.666667]], "constant_upper": [[1, 1], [1, -0.666667]],
        "slope_lower": [[4, 0], [3.2, 0]], "constant_lower": [[-1, 1], [-0.8, 0]],
    }  # fmt: skip
    for name, values in expected.items():
        ours = getattr(lines, name)[:, 0]
        torch.testing.assert_close(ours, torch.tensor(values, dtype=torch.float64), atol=1e-6, rtol=0)
    sent = torch.tensor([0.5, -0.5], dtype=torch.float64).expand(2, 1, 1, 2)
    on_currents, constant = crown._through_neuron(layer, NEURON, sent, crown.sloped)
    torch.testing.assert_close(
        on_currents[:, 0, 0], torch.tensor([[1.68, 0], [1.6, -3.333333]]).double(), atol=1e-6, rtol=0
    )
    below = on_currents[:, 0, 0] @ made.weights["fc0"]
    torch.testing.assert_close(below, torch.tensor([[0.84, -0.504], [0.133333, -1.813333]]).double(), atol=1e-6, rtol=0)
    with_bias = constant.item() + (on_currents[:, 0, 0] @ made.biases["fc0"]).sum().item()
    assert with_bias == pytest.approx(-1.24)


def test_both_layers_of_case_d():
    made, inputs, row, *_ = case("D")
    layers = margins_of(made, inputs, row)[0]
    assert_layer(layers["fc0"], [[0.7, 0.5], [0.5, 0.5625]], [[0.5, 0.2], [-0.1, 0.2]])
    assert_layer(layers["fc1"], [[0.7, 0.45], [0.7, 0.6125]], [[0.3, -0.05], [-0.4, -0.0625]])


GRADIENTS = {
    ("B", 0): ([[0.5555556]], [2.2222222]),
    ("C", 0): ([[3.4688, 2.16], [0, 0]], [5.0688, 0]),
    ("D", 1): ([[0, 0], [-2.7777778, -1.6666667]], [0, -2.7777778]),
    ("D", 0): ([[0.1111111, 0], [-0.5555556, 0]], [0.1111111, -0.5555556]),  # by the surrogate of fire alone
}


@pytest.mark.parametrize(("name", "number"), GRADIENTS)
def test_gradients_of_s_crown(name, number):
    made, inputs, row, *_ = case(name)
    margins_of(made, inputs, row)[2].sum().backward()
    for ours, theirs in zip((made.weights, made.biases), GRADIENTS[name, number], strict=True):
        grad = ours[f"fc{number}"].grad
        torch.testing.assert_close(grad, torch.tensor(theirs, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "number"), list(GRADIENTS)[:3])
def test_gradients_are_central_differences_while_classes_stay(name, number):
    made, inputs, row, *_ = case(name)
    margins_of(made, inputs, row)[2].sum().backward()
    for parameter in (made.weights[f"fc{number}"], made.biases[f"fc{number}"]):
        for place in range(parameter.numel()):
            found = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter.view(-1)[place] += step
                    found.append(margins_of(made, inputs, row)[2].item())
                    parameter.view(-1)[place] -= step
            assert (found[0] - found[1]) / 2e-6 == pytest.approx(float(parameter.grad.view(-1)[place]), abs=1e-5)


def test_no_gradient_is_nan_where_a_bound_lies_on_the_threshold():
    """1 / (m - th) is taken in its own class alone: of the others it would be infinite, and 0 times that nan."""
    for rule in ("greater", "greater_equal"):
        made = network([[[0.25, 0.25]]], [[0.0]], replace(NEURON, fires_at=rule))
        for upper, lower in (([[1, 0]], [[1, 0]]), ([[1, 1]], [[1, 0]]), ([[1, 0]], [[0, 0]])):
            made.zero_grad()
            _, _, found = margins_of(made, box(upper, lower), [1.0])
            found.sum().backward()
            assert bool(torch.isfinite(made.weights["fc0"].grad).all())
            assert bool(torch.isfinite(found).all())


def test_a_bound_on_the_threshold_is_read_by_the_rule():
    """m from 0.25 to 0.5 at th = 0.25: always a spike by m >= th, by m > th only at times."""
    for rule, least in (("greater_equal", 1.0), ("greater", 0.0)):
        made = network([[[0.25, 0.25]]], [[0.0]], replace(NEURON, fires_at=rule))
        layers, by_ibp, by_crown = margins_of(made, box([[1, 1]], [[1, 0]]), [1.0])
        assert (layers["fc0"].spike_lower.item(), layers["fc0"].spike_upper.item()) == (least, 1.0)
        assert by_ibp.item() == by_crown.item() == least


def two_classes(**more):
    return network([[[0.5, -0.3], [0.2, 0.4]]], [[0, 0.1]], replace(NEURON, **more))


def test_the_label_is_left_out_and_the_certificate_is_the_larger_bound():
    made = network([[[0.4], [0.3], [-0.2]]], [[0.0, 0.2, 0.1]])
    lower, upper = torch.zeros(2, 3, 1), torch.ones(2, 3, 1)
    rows = margin_rows(made, torch.tensor([0, 1, 2]), lower)
    assert rows.tolist() == [[[1, -1, 0], [1, 0, -1]], [[-1, 1, 0], [0, 1, -1]], [[-1, 0, 1], [0, -1, 1]]]
    found = bounds(made, lower, upper, torch.tensor([0, 1, 2]))
    assert found.ibp.shape == found.crown.shape == (3, 2)
    assert torch.equal(found.certificate, torch.maximum(found.ibp, found.crown))
    assert found.ibp.dtype == torch.float64
    assert bounds(made.float(), lower.bool(), upper.bool(), torch.tensor([0, 1, 2])).crown.dtype == torch.float32


def test_an_analog_input_is_the_same_at_every_timestep():
    layers = [window("encode", "encode", "input", (1, 4, 4), 2, 3), fc("out", "encode", 32, 2)]
    made = SpikingNetwork(layers, NEURON, torch.Generator().manual_seed(1)).double()
    image = torch.rand((2, 1, 4, 4), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels, lower, upper = torch.tensor([0, 1]), image - 0.05, image + 0.05
    found = bounds(made, lower, upper, labels)
    assert found.layers["out"].spike_lower.shape == (3, 2, 2)  # T' of the source
    same = bounds(made, lower.unsqueeze(0), upper.unsqueeze(0), labels, timesteps=3)
    assert torch.equal(found.crown, same.crown)
    each = bounds(made, *(side.expand(3, 2, 1, 4, 4) for side in (lower, upper)), labels)
    torch.testing.assert_close(found.ibp, each.ibp)  # an interval of a layer knows nothing of time
    assert bool((found.crown >= each.crown - 1e-12).all())  # one image has fewer corners than three


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reset": "subtract"}, r"certify: layer fc0: neuron\.reset: expected zero; got subtract"),
        ({"reset": "none"}, r"neuron\.reset: expected zero; got none"),
        ({"decay": -0.5}, r"certify: layer fc0: neuron\.decay: expected a number of 0 or more; got -0\.5"),
        ({"threshold": -0.1}, r"certify: layer fc0: neuron\.threshold: expected a number of 0 or more; got -0\.1"),
    ],
)
def test_neurons_without_bounds_are_refused(change, said):
    with pytest.raises(TrainingError, match=said):
        bounds(two_classes(**change), torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.tensor([0]))


def of(layers, **how):
    return SpikingNetwork(layers, NEURON, torch.Generator(), **how)


def gate(name, source):
    return {"name": name, "kind": "gate", "inputs": [source], "in_shape": [2, 4, 4], "out_shape": [2, 4, 4],
            "scale": [2, 1]}  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "how", "said"),
    [
        (
            [window("most", "pool", "input", (2, 4, 4), 2, 2, 2, mode="max", spiking=False), fc("out", "most", 8, 2)],
            {},
            "certify: layer most: mode: expected average or sum; got max",
        ),
        ([gate("drop", "input"), fc("out", "drop", 32, 2)], {}, "certify: layer drop: kind: expected one of .*; got ga"),
        (
            [
                {"name": "both", "kind": "add", "op": "and", "inputs": ["input", "input"], "in_shape": [2, 4, 4],
                 "out_shape": [2, 4, 4], "spiking": False},
                fc("out", "both", 32, 2),
            ],
            {},
            "certify: layer both: op: expected sum; got and",
        ),
        (
            [window("c", "conv", "input", (2, 4, 4), 2, 3, norm={"kind": "layer", "over": ["C", "H", "W"]}),
             fc("out", "c", 32, 2)],
            {},
            "certify: layer c: norm: expected statistics over samples",
        ),
        (
            [window("c", "conv", "input", (2, 4, 4), 2, 3), fc("out", "c", 32, 2)],
            {"trained_neurons": True},
            "certify: layer c: neuron: expected a threshold and a decay that are not trained",
        ),
    ],
)  # fmt: skip
def test_layers_without_bounds_are_refused_by_name(layers, how, said):
    lower = torch.zeros(1, 1, 2, 4, 4)
    with pytest.raises(TrainingError, match=said):
        bounds(of(layers, **how), lower, lower + 1, torch.tensor([0]))


@pytest.mark.parametrize(
    ("lower", "upper", "labels", "how", "said"),
    [
        ((2, 1, 2), (2, 1, 3), [0], {}, r"certify: upper: expected the shape of lower, \[2, 1, 2\]; got \[2, 1, 3\]"),
        ((2, 1, 3), (2, 1, 3), [0], {}, r"certify: lower: expected shape \(T', N, 2\) or \(N, 2\); got \[2, 1, 3\]"),
        ((2,), (2,), [0], {}, r"certify: lower: expected shape"),
        ((2, 1, 2), (2, 1, 2), [0], {"timesteps": 3}, "certify: timesteps: expected those of lower, or 1"),
        ((2, 1, 2), (2, 1, 2), [0, 1], {}, r"certify: labels: expected integers of shape \[1\]; got"),
        ((2, 1, 2), (2, 1, 2), [0.0], {}, r"certify: labels: expected integers of shape \[1\]; got torch.float32"),
        ((2, 1, 2), (2, 1, 2), [2], {}, "certify: labels: expected classes from 0 to 1; got 2 to 2"),
        ((2, 1, 2), (2, 1, 2), [-1], {}, "certify: labels: expected classes from 0 to 1; got -1 to -1"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(lower, upper, labels, how, said):
    with pytest.raises(TrainingError, match=said):
        bounds(two_classes(), torch.zeros(lower), torch.ones(upper), torch.tensor(labels), **how)


@pytest.mark.parametrize("values", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_box_is_of_finite_numbers_in_order(values):
    lower, upper = (torch.full((1, 1, 2), value) for value in values)
    with pytest.raises(TrainingError, match="certify: lower: expected finite numbers that are nowhere above upper"):
        bounds(two_classes(), lower, upper, torch.tensor([0]))


def test_batch_norm_is_in_its_inference_form_whatever_the_mode():
    layers = [window("c", "conv", "input", (2, 4, 4), 2, 3, norm={"kind": "batch"}), fc("out", "c", 32, 2)]
    made = SpikingNetwork(layers, NEURON, torch.Generator().manual_seed(1)).double()
    lower, labels = torch.zeros(2, 1, 2, 4, 4), torch.tensor([0])
    one, other = (bounds(made.train(mode), lower, lower + 1, labels) for mode in (True, False))
    assert torch.equal(one.crown, other.crown)
    assert made.norm("c").mean0.abs().sum() == 0  # and no statistics were taken


def test_the_trainers_kinds_have_bounds_together():
    made = SpikingNetwork(tiny_layers(), NEURON, torch.Generator().manual_seed(1))
    image = torch.rand((3, 1, 6, 6), generator=torch.Generator().manual_seed(2))
    found = bounds(made, image, (image + 0.1).clamp_max(1), torch.tensor([0, 1, 1]))
    assert list(found.layers) == ["encode", "block", "join", "down", "shrink", "out"]
