"""What stands between layers when a network trains: its maps, what is recorded of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.errors import GpuTraceError, NetworkError, TrainingError  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.trace.bits import unpack  # noqa: E402
from h2sim.trace.derived import Derived  # noqa: E402
from h2sim.train import bptt  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from tests.helpers.operands import draw  # noqa: E402
from tests.helpers.tiny import halves, settings, stepped, tiny_trainer  # noqa: E402

EVERY = "4C3(Encoding)(BN)-MP2-D20-4C3G2(BN)-AP3(Spikes)-8FC(BN)-2FC(Mean)"
SHAPE = (1, 6, 6)


def layers_of(notation=EVERY):
    return parse_notation(notation, SHAPE)


def traced(trainer, path, samples=4):
    """One recorded step of the trainer, written and opened."""
    _, (record,), part = trainer.recorded_step(samples, values=True)
    trainer.write_trace(path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(path / "t.npz")
    trace.check()
    return trace


def watched(network):
    """The values that each layer's `current` gives, by name, with their gradients once there are any."""
    seen, current = {}, network.current

    def watch(layer, inputs, record=None):
        value = current(layer, inputs, record)
        if value.requires_grad:
            value.retain_grad()
        seen[layer["name"]] = value
        return value

    network.current = watch
    return seen


def bits(trace, name, kind):
    layer = trace.meta.layer(name)
    mask = unpack(trace.mask(name, kind), layer.neurons)
    return mask.reshape(*mask.shape[:2], *layer.out_chw).astype(bool)


def random_layers(seed):
    """A random network of maps whose read-outs are added up, and the largest count of its input."""
    drawn = draw(seed)
    outs = [layer["name"] for layer in drawn.layers if layer["kind"] == "fc"]
    entry = {"name": "out", "kind": "add", "inputs": outs, "in_shape": [2, 1, 1], "out_shape": [2, 1, 1],
             "spiking": False}  # fmt: skip
    return drawn, [*drawn.layers, entry]


