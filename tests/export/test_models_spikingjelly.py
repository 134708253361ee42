"""SpikingJelly's own networks, as the library builds them, become traces whose values verify."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest

from tests.helpers.lively import (
    CURRENT,
    HIDDEN,
    LAST,
    READ_OUT,
    assert_lively,
    layers_of,
    normed,
    pooled,
    rows_of,
)  # fmt: skip
from tests.helpers.models import Functional, exported, library, machine, mean_loss, torch

library("spikingjelly")
if find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)
from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: E402
from torch import nn  # noqa: E402

import h2sim  # noqa: E402
from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402
from tests.helpers.zoo import (  # noqa: E402
    ms_resnet,
    parametric_lif_net,
    sew_resnet,
    spikformer,
    spiking_resnet,
    spiking_vgg,
)  # fmt: skip

STEPS, N = 2, 2
TARGETS = torch.tensor([1, 0])
RECT = surrogate.Rect()
PLIF = {
    "spiking_neuron": neuron.ParametricLIFNode, "init_tau": 2.0, "v_threshold": 0.1, "surrogate_function": RECT,
    "decay_input": False,
}  # fmt: skip
IF = {"spiking_neuron": neuron.IFNode, "v_threshold": 0.3, "surrogate_function": RECT, "detach_reset": True}


def in_steps(model):
    """All timesteps at once, in training."""
    torch.manual_seed(1)
    functional.set_step_mode(model, "m")
    return model.train()


def images(*shape):
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(0)).repeat(STEPS, 1, *[1] * len(shape))


def events(*shape, rate=0.3):
    return (torch.rand(STEPS, N, *shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def counts(*shape):
    return torch.poisson(torch.full((STEPS, N, *shape), 0.3), generator=torch.Generator().manual_seed(0))


# the networks of the parametric LIF paper


def conv_of(fc, count, kind="conv"):
    """The rows and layers of `count` conv - norm - neuron stacks, by their indices, and of two fully connected ones."""
    return {name: normed(HIDDEN) for name in count} | {fc[0]: HIDDEN, fc[1]: LAST}


PARAMETRIC = {
    "MNISTNet": (lambda: images(1, 28, 28), (0, 4), (10, 13), "encode"),
    "FashionMNISTNet": (lambda: images(1, 28, 28), (0, 4), (10, 13), "encode"),
    "NMNISTNet": (lambda: events(2, 34, 34), (0, 4), (10, 13), "conv"),
    "CIFAR10Net": (lambda: images(3, 32, 32), (0, 3, 6, 10, 13, 16), (22, 25), "encode"),
    "CIFAR10DVSNet": (lambda: counts(2, 128, 128), (0, 4, 8, 12), (18, 21), "conv"),
    "DVSGestureNet": (lambda: events(2, 128, 128, rate=0.1), (0, 4, 8, 12, 16), (22, 25), "conv"),
}


@pytest.mark.parametrize("name", PARAMETRIC)
def test_a_parametric_lif_network(name, tmp_path):
    make, convs, fcs, first = PARAMETRIC[name]
    torch.manual_seed(0)
    model = in_steps(getattr(parametric_lif_net, name)(channels=4, **PLIF))
    made, trace, report = exported(model, make(), tmp_path / "t.npz", targets=TARGETS)
    assert made.meta["version"] == 2
    assert report.unchecked == ()
    wanted = {f"conv_fc.{n}": normed(HIDDEN) for n in convs}
    assert rows_of(report) == wanted | {f"conv_fc.{fcs[0]}": HIDDEN, f"conv_fc.{fcs[1]}": LAST}
    found = layers_of(made)
    assert [kind for kind, _ in found.values()].count("max pool~") == len(found) - len(convs) - 4
    assert found["conv_fc.0"] == (first, ("input",))
    assert [found[f"conv_fc.{n}"][0] for n in fcs] == ["fc", "fc"]
    gates = [entry for entry in made.meta["layers"] if entry["kind"] == "gate"]
    assert [(gate["name"], gate["scale"]) for gate in gates] == [(f"conv_fc.{n - 1}", [2, 1]) for n in fcs]
    assert_lively(made, trace)


def test_event_counts_stay_counts(tmp_path):
    """Frames of events are whole numbers: the trace keeps them, and says how large they may be."""
    torch.manual_seed(0)
    model = in_steps(parametric_lif_net.DVSGestureNet(channels=2, **PLIF))
    made, _, _ = exported(model, counts(2, 128, 128), tmp_path / "t.npz", targets=TARGETS)
    assert made.meta["input"] == {"kind": "counts", "most": 7}
    assert (made.members["input.counts"] == counts(2, 128, 128).numpy()).all()
    assert made.meta["layers"][0]["kind"] == "conv"


# VGG and the residual networks


def test_spiking_vgg11_bn_has_its_layers_and_masks(tmp_path):
    """Its values would take minutes: its first product has 4096 x 25088 weights. A narrow one's are checked below."""
    torch.manual_seed(0)
    model = in_steps(spiking_vgg.spiking_vgg11_bn(num_classes=10, **IF))
    made = export.trace(model, images(3, 32, 32)[:, :1], TARGETS[:1], mean_loss, tmp_path / "t.npz", values=False)
    trace = h2sim.load_trace(tmp_path / "t.npz")
    trace.check()
    assert len(h2sim.simulate(machine(), trace).layer_table()) > len(trace.meta.layers)
    kinds = [kind for kind, _ in layers_of(made).values()]
    wanted = {"encode": 1, "conv": 7, "max pool~": 5, "pool~": 1, "fc": 2, "gate": 2, "fc~": 1}
    assert {kind: kinds.count(kind) for kind in kinds} == wanted
    (spread,) = (entry for entry in made.meta["layers"] if entry["kind"] == "pool" and "mode" not in entry)
    assert (spread["in_shape"], spread["out_shape"], spread["adaptive"]) == ([512, 1, 1], [512, 7, 7], True)
    assert_lively(made, trace)


