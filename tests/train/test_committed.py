"""What the committed traces hold satisfies the model's equations: an independent recomputation in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from h2sim.trace import load_network, load_trace  # noqa: E402
from h2sim.train import make_traces  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.presets import PRESETS  # noqa: E402

ROOT = Path(__file__).parents[2]
TRACES = {"mnist-digits": 0.95, "encode-residual": 0.8}


def test_the_command_explains_itself_with_an_example():
    result = CliRunner().invoke(make_traces.main, ["--help"])
    assert result.exit_code == 0
    assert "--only encode-residual -o out" in result.output


def test_the_command_knows_every_preset():
    assert set(make_traces.NAMES) == set(PRESETS)


def unpacked(packed, shape):
    """A packed mask (T, N, bytes) as bool (T, N, *shape); its padding bits must be 0."""
    bits = np.unpackbits(packed, axis=2)
    n_neurons = int(np.prod(shape))
    assert not bits[..., n_neurons:].any()
    return bits[..., :n_neurons].reshape(*packed.shape[:2], *shape).astype(bool)


class Committed:
    """A committed trace with its values in float64 and its masks unpacked."""

    def __init__(self, name):
        preset = PRESETS[name]
        with np.load(ROOT / preset.file, allow_pickle=False) as trace:
            self.arrays = dict(trace)
        self.meta = json.loads(self.arrays["meta"].tobytes())
        self.layers = {layer["name"]: layer for layer in self.meta["layers"]}
        self.timesteps = self.meta["timesteps"]

    def shape(self, name):
        layer = self.layers[name]
        return tuple(layer["out_shape"]) if "out_shape" in layer else (layer["out_features"],)

    def value(self, member):
        return torch.from_numpy(self.arrays[member].astype(np.float64))

    def mask(self, name, which):
        return torch.from_numpy(unpacked(self.arrays[f"{name}.{which}"], self.shape(name)).astype(np.float64))

    def neuron(self, name):
        return Neuron.from_meta({**self.meta["neuron"], **self.layers[name].get("neuron", {})})

    def sent(self, name):
        """What a layer, or the input, sends on: spikes, the analog input, or a current (T, N, ...)."""
        if name == "input" and "input.analog" in self.arrays:
            return self.value("input.analog").expand(self.timesteps, -1, -1, -1, -1)
        if name == "input":
            packed = unpacked(self.arrays["input.spikes"], tuple(self.meta["layers"][0]["in_shape"]))
            return torch.from_numpy(packed.astype(np.float64))
        return self.mask(name, "spikes") if self.layers[name].get("spiking", True) else self.current(name)

    def current(self, name):
        """x (T, N, ...) of a layer, recomputed from the stored spikes and weights."""
        layer, inputs = self.layers[name], [self.sent(source) for source in self.layers[name]["inputs"]]
        return apply(layer, inputs, *self.parameters(name))

    def parameters(self, name):
        if f"{name}.weight" not in self.arrays:
            return None, None
        return self.value(f"{name}.weight"), self.value(f"{name}.bias")


def apply(layer, inputs, weight, bias):
    """The current of one layer in float64, written apart from the trainer's own code."""
    if layer["kind"] == "add":
        return torch.stack(inputs).sum(0)
    (x,) = inputs
    if layer["kind"] == "fc":
        return x.reshape(*x.shape[:2], -1) @ weight.T + bias
    stacked = x.reshape(-1, *x.shape[2:])
    if layer["kind"] == "pool":
        weight = torch.full((x.shape[2], 1, *layer["kernel"]), 1 / np.prod(layer["kernel"]), dtype=x.dtype)
    groups = x.shape[2] if layer["kind"] == "pool" else 1
    y = torch.nn.functional.conv2d(stacked, weight, bias, layer["stride"], layer["padding"], groups=groups)
    return y.reshape(*x.shape[:2], *y.shape[1:])


@pytest.fixture(params=list(TRACES))
def committed(request):
    return Committed(request.param)


