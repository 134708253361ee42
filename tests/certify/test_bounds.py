"""S-IBP and S-CROWN: cases that were computed by hand, independent code's vectors, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.certify import bounds, fire, image_box, image_spikes, spike_picks  # noqa: E402
from h2sim.errors import NetworkError  # noqa: E402
from h2sim.trace import parse_notation  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from tests.certify.draw import Drawn  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
NEURON = Neuron(0.25, 0.25, window=(-0.25, 0.75))


def network(*weights, neuron=NEURON):
    """Fully connected layers in float64 with these (weight, bias)."""
    layers, source = [], "input"
    for number, (weight, _) in enumerate(weights):
        layers.append({"name": f"fc{number}", "kind": "fc", "inputs": [source], "in_features": len(weight[0]),
                       "out_features": len(weight)})  # fmt: skip
        source = f"fc{number}"
    made = SpikingNetwork(layers, neuron, torch.Generator()).double()
    with torch.no_grad():
        for number, (weight, bias) in enumerate(weights):
            made.weights[f"fc{number}"].copy_(torch.tensor(weight))
            made.biases[f"fc{number}"].copy_(torch.tensor(bias))
    return made


def between(low, high):
    return (torch.tensor(each, dtype=torch.float64).unsqueeze(1) for each in (low, high))


ALONE = ([[0.0]], [-1.0])  # an output that never fires: the margin is that of the other one, or minus it


def one_neuron(weight, bias, sign):
    """C = [sign]: the margin of a neuron against a silent one."""
    made = network(([[weight], [0.0]], [bias, -1.0]))
    low, high = between([[0.0]], [[1.0]])
    return made, bounds(made, low, high, torch.tensor([0 if sign > 0 else 1]))


def test_case_a():
    _, found = one_neuron(0.5, 0.0, -1)
    assert found.layers["fc0"].m_upper[0, 0, 0] == 0.5
    assert (found.ibp.item(), found.crown.item()) == (-1.0, -1.0)


def test_case_b_in_which_crown_is_looser():
    made, found = one_neuron(0.8, 0.05, 1)
    bound = found.layers["fc0"]
    assert bound.m_lower[0, 0, 0].item() == pytest.approx(0.05)
    assert bound.m_upper[0, 0, 0].item() == pytest.approx(0.85)
    lines = fire.lines(bound, 0, NEURON)
    assert [each[0, 0].item() for each in (lines.slope_high, lines.at_high)] == [0.0, 1.0]
    assert [each[0, 0].item() for each in (lines.slope_low, lines.at_low)] == pytest.approx([1.666666667, -0.416666667])
    assert (found.ibp.item(), found.crown.item()) == pytest.approx((0.0, -1 / 3))
    found.crown.sum().backward()
    assert made.weights["fc0"].grad[0, 0].item() == pytest.approx(0.5555555556)
    assert made.biases["fc0"].grad[0].item() == pytest.approx(2.2222222222)


def case_c():
    made = network(([[0.5, -0.3], [0.2, 0.4]], [0.0, 0.1]))
    low, high = between([[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]])
    return made, low, high


def test_case_c_in_which_crown_is_tighter():
    made, low, high = case_c()
    found = bounds(made, low, high, torch.tensor([0]))
    bound = found.layers["fc0"]
    for name, rows in {
        "m_upper": [[0.5, 0.7], [0.5625, 0.3]], "m_lower": [[0.2, 0.3], [0.0, 0.1]],
        "s_upper": [[1, 1], [1, 1]], "s_lower": [[0, 1], [0, 0]],
    }.items():  # fmt: skip
        torch.testing.assert_close(getattr(bound, name)[:, 0].detach(), torch.tensor(rows, dtype=torch.float64))
    second, first = fire.lines(bound, 1, NEURON), fire.lines(bound, 0, NEURON)
    for lines, rows in (
        (second, ([0, 6.666666667], [1, -0.666666667], [3.2, 0], [-0.8, 0])),
        (first, ([0, 0], [1, 1], [4, 0], [-1, 1])),
    ):
        for each, row in zip((lines.slope_high, lines.at_high, lines.slope_low, lines.at_low), rows, strict=True):
            assert each[0].tolist() == pytest.approx(row)
    rows = torch.tensor([[0.5, -0.5], [0.5, -0.5]], dtype=torch.float64).view(2, 1, 1, 2)
    current, constants = fire.backwards(rows, bound, NEURON)
    assert current[:, 0, 0].tolist() == [pytest.approx([1.68, 0.0]), pytest.approx([1.6, -3.333333333])]
    assert (found.ibp.item(), found.crown.item()) == pytest.approx((-1.0, -0.904))
    weight = torch.tensor([[0.5, -0.3], [0.2, 0.4]], dtype=torch.float64)
    assert (current[:, 0, 0] @ weight).tolist() == [
        pytest.approx([0.84, -0.504]),
        pytest.approx([0.133333333, -1.813333333]),
    ]
    bias = torch.tensor([0.0, 0.1], dtype=torch.float64)
    assert constants.item() + (current[:, 0, 0] @ bias).sum().item() == pytest.approx(-1.24)
    found.crown.sum().backward()
    assert made.weights["fc0"].grad.flatten().tolist() == pytest.approx([3.4688, 2.16, 0, 0])
    assert made.biases["fc0"].grad.tolist() == pytest.approx([5.0688, 0])


def test_case_d_two_layers():
    first, second = ([[0.6, -0.2], [0.3, 0.3]], [0.1, -0.1]), ([[0.7, -0.4], [-0.1, 0.5]], [0.0, 0.05])
    made = network(first, second)
    low, high = between([[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]])
    found = bounds(made, low, high, torch.tensor([0]))
    for layer, upper, lower in (
        ("fc0", [[0.7, 0.5], [0.5, 0.5625]], [[0.5, 0.2], [-0.1, 0.2]]),
        ("fc1", [[0.7, 0.45], [0.7, 0.6125]], [[0.3, -0.05], [-0.4, -0.0625]]),
    ):
        bound = found.layers[layer]
        torch.testing.assert_close(bound.m_upper[:, 0].detach(), torch.tensor(upper, dtype=torch.float64))
        torch.testing.assert_close(bound.m_lower[:, 0].detach(), torch.tensor(lower, dtype=torch.float64))
    assert (found.ibp.item(), found.crown.item()) == pytest.approx((-0.5, -0.8333333333))
    found.crown.sum().backward()
    assert made.weights["fc1"].grad.flatten().tolist() == pytest.approx([0, 0, -2.7777777778, -1.6666666667])
    assert made.biases["fc1"].grad.tolist() == pytest.approx([0, -2.7777777778])
    assert made.weights["fc0"].grad.flatten().tolist() == pytest.approx([0.1111111111, 0, -0.5555555556, 0])
    assert made.biases["fc0"].grad.tolist() == pytest.approx([0.1111111111, -0.5555555556])


@pytest.mark.parametrize("case", ["b", "c"])
def test_the_gradient_is_that_of_differences_while_every_class_stays(case):
    if case == "b":
        made, low, high = network(([[0.8], [0.0]], [0.05, -1.0])), *between([[0.0]], [[1.0]])
    else:
        made, low, high = case_c()
    bounds(made, low, high, torch.tensor([0])).crown.sum().backward()
    for parameter in (made.weights["fc0"], made.biases["fc0"]):
        for index in np.ndindex(*parameter.shape):
            ends = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter[index] += step
                    ends.append(float(bounds(made, low, high, torch.tensor([0])).crown.sum()))
                    parameter[index] -= step
            assert float(parameter.grad[index]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_with_flat_lines_crown_is_ibp(seed, monkeypatch):
    """0 <= s <= 1 in place of both slopes: what is left of S-CROWN is S-IBP."""
    drawn = Drawn(seed)
    if len(drawn.layers) > 1 and any(layer["kind"] in ("add", "conv", "norm") for layer in drawn.layers):
        return  # intervals of linear layers one after another lose more than rows through them

    def flat(bound, t, neuron):
        always, never = bound.always[t], bound.never[t]
        zero = torch.zeros_like(bound.m_lower[t])
        return fire.Lines(zero, zero, always.to(zero), (~never).to(zero))

    monkeypatch.setattr(fire, "lines", flat)
    found = bounds(drawn.network, drawn.lower, drawn.upper, drawn.labels, timesteps=drawn.steps)
    if all(drawn.network.described[layer["name"]].spiking for layer in drawn.layers):
        torch.testing.assert_close(found.crown, found.ibp, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["FC", "CONV"])
@pytest.mark.parametrize("eps", ["0.01", "0.06"])
def test_the_bounds_are_those_of_independent_code(kind, eps):
    """certify.npz: what the source authors' functions gave in float32 on narrowed random networks, T' = 3."""
    held = np.load(DATA / "certify.npz")
    notation = {"FC": "48FC-24FC-10FC", "CONV": "4C3S2-8C3S2-24FC-10FC"}[kind]
    neuron = Neuron(0.25, 0.25, window=(-0.25, 0.75), fires_at="greater")  # that code fires at m > th
    made = SpikingNetwork(parse_notation(notation, (1, 28, 28)), neuron, torch.Generator())
    key = f"{kind}.{eps}"
    with torch.no_grad():
        for name in made.described:
            made.weights[name].copy_(torch.from_numpy(held[f"{kind}.w.{name}.weight"]))
            made.biases[name].copy_(torch.from_numpy(held[f"{kind}.w.{name}.bias"]))
    bits = {end: np.unpackbits(held[f"{key}.input.{end}"], axis=-1)[..., :784] for end in ("s_L", "s_U")}
    low, high = (torch.from_numpy(bits[end].astype(np.float32)).view(3, 4, 1, 28, 28) for end in ("s_L", "s_U"))
    found = bounds(made, low, high, torch.from_numpy(held[f"{key}.labels"]))
    for name, layer in made.described.items():
        bound = found.layers[name]
        for end, ours in (("m_U", bound.m_upper), ("m_L", bound.m_lower)):
            theirs = torch.from_numpy(held[f"{key}.{name}.{end}"])
            torch.testing.assert_close(ours.detach().view_as(theirs), theirs, rtol=0, atol=2e-6)
        for end, ours in (("s_U", bound.s_upper), ("s_L", bound.s_lower)):
            theirs = np.unpackbits(held[f"{key}.{name}.{end}"], axis=-1)[..., : layer.neurons]
            assert np.array_equal(ours.detach().flatten(2).numpy(), theirs)
    torch.testing.assert_close(found.ibp.detach(), torch.from_numpy(held[f"{key}.ibp_L"]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.crown.detach(), torch.from_numpy(held[f"{key}.crown_L"]), rtol=0, atol=2e-6)
    assert torch.equal(found.certificate, torch.maximum(found.ibp, found.crown))


def test_a_tie_is_no_proof():
    _, found = one_neuron(0.8, 0.05, 1)
    assert found.certificate.item() == 0.0
    assert not bool(found.robust)


def test_the_mode_of_the_network_stays_and_gradients_reach_it():
    made = SpikingNetwork(parse_notation("4C3-AP2-2FC", (1, 6, 6)), NEURON, torch.Generator().manual_seed(0)).train()
    low, high = spike_picks((torch.rand((2, 3, 1, 6, 6)) < 0.4).float(), 0.2, torch.Generator().manual_seed(0))
    found = bounds(made, low, high, torch.tensor([0, 1, 0]))
    assert made.training
    assert found.ibp.shape == found.crown.shape == (3, 1)
    found.certificate.sum().backward()
    assert any(parameter.grad is not None for parameter in made.parameters())
    with torch.no_grad():
        again = bounds(made, low, high, torch.tensor([0, 1, 0]))
    assert torch.equal(again.crown, found.crown.detach())
    assert not again.crown.requires_grad


def test_the_boundaries_of_inputs():
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand((4, 50, 3, 8, 8), generator=generator) < 0.3).float()
    low, high = spike_picks(spikes, 0.1, generator)
    picked = low != high
    assert float(picked.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(low[~picked], spikes[~picked])
    assert (low[picked].unique().tolist(), high[picked].unique().tolist()) == ([0.0], [1.0])
    image = torch.tensor([[[[0.0, 0.5, 1.0]]]])
    low, high = image_box(image, 0.2)
    torch.testing.assert_close(low, torch.tensor([[[[0.0, 0.4, 0.9]]]]))
    torch.testing.assert_close(high, torch.tensor([[[[0.1, 0.6, 1.0]]]]))
    many = image.expand(1, 1, 1, 3)
    draws = torch.rand((20_000, 1, 1, 1, 3), generator=generator)
    low, high = image_spikes(many, 0.2, draws)
    shares = (low != high).float().mean((0, 1, 2, 3))
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0.1], abs=0.01)  # half at the ends of the range
    assert bool((low <= high).all())


REFUSED = [
    (lambda: SpikingNetwork(parse_notation("4C3-MP2-2FC", (1, 6, 6)), NEURON, torch.Generator()), "kind: expected one"),
    (lambda: network(([[1.0]], [0.0]), neuron=Neuron(reset="subtract")), "neuron.reset: expected 'zero'"),
    (lambda: network(([[1.0]], [0.0]), neuron=Neuron(-0.1)), "neuron.threshold: expected a number from 0; got -0.1"),
    (lambda: network(([[1.0]], [0.0]), neuron=Neuron(0.3, -0.5)), "neuron.decay: expected a number from 0; got -0.5"),
]


@pytest.mark.parametrize(("make", "line"), REFUSED)
def test_what_has_no_bounds_is_refused_by_name(make, line):
    made = make()
    x = torch.zeros((2, 1, *made.input_shape))
    with pytest.raises(NetworkError, match=line):
        bounds(made, x, x, torch.tensor([0]))


@pytest.mark.parametrize(
    ("low", "high", "labels", "line"),
    [
        (torch.zeros(2, 1, 1), torch.zeros(2, 1, 2), [0], r"shape: expected that of lower, \[2, 1, 1\]"),
        (torch.zeros(1, 1), torch.zeros(1, 1), [0], r"shape: expected spikes \(T', N, ...\); got \[1, 1\]"),
        (torch.ones(2, 1, 1), torch.zeros(2, 1, 1), [0], "values: expected finite numbers, lower <= upper"),
        (torch.zeros(2, 1, 1), torch.full((2, 1, 1), 0.5), [0], "values: expected spikes, 0 or 1"),
        (torch.full((2, 1, 1), float("nan")), torch.ones(2, 1, 1), [0], "values: expected finite"),
        (torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), [0, 1], r"labels: expected shape \[1\]; got \[2\]"),
        (torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), [2], "labels: expected numbers from 0 to 1"),
    ],
)
def test_inputs_that_do_not_fit_are_a_line(low, high, labels, line):
    with pytest.raises(NetworkError, match=line):
        bounds(network(([[1.0], [1.0]], [0.0, 0.0])), low, high, torch.tensor(labels))
