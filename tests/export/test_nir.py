"""A NIR graph gives the layers of a network, or one line that names the node which no trace can hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.errors import ExportError
from h2sim.trace import Sparsity, load_trace, synthesise, write_trace

nir = pytest.importorskip("nir")

from h2sim.export import load_nir  # noqa: E402


def lif(*shape):
    return nir.LIF(np.ones(shape), np.ones(shape), np.zeros(shape), np.ones(shape))


def conv(out, size, inputs=2, kernel=3, stride=1, padding=1, dilation=1, groups=1, **_):
    weight = np.ones((out, inputs // groups, kernel, kernel))
    return nir.Conv2d((size, size), weight, stride, padding, dilation, groups, np.ones(out))


def pool(cls=nir.AvgPool2d):
    return cls(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))


def graph(nodes, edges, shape=(2, 8, 8), out=10):
    every = {"input": nir.Input(np.array(shape)), **nodes, "output": nir.Output(np.array([out]))}
    return nir.NIRGraph(every, edges, type_check=False)


def chain(*nodes, shape=(2, 8, 8), out=10):
    named = {f"{type(node).__name__.lower()}{i}": node for i, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    return graph(named, list(itertools.pairwise(names)), shape, out)


def residual(cls=nir.AvgPool2d):
    nodes = {
        "c1": conv(4, 8), "l1": lif(4, 8, 8), "c2": conv(4, 8, 4, padding="same"), "l2": lif(4, 8, 8), "p": pool(cls),
        "l3": lif(4, 4, 4), "f": nir.Flatten(np.array([4, 4, 4]), 0), "fc": nir.Affine(np.ones((10, 64)), np.ones(10)),
        "li": nir.LI(np.ones(10), np.ones(10), np.zeros(10)),
    }  # fmt: skip
    edges = [
        ("input", "c1"), ("c1", "l1"), ("l1", "c2"), ("c2", "l2"), ("l1", "l2"), ("l2", "p"), ("p", "l3"), ("l3", "f"),
        ("f", "fc"), ("fc", "li"), ("li", "output"),
    ]  # fmt: skip
    return graph(nodes, edges)


def test_a_residual_graph_from_a_file_can_be_synthesised(tmp_path):
    nir.write(tmp_path / "net.nir", residual())
    network = load_nir(tmp_path / "net.nir", timesteps=3)
    assert (network.name, network.input_shape, network.timesteps) == ("net", (2, 8, 8), 3)
    assert [(e["name"], e["kind"], e["inputs"], e.get("spiking", True)) for e in network.layers] == [
        ("c1", "conv", ["input"], True),
        ("c2", "conv", ["c1"], False),
        ("l2", "add", ["c2", "c1"], True),
        ("p", "pool", ["l2"], True),
        ("fc", "fc", ["p"], False),
    ]
    write_trace(tmp_path / "t.npz", *synthesise(network, 3, 2, Sparsity(0.5, 0.5, 0.5), 0))
    assert load_trace(tmp_path / "t.npz").meta.layer("p").out_shape == (4, 4, 4)


def test_a_batch_of_1_in_front_of_the_inputs_shape_is_left_out_and_said(tmp_path):
    graphs = {
        (1, 2, 8, 8): residual(),
        (1, 6): chain(nir.Linear(np.ones((10, 6))), lif(10), shape=(6,)),
    }
    for shape, plain in graphs.items():
        expected = load_nir(plain)
        assert "batch" not in expected.source
        plain.nodes["input"].input_type = {"input": np.array(shape)}
        nir.write(tmp_path / "batched.nir", plain)
        for found in (load_nir(plain), load_nir(tmp_path / "batched.nir")):
            assert (found.input_shape, found.layers) == (expected.input_shape, expected.layers)
            assert found.source.endswith("; input: the batch of 1 in front of its shape is left out")


def test_a_batch_of_several_is_refused(tmp_path):
    odd = residual()
    odd.nodes["input"].input_type = {"input": np.array((4, 2, 8, 8))}
    with pytest.raises(
        ExportError,
        match=r"input: expected an input of shape \(C, H, W\) or \(F,\), without a batch; got \[4, 2, 8, 8\]",
    ):
        load_nir(odd)


def test_an_analog_input_is_read_by_an_encoding_layer():
    network = load_nir(residual(), input_kind="analog", name="mine")
    assert (network.name, network.input_kind) == ("mine", "analog")
    assert network.layers[0]["kind"] == "encode"
    flat = load_nir(chain(nir.Linear(np.ones((10, 6))), lif(10), shape=(6,)), input_kind="analog")
    assert flat.layers[0]["in_shape"] == [6, 1, 1]
    with pytest.raises(ExportError, match="NIR graph: input_kind: expected 'spikes' or 'analog'; got 'counts'"):
        load_nir(residual(), input_kind="counts")


def test_what_reads_an_analog_input_may_be_a_map_or_a_neuron():
    pooled = load_nir(chain(pool(), conv(4, 4), lif(4, 4, 4)), input_kind="analog")
    assert named(pooled) == [("avgpool2d0", "pool", "input", "map"), ("conv2d1", "conv", "avgpool2d0")]
    assert pooled.input_entry == {"kind": "analog"}
    fires = load_nir(chain(lif(2, 8, 8), conv(4, 8), lif(4, 8, 8)), input_kind="analog")
    assert named(fires)[0] == ("lif0", "pool", "input")


def named(network):
    """Name, kind and inputs of each layer, and 'map' for one without neurons."""
    spiking = [layer.get("spiking", layer["kind"] not in ("gate", "concat")) for layer in network.layers]
    return [
        (layer["name"], layer["kind"], *layer["inputs"], *(() if fires else ("map",)))
        for layer, fires in zip(network.layers, spiking, strict=True)
    ]


def counted(network, tmp_path):
    """The cycles of a synthetic trace of a network: it is written, read back and simulated."""
    write_trace(tmp_path / "t.npz", *synthesise(network, 2, 2, Sparsity(0.5, 0.5, 0.5), 0))
    return h2sim.simulate(h2sim.load_arch("h2learn"), load_trace(tmp_path / "t.npz")).activity.steady_cycles


def test_a_sum_pool_sums_in_front_of_neurons_and_of_weights(tmp_path):
    fires = load_nir(residual(nir.SumPool2d))
    assert fires.layers[3]["mode"] == "sum"
    assert fires.layers[3].get("spiking", True)
    assert "mode" not in load_nir(residual()).layers[3]
    passes = load_nir(chain(conv(4, 8), lif(4, 8, 8), pool(nir.SumPool2d), conv(4, 4, 4), lif(4, 4, 4)))
    assert named(passes)[1:] == [("sumpool2d2", "pool", "conv2d0", "map"), ("conv2d3", "conv", "sumpool2d2")]
    assert counted(fires, tmp_path) > 0
    assert counted(passes, tmp_path) > 0


def linear(out, inputs):
    return nir.Linear(np.ones((out, inputs)))


def test_what_reads_several_nodes_reads_their_sum(tmp_path):
    nodes = {"c1": conv(4, 8), "l1": lif(4, 8, 8), "c2": conv(4, 8, 4), "l2": lif(4, 8, 8), "f": flatten(4, 8, 8),
             "fc": linear(10, 256)}  # fmt: skip
    edges = [*itertools.pairwise(["input", *nodes, "output"]), ("l1", "f")]
    network = load_nir(graph(nodes, edges))
    assert named(network)[2:] == [("f.sum", "add", "c1", "c2", "map"), ("fc", "fc", "f.sum", "map")]
    assert counted(network, tmp_path) > 0
    assert named(load_nir(graph(nodes, edges[::-1]))) == named(network)  # exporters write edges in any order
    nodes["f.sum"] = lif(4, 8, 8)
    taken = load_nir(graph(nodes, [*edges, ("l2", "f.sum")]))
    assert ("f.sum-2", "add", "c1", "c2", "map") in named(taken)


def test_nodes_that_read_the_same_read_one_sum():
    nodes = {"a": conv(4, 8), "la": lif(4, 8, 8), "b": conv(4, 8), "lb": lif(4, 8, 8), "c": conv(4, 8, 4),
             "d": conv(4, 8, 4), "l": lif(4, 8, 8)}  # fmt: skip
    edges = [("input", "a"), ("a", "la"), ("input", "b"), ("b", "lb"), ("c", "l"), ("d", "l"),
             *((spikes, weights) for spikes in ("la", "lb") for weights in "cd")]  # fmt: skip
    assert named(load_nir(graph(nodes, edges)))[2:] == [
        ("c.sum", "add", "a", "b", "map"), ("c", "conv", "c.sum", "map"), ("d", "conv", "c.sum", "map"),
        ("l", "add", "c", "d"),
    ]  # fmt: skip


def flatten(*shape):
    return nir.Flatten(np.array(shape), 0)


def test_a_sum_of_flattened_maps_is_of_the_maps():
    nodes = {"c1": conv(4, 8), "c2": conv(4, 8), "f1": flatten(4, 8, 8), "f2": flatten(4, 8, 8), "l": lif(256)}
    edges = [("input", "c1"), ("input", "c2"), ("c1", "f1"), ("c2", "f2"), ("f1", "l"), ("f2", "l"), ("l", "output")]
    network = load_nir(graph(nodes, edges))
    assert named(network)[2] == ("l", "add", "c1", "c2")
    assert network.layers[2]["in_shape"] == [4, 8, 8]
    alone = load_nir(chain(flatten(2, 8, 8), lif(128), flatten(128), lif(128)))
    assert [layer["in_shape"] for layer in alone.layers] == [[2, 8, 8], [2, 8, 8]]


def test_the_shapes_that_an_output_states_say_nothing():
    expected = load_nir(residual()).layers
    for shape in (np.array([1, 10]), (1, 1, 10), [7], None):
        stated = residual()
        stated.nodes["output"] = nir.Output(shape)
        assert load_nir(stated).layers == expected


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), [1, 2, 8, 8], np.array([1, 2, 8, 8]), np.array([1.0, 2, 8, 8])])
def test_a_batch_of_1_is_found_however_it_is_written(shape):
    for stated in (shape, {"input": shape}, {"anything": shape}):
        plain = residual()
        plain.nodes["input"].input_type = stated
        assert load_nir(plain).input_shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (lambda: chain(conv(3, 8, inputs=4, groups=2), lif(3, 8, 8)),
         "conv2d0: expected groups that divide 2 and 3 channels; got 2"),
        (lambda: chain(conv(4, 8, dilation=2), lif(4, 4, 4)), r"conv2d0: expected dilation 1.*got \[2, 2\]"),
        (lambda: chain(conv(4, 8, 3), lif(4, 8, 8)), r"conv2d0: expected a weight \(C, 2, kh, kw\).*got"),
        (lambda: chain(conv(4, 8, kernel=2, padding="same"), lif(4, 8, 8)), "conv2d0: .*'same' with kernel"),
        (lambda: chain(nir.Linear(np.ones((3, 5))), lif(3)), r"linear0: expected a weight \(F, 128\); got \(3, 5\)"),
        (lambda: chain(conv(4, 8), nir.Threshold(np.ones((4, 8, 8)))),
         r"threshold1: expected a neuron with a membrane, LIF, CubaLIF or IF; got a Threshold \(write an integrator"),
        (lambda: chain(nir.Delay(np.ones(6)), linear(3, 6), lif(3), shape=(6,)), "delay0: expected no delays, which"),
        (lambda: chain(nir.Conv1d(6, np.ones((3, 2, 3)), 1, 1, 1, 1, np.ones(3)), lif(3, 6)),
         r"conv1d0: expected a convolution in two dimensions; got a Conv1d \(write it as a Conv2d over \(C, L, 1\)"),
        (lambda: graph({"c": nir.Conv2d((7, 8), np.ones((4, 2, 3, 3)), 1, 1, 1, 1, np.ones(4))}, [("input", "c")]),
         r"c: expected an input_shape of \[8, 8\]; got \(7, 8\)"),
        (lambda: graph({"the network input": lif(3)}, [("input", "the network input")], (3,)),
         "the network input: expected another name of a node; got this one, which stands for the input"),
        (lambda: chain(flatten(2, 8, 8)), "model: layers: expected a neuron or a layer of weights; got none"),
        (lambda: graph({"a": None}, [("input", "a")]), "a: expected a node; got none .its exporter could not transl"),
        (lambda: graph({"a": nir.NIRNode}, [("input", "a")]), "a: expected one of Conv2d, .*, Scale, .*; got ABCMeta"),
        (lambda: graph({"f": flatten(3), "a": lif(3)}, [("input", "a"), ("input", "f"), ("f", "a")], (3,)),
         r"a: expected each input once; got the network input \+ the network input .double it by its weights"),
        (lambda: graph({"c": conv(4, 8), "f": flatten(4, 8, 8), "g": linear(256, 256), "l": lif(256)},
                       [("input", "c"), ("c", "f"), ("f", "g"), ("g", "l"), ("f", "l")]),
         r"l: expected inputs that are all \[4, 8, 8\] before they are flattened; got g of \[256\] .flatten behind"),
        (lambda: chain(pool(), lif(4), shape=(6,)), r"avgpool2d0: expected an input of shape \(C, H, W\); got \[6\]"),
        (lambda: chain(conv(4, 8, kernel=9, padding=0), lif(4, 1, 1)), "conv2d0: expected a window that fits"),
        (lambda: chain(lif(2, 8, 8), shape=(8, 8)),
         r"input: expected an input of shape \(C, H, W\) or \(F,\), without a batch; got"),
        (lambda: chain(nir.Linear(np.ones((3, 6))), nir.LI(*np.ones((3, 3))), lif(3), shape=(6,)),
         "li1: expected a LI at the output only; got lif2 behind it"),
        (lambda: graph({"a": lif(3)}, [("input", "a"), ("a", "b")], (3,)), "edges: expected names of nodes; got a"),
        (lambda: graph({"a": lif(3), "b": lif(3)}, [("input", "a"), ("a", "output")], (3,)), "b: expected an edge"),
        (lambda: graph({"f": nir.Linear(np.ones((3, 3))), "a": lif(3)},
                       [("input", "f"), ("f", "a"), ("a", "f"), ("a", "output")], (3,)),
         "f, a: expected edges without a cycle; got recurrent connections"),
        (lambda: graph({"f": nir.Linear(np.ones((2, 3))), "a": lif(3)},
                       [("input", "f"), ("f", "a"), ("input", "a"), ("a", "output")], (3,)),
         r"a: expected inputs of one shape \[2\]; got input of \[3\]"),
        (lambda: graph({"x": nir.Input(np.array([3])), "a": lif(3)}, [("input", "a")], (3,)), "Input: expected one"),
    ],
)  # fmt: skip
def test_a_node_that_no_trace_can_hold_is_refused_by_name(found, why):
    with pytest.raises(ExportError, match=rf"^NIR graph: {why}") as caught:
        load_nir(found())
    assert "\n" not in str(caught.value)


def test_every_node_that_no_trace_can_hold_has_a_line():
    nodes = {
        "d": nir.Delay(np.ones((2, 8, 8))), "c1": conv(4, 8, dilation=2), "l1": lif(4, 4, 4), "none": None,
        "c2": conv(4, 8), "r": lif(4, 8, 8), "again": conv(4, 8, 4), "t": nir.Threshold(np.ones(2)), "lost": lif(3),
    }  # fmt: skip
    edges = [("input", "d"), ("d", "c1"), ("c1", "l1"), ("l1", "none"), ("none", "t"), ("input", "c2"), ("c2", "r"),
             ("r", "again"), ("again", "r"), ("r", "output")]  # fmt: skip
    with pytest.raises(ExportError) as caught:
        load_nir(graph(nodes, edges))
    lines = caught.value.args
    assert all(line.startswith("NIR graph: ") for line in lines)
    assert [line.split(": ")[1] for line in lines] == ["d", "c1", "none", "t", "r, again", "lost"]


def test_the_command_line_takes_a_file_or_says_all_that_it_cannot(tmp_path):
    plain = chain(conv(4, 8), lif(4, 8, 8), pool(nir.SumPool2d), conv(4, 4, 4), lif(4, 4, 4))
    nir.write(tmp_path / "net.nir", plain)
    shown = CliRunner().invoke(main, ["workload", "show", str(tmp_path / "net.nir")])
    assert "pool, no LIF" in shown.output
    options = ["--sparsity", "0.5", "--timesteps", "2", "--batch", "1", "-o", str(tmp_path / "t.npz")]
    made = CliRunner().invoke(main, ["trace", "synth", str(tmp_path / "net.nir"), *options])
    assert made.exit_code == 0, made.output
    assert load_trace(tmp_path / "t.npz").meta.version == 2
    plain.nodes["conv2d0"].dilation = plain.nodes["conv2d3"].dilation = np.array([2, 2])
    nir.write(tmp_path / "net.nir", plain)
    refused = CliRunner().invoke(main, ["workload", "show", str(tmp_path / "net.nir")])
    assert refused.exit_code == 2
    assert refused.output.count("expected dilation 1") == 2


def test_a_file_that_is_no_graph_is_one_line(tmp_path):
    (tmp_path / "bad.nir").write_bytes(b"not HDF5")
    for name in ("bad.nir", "none.nir"):
        with pytest.raises(ExportError, match=rf"{name}: file: expected a NIR graph in HDF5; got"):
            load_nir(tmp_path / name)