def test_committed_traces_are_of_trained_networks_and_small(committed):
    name = next(n for n, preset in PRESETS.items() if preset.settings.network == committed.meta["network"])
    assert committed.meta["source"]["kind"] == "training"
    assert committed.meta["source"]["accuracy"] >= TRACES[name]
    last = {**load_network(PRESETS[name].settings.network).layers[-1], "spiking": False}
    assert committed.meta["layers"] == [*load_network(PRESETS[name].settings.network).layers[:-1], last]
    load_trace(ROOT / PRESETS[name].file).check()
    limit_bytes = {"mnist-digits": 6_500_000, "encode-residual": 400_000}[name]
    assert (ROOT / PRESETS[name].file).stat().st_size <= limit_bytes


def test_committed_membranes_and_spikes_follow_the_forward_equations(committed):
    for name, layer in committed.layers.items():
        if not layer.get("spiking", True):
            continue
        neuron, current, spikes = committed.neuron(name), committed.current(name), committed.mask(name, "spikes")
        membrane = torch.zeros_like(current)
        for t in range(committed.timesteps):
            membrane[t] = current[t]
            if t:
                membrane[t] += neuron.decay * membrane[t - 1] * (1 - spikes[t - 1])
        stored = committed.value(f"{name}.membrane")
        torch.testing.assert_close(stored, membrane, rtol=2**-11, atol=1e-5, msg=name)
        near_threshold = (membrane - neuron.threshold).abs() < 1e-5
        assert bool(((spikes == (membrane >= neuron.threshold)) | near_threshold).all()), name
        low, high = neuron.window
        near_edge = ((membrane - low).abs() < 1e-5) | ((membrane - high).abs() < 1e-5)
        assert bool(((committed.mask(name, "window") == neuron.in_window(membrane)) | near_edge).all()), name


def test_committed_gradients_follow_the_backward_equations(committed):
    readout = committed.meta["layers"][-1]["name"]
    received = {name: torch.zeros_like(committed.value(f"{name}.grad_membrane")) for name in committed.layers}
    logits = committed.current(readout).requires_grad_()
    labels = torch.tensor(committed.meta["source"]["labels"])
    loss = torch.nn.functional.cross_entropy(logits.mean(0), labels)
    loss.backward()
    received[readout] = logits.grad
    assert loss.item() == pytest.approx(committed.meta["source"]["loss_value"], rel=1e-4)
    for name in reversed(committed.layers):
        expected = grad_of_membrane(committed, name, received[name])
        grad = committed.value(f"{name}.grad_membrane")
        torch.testing.assert_close(grad, expected, rtol=2e-3, atol=float(grad.abs().max()) * 2e-4, msg=name)
        assert torch.equal(committed.mask(name, "grad") != 0, grad != 0), name
        hand_back(committed, name, grad, received)


def grad_of_membrane(committed, name, grad_sent):
    """dL/dm (T, N, ...) by eq. 2.4-2.6 from the gradient of what the layer sends."""
    if not committed.layers[name].get("spiking", True):
        return grad_sent
    neuron, spikes, window = committed.neuron(name), committed.mask(name, "spikes"), committed.mask(name, "window")
    membrane, grad = committed.value(f"{name}.membrane"), torch.zeros_like(grad_sent)
    for t in reversed(range(committed.timesteps)):
        later = grad[t + 1] if t + 1 < committed.timesteps else torch.zeros_like(grad[t])
        grad_s = grad_sent[t] - neuron.decay * membrane[t] * later
        grad[t] = neuron.decay * (1 - spikes[t]) * later + neuron.surrogate_scale * window[t] * grad_s
    return grad


def hand_back(committed, name, grad, received):
    """Check dw (eq. 2.7) of a layer, and add w^T * dm to what its inputs receive."""
    layer = committed.layers[name]
    inputs = [committed.sent(source).clone().requires_grad_() for source in layer["inputs"]]
    weight, bias = committed.parameters(name)
    if weight is not None:
        weight.requires_grad_()
    apply(layer, inputs, weight, bias).backward(grad)
    for source, value in zip(layer["inputs"], inputs, strict=True):
        if source != "input":
            received[source] += value.grad
    if weight is not None:
        stored = committed.value(f"{name}.weight_grad")
        torch.testing.assert_close(stored, weight.grad, rtol=1e-3, atol=float(stored.abs().max()) * 1e-4, msg=name)