@pytest.mark.parametrize("seed", range(40))
def test_maps_are_the_scales_times_counts_that_a_reader_derives(tmp_path, seed):
    drawn, layers = random_layers(seed)
    entry = {"kind": "counts", "most": drawn.most} if drawn.most > 1 else None
    shape = drawn.shapes["input"]
    data = halves(kind="images")
    data = type(data)(data.name, data.kind, shape, 2, *(resized(part, shape) for part in (data.train, data.test)))
    trainer = tiny_trainer(layers, data, dropout_mask="timestep" if seed % 2 else "sample")
    trainer = type(trainer)(trainer.settings, layers, data, entry)
    seen = watched(trainer.network)
    batch = next(trainer.stream).part(0, 3)
    _, record = bptt.recorded_gradients(trainer.network, batch, 4, trainer.settings.objective, 3, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, batch, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    derived = Derived(trace)
    for layer in trace.meta.layers:
        operand, value = derived.operands[layer.name], seen[layer.name].detach().numpy()
        if layer.has_weights:
            grad = seen[layer.name].grad
            grad = np.zeros(value.shape) if grad is None else grad.numpy()
            assert np.array_equal(bits(trace, layer.name, "grad"), grad.reshape(*grad.shape[:2], *layer.out_chw) != 0)
        elif operand.kind != "analog":
            scales = np.array([float(s) for s in operand.scales])[:, None, None]
            assert derived.counts(layer.name).max() <= operand.most
            np.testing.assert_allclose(value.reshape(*value.shape[:2], *layer.out_chw),
                                       scales * derived.counts(layer.name), rtol=1e-5)  # fmt: skip
        else:
            assert f"{layer.name}.grad" not in record_names(record)
        if layer.kind == "relu":
            assert np.array_equal(bits(trace, layer.name, "window"), value.reshape(value.shape[:2] + layer.out_chw) > 0)


def resized(split, shape):
    def read(indices):
        images = split.read(indices)[:, :, : shape[1], : shape[2]]
        return np.repeat(images, shape[0], axis=1)

    return type(split)(split.labels, split.rows, read)


def record_names(record):
    return {name for name, _ in record.members()}


def test_the_mask_of_a_layer_with_a_norm_is_of_the_gradient_before_it(tmp_path):
    trainer, _ = stepped(tiny_trainer(layers_of()), 6)
    seen = watched(trainer.network)
    trace = traced(trainer, tmp_path, samples=8)
    assert trace.meta.version == 2
    assert trace.meta.source["norm_statistics"] == "of the traced samples alone"
    for name in ("conv1", "conv2", "fc1"):
        grad = seen[name].grad.numpy()
        if grad.shape[0] == 1:  # a static input: its gradient is that of all timesteps together
            assert trace.values(name, "grad_current").sum(0).reshape(-1) == pytest.approx(grad.reshape(-1), abs=1e-6)
            continue
        assert np.array_equal(bits(trace, name, "grad").reshape(grad.shape), grad != 0)
        assert np.array_equal(trace.values(name, "grad_current"), grad)
    for name in ("conv1", "conv2", "fc1"):
        stored = trace.values(name, "grad_current")
        assert np.array_equal(bits(trace, name, "grad").reshape(stored.shape), stored != 0)
        assert bits(trace, name, "grad").sum() > (trace.values(name, "grad_membrane") != 0).sum()


def test_recorded_values_follow_batch_norm_of_torch_in_float64(tmp_path):
    trainer, _ = stepped(tiny_trainer(layers_of()), 6)
    trace = traced(trainer, tmp_path)
    for name in ("conv1", "conv2", "fc1"):
        x = torch.from_numpy(trace.values(name, "current").astype(np.float64)).requires_grad_()
        frames = x.flatten(0, 1)
        weight, bias = (
            torch.from_numpy(trace.values(name, f"norm_{kind}").astype(np.float64)) for kind in ("weight", "bias")
        )
        y = torch.nn.functional.batch_norm(frames, None, None, weight, bias, training=True)
        membrane = torch.from_numpy(trace.values(name, "membrane").astype(np.float64))
        torch.testing.assert_close(y.view_as(x)[0].detach(), membrane[0], rtol=2e-3, atol=2e-3)
        y.backward(torch.from_numpy(trace.values(name, "grad_membrane").astype(np.float64)).flatten(0, 1))
        stored = torch.from_numpy(trace.values(name, "grad_current").astype(np.float64))
        torch.testing.assert_close(stored, x.grad, rtol=2e-2, atol=float(stored.abs().max()) * 5e-3)


def test_a_maximum_over_currents_records_where_it_routes(tmp_path):
    layers = parse_notation("3C3(Encoding)-MP2-8FC-2FC", SHAPE)
    layers[0]["spiking"] = False
    layers[1] |= {"kernel": [3, 2], "stride": [2, 2], "padding": [1, 1], "ceil_mode": True, "out_shape": [3, 4, 4]}
    layers[2]["in_features"] = 48
    trainer, _ = stepped(tiny_trainer(layers), 2)
    seen = watched(trainer.network)
    trace = traced(trainer, tmp_path, samples=8)
    x, y = (seen[name].detach().numpy() for name in ("conv1", "pool1"))
    x = np.broadcast_to(x, (4, *x.shape[1:]))
    route = trace.values("pool1", "route").astype(int)
    padded = np.full((*x.shape[:3], 10, 10), -np.inf)
    padded[..., 1:7, 1:7] = x
    for i in range(4):
        for j in range(4):
            window = padded[..., 2 * i : 2 * i + 3, 2 * j : 2 * j + 2].reshape(*x.shape[:3], -1)
            assert np.array_equal(route[..., i, j], window.argmax(-1))
            assert np.array_equal(y[..., i, j], window.max(-1))
    assert len(np.unique(route)) > 2
    assert Derived(trace).needed("pool1").all()


def test_an_adaptive_maximum_routes_by_the_same_numbers(tmp_path):
    layers = parse_notation("3C3(Encoding)-MP2-8FC-2FC", SHAPE)
    layers[0]["spiking"] = False
    layers[1] = {"name": "pool1", "kind": "pool", "inputs": ["conv1"], "mode": "max", "adaptive": True,
                 "in_shape": [3, 6, 6], "out_shape": [3, 4, 4], "spiking": False}  # fmt: skip
    layers[2]["in_features"] = 48
    trainer = tiny_trainer(layers)
    seen = watched(trainer.network)
    trace = traced(trainer, tmp_path, samples=8)
    x, route = seen["conv1"].detach().numpy()[0], trace.values("pool1", "route").astype(int)
    starts, ends = [0, 1, 3, 4], [2, 3, 5, 6]
    for i in range(4):
        for j in range(4):
            window = x[..., starts[i] : ends[i], starts[j] : ends[j]]
            down, across = np.divmod(window.reshape(*x.shape[:2], -1).argmax(-1), window.shape[-1])
            assert np.array_equal(route[0, ..., i, j], down * 2 + across)


def test_a_maximum_of_counts_takes_the_first_of_equal_ones_whatever_their_rounding():
    network = tiny_trainer(layers_of("4C3(Encoding)-AP3(Spikes)-MP2-2FC")).network
    below, above = (np.nextafter(np.float32(5 / 9), np.float32(end)) for end in (0, 1))
    x = torch.full((1, 1, 4, 2, 2), float(below))
    x[..., 1, 1] = float(above)
    x.requires_grad_()
    made = network.current(network.layers[2], [x])
    made.sum().backward()
    assert made.flatten().tolist() == [pytest.approx(5 / 9)] * 4
    assert x.grad.reshape(4, 4).tolist() == [[1, 0, 0, 0]] * 4


@pytest.mark.parametrize(("dropout_mask", "steps"), [("sample", 1), ("timestep", 4)])
def test_dropout_keeps_one_mask_a_sample_or_one_a_timestep(tmp_path, dropout_mask, steps):
    notation = "16C3(Encoding)-D20-2FC"
    trainer = tiny_trainer(parse_notation(notation, SHAPE), dropout_mask=dropout_mask)
    trace = traced(trainer, tmp_path, samples=8)
    kept = bits(trace, "drop1", "kept")
    assert kept.shape == (steps, 8, 16, 6, 6)
    assert kept.mean() == pytest.approx(0.8, abs=0.02)
    assert not np.array_equal(kept[:, 0], kept[:, 1])
    assert trace.meta.source["dropout_mask"] == dropout_mask
    assert ("dropout_mask" in trainer.settings.to_dict()) is (dropout_mask == "timestep")


def test_dropout_scales_what_it_keeps_and_is_off_when_accuracy_is_measured():
    trainer = tiny_trainer(parse_notation("16C3(Encoding)-D20-2FC", SHAPE))
    network, ones = trainer.network, torch.ones(4, 2, 16, 6, 6)
    (gate,) = (layer for layer in network.layers if layer["kind"] == "gate")
    passed = network.current(gate, [ones])
    assert set(passed.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(passed[0], passed[3])
    before = trainer.stream.generator.get_state()
    assert trainer.accuracy() == trainer.accuracy()
    assert torch.equal(before, trainer.stream.generator.get_state())
    assert network.training
    network.eval()
    assert torch.equal(network.current(gate, [ones]), ones)


def test_running_statistics_are_those_of_torch():
    trainer = tiny_trainer(layers_of("4C3(Encoding)(BN)-2FC"))
    norm, theirs = trainer.network.norm("conv1"), torch.nn.BatchNorm2d(4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = 3 * torch.rand(4, 5, 4, 6, 6, generator=generator) - 1
        torch.testing.assert_close(norm(x).flatten(0, 1), theirs(x.flatten(0, 1)), rtol=1e-4, atol=1e-5)
    norm.eval(), theirs.eval()
    torch.testing.assert_close(norm(x).flatten(0, 1), theirs(x.flatten(0, 1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.variance0.flatten(), theirs.running_var)


def test_a_norm_over_each_sample_has_no_running_statistics():
    layers = layers_of("4C3(Encoding)(BN)-2FC")
    layers[0]["norm"] = {"kind": "layer", "over": ["C", "H", "W"]}
    norm = tiny_trainer(layers).network.norm("conv1")
    x = torch.rand(4, 5, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.layer_norm(x, (4, 6, 6))
    torch.testing.assert_close(norm(x), wanted, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in norm.named_buffers()] == []


def with_norm_on_a_map():
    """A network whose average of spikes is normalised for one reader and read as it is by another."""
    layers = layers_of("4C3(Encoding)-AP2(Spikes)-4C3-2FC")
    norm = {"name": "norm1", "kind": "norm", "inputs": ["pool1"], "in_shape": [4, 3, 3], "out_shape": [4, 3, 3],
            "norm": [{"kind": "batch"}, {"kind": "layer", "over": ["C", "H", "W"]}]}  # fmt: skip
    layers[2]["inputs"] = ["norm1"]
    both = {"name": "join", "kind": "concat", "inputs": ["conv2", "pool1"], "in_shape": [4, 3, 3],
            "out_shape": [8, 3, 3]}  # fmt: skip
    layers[3] |= {"inputs": ["join"], "in_features": 72}
    return [*layers[:2], norm, layers[2], both, layers[3]]


def test_a_norm_on_a_map_keeps_the_gradient_that_passes_it_alone(tmp_path):
    trainer, _ = stepped(tiny_trainer(with_norm_on_a_map()), 3)
    seen = watched(trainer.network)
    trace = traced(trainer, tmp_path, samples=8)
    assert not trace.has("norm1.grad")
    x = seen["pool1"].detach().clone().requires_grad_()
    norm = trainer.network.norm("norm1")
    with torch.no_grad():  # as they were in the recorded step
        norm.weight.copy_(torch.from_numpy(trace.values("norm1", "norm_weight")))
        norm.bias.copy_(torch.from_numpy(trace.values("norm1", "norm_bias")))
    y = norm(x)
    conv = torch.from_numpy(trace.values("conv2", "grad_membrane"))
    weight = torch.from_numpy(trace.values("conv2", "weight")).requires_grad_()
    torch.nn.functional.conv2d(y.flatten(0, 1), weight, padding=1).backward(conv.flatten(0, 1))
    torch.testing.assert_close(torch.from_numpy(trace.values("norm1", "grad_current")), x.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(trace.values("norm1", "current"), x.detach().numpy(), rtol=1e-3)
    torch.testing.assert_close(
        torch.from_numpy(trace.values("conv2", "weight_grad")), weight.grad, rtol=1e-3, atol=1e-6
    )
    needed = Derived(trace).needed("norm1")
    assert not ((trace.values("norm1", "grad_current") != 0) & ~needed).any()


def test_two_norms_follow_each_other():
    norm = tiny_trainer(with_norm_on_a_map()).network.norm("norm1")
    x = torch.rand(4, 5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    first = torch.nn.functional.batch_norm(x.flatten(0, 1), None, None, training=True)
    wanted = torch.nn.functional.layer_norm(first, (4, 3, 3)).view_as(x)
    torch.testing.assert_close(norm(x), wanted, rtol=1e-3, atol=1e-4)


def test_groups_are_blocks_of_a_whole_convolution():
    network = tiny_trainer(layers_of("4C3(Encoding)-6C3G2-2FC")).network
    conv = network.layers[1]
    x = torch.rand(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    weight = network.weights["conv2"]
    assert weight.shape == (6, 2, 3, 3)
    whole = torch.zeros(6, 4, 3, 3)
    whole[:3, :2], whole[3:, 2:] = weight.detach()[:3], weight.detach()[3:]
    wanted = torch.nn.functional.conv2d(x.flatten(0, 1), whole, network.biases["conv2"], padding=1)
    torch.testing.assert_close(network.current(conv, [x]).flatten(0, 1), wanted)


def test_a_mean_before_the_last_layer_has_the_same_gradient_at_every_timestep(tmp_path):
    plain, mean = (tiny_trainer(layers_of(f"4C3(Encoding)-2FC{word}")) for word in ("", "(Mean)"))
    batch = next(plain.stream)
    losses = [bptt.gradients(trainer.network, batch, 4, trainer.settings.objective) for trainer in (plain, mean)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    ours, theirs = (trainer.network.weights["conv1"].grad for trainer in (plain, mean))
    torch.testing.assert_close(ours, theirs)
    values = traced(mean, tmp_path).values("fc1", "grad_membrane")
    assert np.array_equal(values, np.broadcast_to(values[:1], values.shape))


def test_counts_are_as_many_rate_coded_spikes_added_up(tmp_path):
    entry = {"kind": "counts", "most": 3}
    trainer = tiny_trainer()
    trainer = type(trainer)(settings(), layers_of("4C3-2FC"), halves(), entry)
    trace = traced(trainer, tmp_path)
    counts = trace.input_counts()
    assert (counts.dtype, counts.shape, counts.max()) == (np.uint8, (4, 4, 1, 6, 6), 3)
    assert trace.meta.input.most == 3
    images = torch.full((50, 1, 6, 6), 0.25).numpy()
    coded = trainer.coding.coded(torch.from_numpy(images), torch.Generator().manual_seed(0))
    assert float(coded.mean()) == pytest.approx(0.75, abs=0.03)


def test_initial_deviation_is_what_a_norm_multiplies_by():
    trainer = tiny_trainer(layers_of(), initial_deviation=0.3)
    weights = torch.cat([trainer.network.norm(name).weight.detach() for name in ("conv1", "conv2", "fc1")])
    assert weights.unique().tolist() == pytest.approx([0.3])


def test_a_layer_without_bias_has_none(tmp_path):
    layers = layers_of("4C3(Encoding)-2FC")
    layers[0]["bias"] = False
    trainer = tiny_trainer(layers)
    assert "conv1" not in trainer.network.biases
    trace = traced(trainer, tmp_path)
    assert [layer.bias for layer in trace.meta.layers] == [False, True]
    assert not trace.has("conv1.bias")


def test_a_network_of_every_layer_learns():
    trainer, losses = stepped(tiny_trainer(layers_of(), epochs=16), 80)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert trainer.accuracy() > 0.9


def changed(**change):
    layers = layers_of("4C3(Encoding)(BN)-D20-MP2-2FC(Mean)")
    for name, fields in change.items():
        next(layer for layer in layers if layer["name"] == name).update(fields)
    return layers


@pytest.mark.parametrize(
    ("layers", "how", "message"),
    [
        (changed(drop1={"scale": [1, 2]}), {}, r"layer drop1: scale: number: expected at least 1, .*; got 1/2"),
        (changed(conv1={"norm": {"kind": "batch", "training": False}}), {}, r"layer conv1: norm: training: exp.*false"),
        (layers_of("4C3(Encoding)-D20-2FC(Mean)"), {"dropout_mask": "timestep"}, r"layer fc1: dropout mask: expected"),
        (changed(fc1={"spiking": True}), {}, r"fc1: mean_over_time: expected of the last layer"),
    ],
)
def test_what_training_does_not_know_is_one_line(layers, how, message):
    with pytest.raises(NetworkError, match=message) as caught:
        SpikingNetwork(layers, Neuron(), torch.Generator(), **how)
    assert len(caught.value.lines) == 1


def test_a_maximum_of_too_many_currents_is_one_line():
    layers = parse_notation("1C3(Encoding)-MP17-2FC", (1, 17, 17))
    layers[0]["spiking"] = False
    with pytest.raises(NetworkError, match=r"layer pool1: window: elements: expected at most 256 .*; got 289"):
        SpikingNetwork(layers, Neuron(), torch.Generator())


def test_a_mean_over_time_and_a_rate_read_out_exclude_each_other():
    with pytest.raises(NetworkError, match=r"fc2: mean_over_time: expected of the last layer, which passes its curr"):
        tiny_trainer(layers_of(), objective={"readout": "rate"})


def test_the_gpu_step_refuses_layers_that_it_does_not_know():
    from h2sim.gpu.step import TrainingStep, Workload

    biased = layers_of("4C3(Encoding)-2FC")
    bare = [{**biased[0], "bias": False}, biased[1]]
    for layers, message in (
        (layers_of(), r"n: layers: expected those of trace version 1: "),
        (bare, r"n: layer conv1: expected a bias; got none"),
    ):
        load = Workload(
            name="n", layers=tuple(layers), neuron=Neuron(), timesteps=2, batch=2, implementation="layerwise"
        )
        with pytest.raises(GpuTraceError, match=message):
            TrainingStep(load, "cpu")


def test_a_norm_that_goes_wrong_names_its_parameter():
    trainer = tiny_trainer(layers_of(), objective={"loss_scale": 1e30, "gradient_dtype": "float16"})
    with pytest.raises(TrainingError, match=r"iteration 1: .*: gradient: expected finite"):
        trainer.step()