def test_a_narrow_spiking_vgg_by_value(tmp_path):
    """SpikingVGG itself with other widths; the linear layers, whose sizes are fixed in the class, are put anew."""
    torch.manual_seed(0)
    model = spiking_vgg.SpikingVGG(
        cfg=[8, "M", 12, "M", 12, 12, "M"], batch_norm=True, num_classes=4, init_weights=False, **IF
    )
    fires = {"v_threshold": 0.1, "surrogate_function": RECT}
    model.classifier = nn.Sequential(
        layer.Linear(12 * 49, 16), neuron.IFNode(**fires), layer.Dropout(), layer.Linear(16, 4)
    )  # fmt: skip
    made, trace, report = exported(in_steps(model), images(3, 16, 16), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    convs = dict.fromkeys(("features.0", "features.4", "features.8", "features.11"), normed(HIDDEN))
    assert rows_of(report) == convs | {"classifier.0": HIDDEN, "classifier.3": READ_OUT}
    assert layers_of(made)["avgpool"] == ("pool~", ("features.14",))
    assert_lively(made, trace)


def blocks(*stages, first=1):
    """Names of the residual blocks of stages: of each whether it has a downsample."""
    return {f"layer{number}.{block}": down and block == 0
            for number, down in enumerate(stages, start=first) for block in range(2)}  # fmt: skip


def test_spiking_resnet18(tmp_path):
    torch.manual_seed(0)
    model = in_steps(spiking_resnet.spiking_resnet18(num_classes=10, **IF))
    made, trace, report = exported(model, images(3, 16, 16) * 2, tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    wanted = {"conv1": normed(HIDDEN), "fc": READ_OUT}
    for block, down in blocks(False, True, True, True).items():
        wanted |= {f"{block}.conv1": normed(HIDDEN), f"{block}.conv2": normed(CURRENT), f"{block}.sn2": pooled(HIDDEN)}
        wanted |= {f"{block}.downsample.0": normed(CURRENT)} if down else {}
    assert rows_of(report) == wanted
    found = layers_of(made)
    assert found["layer1.0.sn2"] == ("add", ("layer1.0.conv2", "maxpool"))
    assert found["layer1.1.sn2"] == ("add", ("layer1.1.conv2", "layer1.0.sn2"))
    assert found["layer2.0.sn2"] == ("add", ("layer2.0.conv2", "layer2.0.downsample.0"))
    assert_lively(made, trace)


SEW = {"ADD": "add~", "AND": "and add~", "IAND": "and_not add~"}


@pytest.mark.parametrize("cnf", SEW)
def test_sew_resnet18(cnf, tmp_path):
    """Between the blocks are sums, products or masked spikes, which derive from spikes: no row is their own."""
    torch.manual_seed(0)
    low = {**IF, "v_threshold": 0.05} if cnf == "AND" else IF
    model = in_steps(sew_resnet.sew_resnet18(num_classes=10, cnf=cnf, **low))
    made, trace, report = exported(model, images(3, 16, 16) * 2, tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    wanted = {"conv1": normed(HIDDEN), "fc": READ_OUT}
    for block, down in blocks(False, True, True, True).items():
        wanted |= {f"{block}.conv1": normed(HIDDEN), f"{block}.conv2": normed(HIDDEN)}
        wanted |= {f"{block}.downsample.0": normed(HIDDEN)} if down else {}
    assert rows_of(report) == wanted
    found = layers_of(made)
    kinds = [kind for kind, _ in found.values()]
    assert kinds.count(SEW[cnf]) == 8
    assert kinds.count("pool~") == 1
    assert_lively(made, trace)


def test_ms_resnet18_narrow(tmp_path):
    """The residual path carries currents: its neurons are layers of their own, and so is each sum of currents."""
    torch.manual_seed(0)
    model = ms_resnet.ms_resnet18(T=STEPS, num_classes=4, base_channels=8, stem_kernel_size=3, stem_stride=1)
    for module in model.modules():
        if isinstance(module, layer.BatchNorm2d):
            nn.init.ones_(module.weight)  # the class starts them at 0: nothing would flow back through a block
    made, trace, report = exported(in_steps(model), images(3, 16, 16), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    wanted = {"stem.0": normed(CURRENT), "head_lif": pooled(HIDDEN), "head": READ_OUT}
    for block, down in blocks(True, True, True, True).items():
        wanted |= {
            f"{block}.spike1": pooled(HIDDEN),
            f"{block}.conv1": normed(HIDDEN),
            f"{block}.conv2": normed(CURRENT),
        }
        wanted |= {f"{block}.downsample.0": normed(CURRENT)} if down else {}
    assert rows_of(report) == wanted
    found = layers_of(made)
    assert found["layer1.0.downsample.0"] == ("conv~", ("stem.0",))
    assert found["layer1.0.bn2.sum"] == ("add~", ("layer1.0.conv2", "layer1.0.downsample.0"))
    assert found["layer1.1.spike1"] == ("pool", ("layer1.0.bn2.sum",))
    assert found["head_lif"] == ("add", ("layer4.1.conv2", "layer4.0.bn2.sum"))
    assert_lively(made, trace)


# the example on Fashion-MNIST


def csnn():
    """The class CSNN of the example, out of its file: the example itself imports what draws curves."""
    import spikingjelly.activation_based as library

    source = ast.parse((Path(library.__file__).parent / "examples/conv_fashion_mnist.py").read_text(encoding="utf-8"))
    (found,) = (each for each in source.body if isinstance(each, ast.ClassDef) and each.name == "CSNN")
    names = {
        "nn": nn,
        "torch": torch,
        "layer": layer,
        "neuron": neuron,
        "surrogate": surrogate,
        "functional": functional,
    }
    exec(compile(ast.Module([found], []), "conv_fashion_mnist.py", "exec"), names)
    return names["CSNN"]


def rate_loss(output, targets):
    """The example's: mean squared error of the firing rates."""
    return nn.functional.mse_loss(output, nn.functional.one_hot(targets, 10).float())


def test_csnn_of_the_fashion_mnist_example(tmp_path):
    torch.manual_seed(0)
    image = torch.rand(N, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = csnn()(T=4, channels=4)
    with torch.no_grad():
        for linear in (model.conv_fc[9], model.conv_fc[11]):
            linear.weight.mul_(6)  # untrained, its last neurons are silent
    made, trace, report = exported(model, image, tmp_path / "t.npz", rate_loss, TARGETS, window_threshold=0.2)
    smooth = dict.fromkeys(("conv_fc.0", "conv_fc.4"), normed(HIDDEN) - {"grad_membrane"})
    assert rows_of(report) == smooth | {"conv_fc.9": LAST, "conv_fc.11": LAST}
    assert report.not_recomputed == ("conv_fc.0", "conv_fc.4", "conv_fc.9")  # ATan is no rectangle
    assert layers_of(made) == {
        "conv_fc.0": ("encode", ("input",)), "conv_fc.3": ("max pool~", ("conv_fc.0",)),
        "conv_fc.4": ("conv", ("conv_fc.3",)), "conv_fc.7": ("max pool~", ("conv_fc.4",)),
        "conv_fc.9": ("fc", ("conv_fc.7",)), "conv_fc.11": ("fc", ("conv_fc.9",)),
    }  # fmt: skip
    assert_lively(made, trace)


# single-step mode, and functional.multi_step_forward


class Steps(nn.Module):
    """Runs a network in single-step mode timestep by timestep: `functional.multi_step_forward`."""

    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return functional.multi_step_forward(x, self.net)


def fires():
    return neuron.LIFNode(tau=2.0, v_threshold=0.15, surrogate_function=RECT)


def stack(dropout=nn.Identity, behind=nn.Identity):
    """conv - norm - neuron - maximum - conv - norm - neuron - maximum - fc, for (2, 12, 12)."""
    torch.manual_seed(0)
    return [
        layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), fires(), layer.MaxPool2d(2), dropout(),
        layer.Conv2d(4, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6), fires(), layer.MaxPool2d(2),
        layer.Flatten(), layer.Linear(54, 3), behind(),
    ]  # fmt: skip


STACK = {"net.0": normed(HIDDEN), "net.5": normed(HIDDEN), "net.10": READ_OUT}


def test_single_step_mode(tmp_path):
    made, trace, report = exported(Steps(*stack()), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == STACK
    norms = {entry["name"]: entry["norm"]["over"] for entry in made.meta["layers"] if "norm" in entry}
    assert norms == {key: ["N", "H", "W"] for key in ("net.0", "net.5")}  # of each timestep
    assert_lively(made, trace)


def test_both_modes_give_the_same_layers(tmp_path):
    whole = nn.Sequential()
    whole.net = nn.Sequential(*stack())
    made, trace, report = exported(in_steps(whole), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert rows_of(report) == STACK
    assert layers_of(made) == layers_of(export.trace(Steps(*stack()), events(2, 12, 12), TARGETS, mean_loss))
    norms = {entry["name"]: entry["norm"]["over"] for entry in made.meta["layers"] if "norm" in entry}
    assert norms == {key: ["T", "N", "H", "W"] for key in ("net.0", "net.5")}
    assert_lively(made, trace)


# dropout in training


DROPOUTS = {
    "layer.Dropout": lambda: layer.Dropout(0.25),
    "layer.Dropout2d": lambda: layer.Dropout2d(0.25),
    "nn.Dropout": lambda: nn.Dropout(0.25),
    "nn.Dropout2d": lambda: nn.Dropout2d(0.25),
    "F.dropout": lambda: Functional(lambda x: nn.functional.dropout(x, 0.25, training=True)),
    "as on a GPU": lambda: Functional(lambda x: torch.native_dropout(x, 0.25, True)[0]),
    "F.dropout2d": lambda: Functional(lambda x: nn.functional.dropout2d(x, 0.25, training=True)),
}


@pytest.mark.parametrize("dropout", DROPOUTS)
def test_dropout_of_spikes_is_a_gate(dropout, tmp_path):
    made, trace, report = exported(
        Steps(*stack(DROPOUTS[dropout])), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS
    )
    assert report.unchecked == ()
    assert rows_of(report) == STACK
    (gate,) = (entry for entry in made.meta["layers"] if entry["kind"] == "gate")
    assert (gate["scale"], gate["inputs"], gate["in_shape"]) == ([4, 3], ["net.3"], [4, 6, 6])
    kept = unpacked(made, gate)
    assert 0.5 < kept.mean() < 0.95
    if "2d" in dropout:
        assert (kept.all((-1, -2)) | ~kept.any((-1, -2))).all()
    assert len(kept) == (1 if dropout.startswith("layer") else STEPS)  # SpikingJelly's keeps one mask for all timesteps
    assert_lively(made, trace)


def unpacked(made, gate):
    """What a gate kept, bool (T or 1, N, C, H, W)."""
    packed = made.members[f"{gate['name']}.kept"]
    shape = gate["in_shape"]
    flat = numpy.unpackbits(packed, axis=2)[..., : int(numpy.prod(shape))]
    return flat.reshape(*packed.shape[:2], *shape).astype(bool)


def test_dropout_in_multi_step_mode(tmp_path):
    model = in_steps(nn.Sequential(*stack(lambda: layer.Dropout(0.25))))
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    (gate,) = (entry for entry in made.meta["layers"] if entry["kind"] == "gate")
    assert (gate["name"], len(unpacked(made, gate))) == ("4", 1)
    assert not any("read-out" in note for note in made.notes)
    assert report.unchecked == ()
    assert_lively(made, trace)


def test_no_dropout_in_evaluation(tmp_path):
    model = Steps(*stack(lambda: layer.Dropout(0.25)))
    model.net[4].eval()
    made, _, _ = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert "gate" not in [entry["kind"] for entry in made.meta["layers"]]


@pytest.mark.parametrize("norm", [lambda: layer.BatchNorm2d(4), nn.Identity], ids=["normed", "plain"])
def test_dropout_of_currents(norm, tmp_path):
    """What a neuron reads through a gate is no current of its layer of weights: the neuron is a layer of its own."""
    torch.manual_seed(0)
    model = Steps(
        layer.Conv2d(2, 4, 3, padding=1, bias=False), norm(), layer.Dropout(0.25), fires(), layer.Flatten(),
        layer.Linear(576, 3),
    )  # fmt: skip
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert layers_of(made) == {
        "net.0": ("conv~", ("input",)), "net.2": ("gate", ("net.0",)), "net.3": ("pool", ("net.2",)),
        "net.5": ("fc~", ("net.3",)),
    }  # fmt: skip
    conv = CURRENT if norm is nn.Identity else normed(CURRENT)
    assert rows_of(report) == {"net.0": conv, "net.3": pooled(HIDDEN), "net.5": READ_OUT}
    assert_lively(made, trace)


@pytest.mark.parametrize("dropout", ["layer.Dropout", "nn.Dropout", "F.dropout"])
def test_dropout_behind_the_last_layer_is_read_out(dropout, tmp_path):
    model = Steps(*stack(behind=DROPOUTS[dropout]))
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert rows_of(report) == STACK
    assert list(layers_of(made)) == ["net.0", "net.3", "net.5", "net.8", "net.10"]
    assert any("read-out, not a layer" in note for note in made.notes)
    assert_lively(made, trace)


# what is refused


class Before(nn.Module):
    """A layer of the library in front of a product, and a neuron before it: (T, N, F)."""

    def __init__(self, between, out=20):
        super().__init__()
        self.fc, self.lif, self.between, self.last = layer.Linear(20, 20), fires(), between, layer.Linear(out, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.last(self.between(self.lif(self.fc(x))))


REFUSED = {
    "Delay": (lambda: layer.Delay(1), "between: Delay: cannot be exported: spikes of earlier timesteps"),
    "SynapseFilter": (
        lambda: layer.SynapseFilter(tau=2.0),
        "between: SynapseFilter: cannot be exported: a state of its own",
    ),
    "PSN": (lambda: neuron.PSN(T=STEPS), "between: PSN: cannot be exported: .*whose equation h2sim does not know"),
    "recurrence": (
        lambda: layer.LinearRecurrentContainer(fires(), 20, 20),
        "between: LinearRecurrentContainer: cannot be exported: recurrent connections, which the machine does not have",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_is_refused_by_name(name):
    make, why = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=f"^{why}") as caught:
        export.trace(Before(make()), events(20), TARGETS, mean_loss)
    assert "\n" not in str(caught.value)


class Attends(nn.Module):
    """A convolution, a neuron and Spikformer's block."""

    def __init__(self):
        super().__init__()
        self.conv, self.lif, self.fc = layer.Conv2d(2, 8, 3, padding=1), fires(), nn.Linear(8, 3)
        self.block = spikformer.SpikformerBlock(8, 2)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.fc(self.block(self.lif(self.conv(x))).flatten(3).mean(3))


def test_attention_is_planned():
    with pytest.raises(ExportError) as caught:
        export.trace(Attends(), events(2, 4, 4), TARGETS, mean_loss)
    lines = str(caught.value).split("\n")
    (line,) = (line for line in lines if "attention" in line)
    assert line.startswith("block.attn.attn_lif: reads: ")
    assert line.endswith("got the operation Bmm on the way (attention between spikes is planned and not yet there)")
    assert [line.partition(":")[0] for line in lines if "Conv1d" in line] == [
        "block.attn.qkv_conv_bn.0", "block.attn.proj_conv_bn.0", "block.mlp.fc1.0", "block.mlp.fc2.0",
    ]  # fmt: skip


# other layers of the library


class Flattened(nn.Module):
    """The global average as Spikformer's head has it."""

    def forward(self, x):
        return x.flatten(-2).mean(-1)


def average_heads():
    return {
        "AdaptiveAvgPool2d": [layer.AdaptiveAvgPool2d(1), layer.Flatten()],
        "flatten and mean": [Flattened()],
        "mean of axes": [Functional(lambda x: x.mean((-2, -1)))],
    }


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("head", average_heads())
def test_a_global_average(head, mode, tmp_path):
    torch.manual_seed(0)
    layers = [layer.Conv2d(2, 4, 3), fires(), *average_heads()[head], layer.Linear(4, 3)]
    model = Steps(*layers) if mode == "s" else in_steps(nn.Sequential(*layers))
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    conv, pool, fc = made.meta["layers"]
    assert (pool["kind"], pool["kernel"], pool["out_shape"]) == ("pool", [10, 10], [4, 1, 1])
    assert rows_of(report) == {conv["name"]: HIDDEN, fc["name"]: READ_OUT}
    assert_lively(made, trace)


NORMS = {
    "ThresholdDependentBatchNorm2d": lambda: layer.ThresholdDependentBatchNorm2d(1.0, 0.15, 4),
    "TemporalEffectiveBatchNorm2d": lambda: layer.TemporalEffectiveBatchNorm2d(STEPS, 4),
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_over_time(norm, tmp_path):
    torch.manual_seed(0)
    fc = layer.Linear(400, 3)
    low = neuron.IFNode(0.05, surrogate_function=RECT)
    model = in_steps(nn.Sequential(layer.Conv2d(2, 4, 3), NORMS[norm](), low, layer.Flatten(), fc))
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert made.meta["layers"][0]["norm"]["over"] == ["T", "N", "H", "W"]
    assert rows_of(report) == {"0": normed(HIDDEN), "4": READ_OUT}
    assert_lively(made, trace)
