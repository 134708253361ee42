"""Networks of the sources and `h2sim workload`: sizes, notation, what is printed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from h2sim.arch import load_arch
from h2sim.cli import main
from h2sim.errors import NetworkError
from h2sim.facade import simulate
from h2sim.io import library
from h2sim.report.workloads import layers_of, multiply_adds, network_dict, totals
from h2sim.trace import Sparsity, load_network, load_trace, synthesise, write_trace


def invoke(*arguments):
    return CliRunner().invoke(main, ["workload", *map(str, arguments)])


# parameter counts that HIRE-SNN's table 1 prints for CIFAR10, and the notation of plain ones
@pytest.mark.parametrize("form", ["", "-dropout"])
@pytest.mark.parametrize(("name", "millions"), [("vgg5", 50.6), ("vgg11", 61.36), ("resnet12", 4.99)])
def test_networks_have_as_many_weights_as_their_source_prints(name, millions, form):
    digits = len(str(millions).split(".")[1])
    layers = layers_of(load_network(name + form))
    assert round(totals(layers)["weights"] / 1e6, digits) == millions
    assert not any(layer.has_bias for layer in layers) or not form


@pytest.mark.parametrize(
    ("name", "weighted"),
    [
        ("vgg6", 6), ("vgg16", 16), ("resnet20", 20), ("resnet34", 34), ("vgg6-dropout", 6), ("vgg16-dropout", 16),
        ("resnet20-dropout", 20), ("resnet34-bn", 34), ("vgg6-bn-max", 6),
    ],
)  # fmt: skip
def test_networks_have_as_many_layers_as_their_name_says(name, weighted):
    layers = load_network(name).layers
    assert (
        sum(1 for la in layers if la["kind"] in ("conv", "encode", "fc") and "shortcut" not in la["name"]) == weighted
    )


def test_every_network_of_the_sources_is_there():
    sources = {"mnist", "cifar10", "nmnist", "cifar10-dvs", "imagenet", "loihi", "fpga", "gpu-cifar10", "gpu-alexnet"}
    others = {"resnet34", "vgg5", "vgg11", "resnet12", "vgg6", "vgg16", "resnet20", "robust-fc", "robust-conv"}
    assert sources | others <= set(library.names("network"))


@pytest.mark.parametrize(
    ("own", "ours"),
    [(f"{name}-dropout", name) for name in ("vgg5", "vgg6", "vgg11", "vgg16", "resnet12", "resnet20")]
    + [(f"{name}-bn", name) for name in ("resnet34", "gpu-cifar10", "gpu-alexnet")],
)
def test_a_network_in_its_sources_form_has_the_weights_of_ours_and_what_ours_leaves_out(own, ours):
    theirs, plain = (layers_of(load_network(name)) for name in (own, ours))
    shapes = [[layer.weight_shape for layer in layers if layer.has_weights] for layers in (theirs, plain)]
    assert shapes[0] == shapes[1]
    assert "own form" in load_network(own).source
    assert "own form" not in load_network(ours).source
    pools = [layer for layer in theirs if layer.kind == "pool" and layer.kernel != (1, 1)]
    assert not any(layer.spiking for layer in pools)
    if own.endswith("-bn"):
        last_lif = [layer.name for layer in theirs if layer.has_weights][-1 if ours != "gpu-alexnet" else -2 :]
        assert {layer.name for layer in theirs if layer.has_weights and not layer.norm} == set(last_lif)
        assert theirs[-1].mean_over_time
    else:
        assert any(layer.kind == "gate" for layer in theirs)
        assert len(pools) == sum(1 for layer in plain if layer.kind == "pool")


@pytest.mark.parametrize("name", ["resnet12", "resnet20", "vgg16", "attack-gesture", "robust-conv"])
def test_residual_and_plain_networks_of_other_papers_run(tmp_path, name):
    meta, members = synthesise(load_network(name), 1, 1, Sparsity(0.9, 0.8, 0.9), seed=0)
    write_trace(tmp_path / "t.npz", meta, members, compress=False)
    assert simulate(load_arch("h2learn"), load_trace(tmp_path / "t.npz")).activity.steady_cycles > 0


def test_another_data_set_changes_the_input_and_the_classes():
    network = load_network("vgg5", (1, 28, 28), 7)
    assert network.input_shape == (1, 28, 28)
    assert network.layers[-1]["out_features"] == 7
    assert load_network("vgg5").layers[-1]["out_features"] == 10
    with pytest.raises(NetworkError, match=r"conv256: last layer: expected kind 'fc', to give it .*; got 'conv'"):
        load_network("conv256", classes=10)


@pytest.mark.parametrize("classes", [0, -1, True, 2.5, 1 << 40])
def test_classes_that_cannot_be_are_refused(classes):
    with pytest.raises(NetworkError, match=r"mnist: classes: expected an integer from 1 to 1048576; got"):
        load_network("mnist", classes=classes)


def test_a_network_file_may_give_the_neuron_of_its_source(tmp_path):
    assert load_network("robust-fc").neuron == {"threshold": 0.25, "decay": 0.25, "window": (-0.25, 0.75)}
    assert load_network("mnist").neuron is None
    meta, _ = synthesise(load_network("robust-fc"), 2, 1, Sparsity(0.9, 0.8, 0.9), seed=0)
    assert (meta["neuron"]["threshold"], list(meta["neuron"]["window"])) == (0.25, [-0.25, 0.75])
    text = "name: n\ntimesteps: 2\ninput: {shape: [1, 4, 4], kind: spikes}\nlayers: 10FC\nneuron: {treshold: 1.0}\n"
    (tmp_path / "n.yaml").write_text(text)
    with pytest.raises(NetworkError, match=r"neuron\.treshold"):
        load_network(str(tmp_path / "n.yaml"))


def test_multiply_adds_are_positions_times_weights():
    conv, fc = layers_of(load_network("8C3S2-10FC", (2, 6, 6)))
    assert multiply_adds(conv) == 3 * 3 * 8 * 2 * 9
    assert multiply_adds(fc) == 8 * 9 * 10


def test_list_names_networks_data_sets_and_traces():
    done = invoke("list")
    assert done.exit_code == 0
    for name in (*library.names("network"), *library.names("trace"), "saccade-mnist", "fashion-mnist", "cifar100"):
        assert name in done.output


def test_show_prints_layers_and_totals_and_writes_them(tmp_path):
    done = invoke("show", "resnet12", "--json", tmp_path / "n.json")
    assert done.exit_code == 0
    assert "4,986,560" in done.output
    assert "block128.conv2 + block128.shortcut" in done.output
    data = json.loads((tmp_path / "n.json").read_text())
    assert data == json.loads(json.dumps(network_dict(load_network("resnet12"))))
    assert data["totals"]["weights"] == sum(layer["weights"] for layer in data["layers"])


def test_show_takes_a_notation_with_its_input_shape():
    done = invoke("show", "4C3-AP2-10FC", "--input-shape", "1,8,8")
    assert done.exit_code == 0
    assert "fc1" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere"], "nowhere: no such network"),
        (["show", "4C3-10FC"], "input shape: expected C,H,W beside a notation; got nothing"),
        (["show", "4C3-10FC", "--input-shape", "8,8"], "expected positive integers C,H,W; got '8,8'"),
        (["show", "mnist", "--json", "/nowhere/x.json"], "cannot be written"),
    ],
)
def test_wrong_use_is_exit_status_2(arguments, message):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_nir_graph_shows_as_a_network(tmp_path):
    nir = pytest.importorskip("nir")
    import numpy as np

    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "fc": nir.Affine(np.zeros((4, 6), np.float32), np.zeros(4, np.float32)),
        "lif": nir.LIF(np.full(4, 2.0), np.ones(4), np.zeros(4), np.ones(4), np.zeros(4)),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(tmp_path / "m.nir", nir.NIRGraph(nodes, edges))
    done = invoke("show", tmp_path / "m.nir")
    assert done.exit_code == 0, done.output
    assert "fc" in done.output
    refused = invoke("show", tmp_path / "m.nir", "--input-shape", "1,2,3")
    assert refused.exit_code == 2
    assert "expected no other input shape or classes than the graph's own" in refused.output


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    meta, members = synthesise(load_network("4C3-10FC", (1, 6, 6)), 1, 1, Sparsity(0.5, 0.5, 0.5), seed=0)
    conv, fc = meta["layers"]
    layers = [{**conv, "name": "[bold]c"}, {**fc, "inputs": ["[bold]c"]}]
    renamed = {name.replace("conv1", "[bold]c"): array for name, array in members}
    write_trace(tmp_path / "t.npz", {**meta, "network": "[/b]x", "layers": layers}, renamed)
    for command in (["trace", "info"], ["run", "h2learn"]):
        done = CliRunner().invoke(main, [*command, str(tmp_path / "t.npz")])
        assert done.exit_code == 0, done.output
        assert "[/b]x" in done.output
        assert "[bold]c" in done.output
