"""Factors and graphs in a NIR graph: they go to the weights beside them, and their nodes to the graph around them."""

from __future__ import annotations

import random

import numpy as np
import pytest

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import load_nir  # noqa: E402
from h2sim.export.nirgraph import MOST_NESTED  # noqa: E402
from tests.export.test_nir import chain, conv, counted, flatten, graph, lif, linear, named, pool, residual  # noqa: E402
from tests.export.test_odd_nir import odd_value, outcome, put  # noqa: E402

EACH = {
    "one": [np.full(shape, 0.5) for shape in [(), (1,), (1, 1, 1), (4, 8, 8), (1, 4, 8, 8)]],
    "channel": [
        np.arange(1.0, 5), np.arange(1.0, 5).reshape(4, 1, 1), np.broadcast_to(np.arange(4)[:, None, None], (4, 8, 8)),
    ],
    "element": [np.arange(256.0).reshape(4, 8, 8)],
}  # fmt: skip
BEFORE = (conv(4, 8), lif(4, 8, 8))
BESIDE = {
    "behind a convolution": (("one", "channel"), lambda scale: (conv(4, 8), scale, lif(4, 8, 8))),
    "in front of one": (("one", "channel"), lambda scale: (*BEFORE, scale, conv(4, 8, 4), lif(4, 8, 8))),
    "in front of a product": (tuple(EACH), lambda scale: (*BEFORE, scale, flatten(4, 8, 8), linear(3, 256))),
    "behind the last neurons": (tuple(EACH), lambda scale: (*BEFORE, scale)),
}
BESIDE |= {f"{place}, last": (each, lambda scale, make=make: (*make(scale), nir.LI(*np.ones((3, 1)))))
           for place, (each, make) in BESIDE.items()}  # fmt: skip


@pytest.mark.parametrize("place", BESIDE)
@pytest.mark.parametrize("each", EACH)
def test_a_factor_belongs_to_the_weights_beside_it(place, each):
    takes, make = BESIDE[place]
    for values in EACH[each]:
        plain = [node for node in make(nir.Scale(values)) if not isinstance(node, nir.Scale)]
        expected = [{**layer, "name": "", "inputs": ""} for layer in load_nir(chain(*plain)).layers]
        if each in takes:
            layers = load_nir(chain(*make(nir.Scale(values)))).layers
            assert [{**layer, "name": "", "inputs": ""} for layer in layers] == expected
        else:
            with pytest.raises(ExportError, match=r"scale\d: expected one factor, or one for each channel, that weigh"):
                load_nir(chain(*make(nir.Scale(values))))


def test_the_factors_of_a_product_go_to_it():
    network = load_nir(chain(linear(4, 6), nir.Scale(np.arange(4.0)), nir.Scale(-np.ones(1)), lif(4), shape=(6,)))
    assert named(network) == [("linear0", "fc", "input")]
    pooled = load_nir(chain(conv(4, 8), pool(), nir.Scale(np.arange(4.0)), lif(4, 4, 4)))
    assert named(pooled) == [("conv2d0", "conv", "input", "map"), ("avgpool2d1", "pool", "conv2d0")]


def test_the_factors_of_a_flattened_map_go_to_the_product_behind_it_only():
    scale = nir.Scale(np.arange(256.0))
    network = load_nir(chain(*BEFORE, flatten(4, 8, 8), scale, linear(3, 256)))
    assert named(network)[1:] == [("linear4", "fc", "conv2d0", "map")]
    with pytest.raises(ExportError, match=r"scale2: expected one factor, .*; got a factor for each position"):
        load_nir(chain(conv(4, 8), flatten(4, 8, 8), scale, lif(256)))


def test_a_factor_that_no_weights_take_is_a_gate(tmp_path):
    network = load_nir(chain(*BEFORE, nir.Scale(np.full((4, 8, 8), 0.1)), lif(4, 8, 8), conv(4, 8, 4)))
    assert named(network)[1:3] == [("scale2", "gate", "conv2d0", "map"), ("lif3", "pool", "scale2")]
    assert network.layers[1]["scale"] == [1, 10]
    assert network.source.endswith("; scale2: a factor that no weights take, a gate that keeps everything")
    assert counted(network, tmp_path) > 0


def test_weights_that_read_more_than_a_factors_map_cannot_take_it():
    nodes = {"c": conv(4, 8), "l": lif(4, 8, 8), "s": nir.Scale(np.array(0.25)), "d": conv(4, 8, 4)}
    edges = [("input", "c"), ("c", "l"), ("l", "s"), ("s", "d"), ("d", "output"), ("l", "d")]
    layers = named(load_nir(graph(nodes, edges)))
    assert layers[1:3] == [("s", "gate", "c", "map"), ("d.sum", "add", "c", "s", "map")]
    nodes = {**nodes, "f": flatten(4, 8, 8), "fc": linear(3, 256)}
    edges = [("input", "c"), ("c", "l"), ("l", "s"), ("s", "f"), ("l", "f"), ("f", "fc"), ("input", "d")]
    nodes["d"] = conv(4, 8)
    assert ("s", "gate", "c", "map") in named(load_nir(graph(nodes, edges)))


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (-1.0, "one that is no number above 0"),
        (0.0, "one that is no number above 0"),
        (np.nan, "one that is no number above 0"),
        (np.inf, "one that is no number above 0"),
        (np.arange(4.0), "a factor for each channel"),
    ],
)
def test_a_gate_has_one_factor_above_0(values, got):
    with pytest.raises(ExportError, match=rf"NIR graph: scale2: expected one factor above 0, or .*; got {got}"):
        load_nir(chain(*BEFORE, nir.Scale(np.array(values)), lif(4, 8, 8)))


def test_factors_of_another_shape_are_refused():
    with pytest.raises(ExportError, match=r"scale2: expected one factor, or factors of shape \[4, 8, 8\]; got \[3\]"):
        load_nir(chain(*BEFORE, nir.Scale(np.ones(3)), lif(4, 8, 8)))


def test_factors_of_a_file_are_read(tmp_path):
    for values in (*EACH["one"][-2:], EACH["channel"][-1]):
        nir.write(tmp_path / "s.nir", chain(conv(4, 8), nir.Scale(np.array(values)), lif(4, 8, 8)))
        assert named(load_nir(tmp_path / "s.nir")) == [("conv2d0", "conv", "input")]
    nir.write(tmp_path / "s.nir", chain(conv(4, 8), nir.Scale(EACH["element"][0]), lif(4, 8, 8)))
    with pytest.raises(ExportError, match=r"s\.nir: scale1: expected one factor"):
        load_nir(tmp_path / "s.nir")


def test_factors_that_a_file_only_declares_cost_no_memory(tmp_path):
    nir.write(tmp_path / "s.nir", chain(conv(4, 8), nir.Scale(np.ones(4)), lif(4, 8, 8)))
    with h5py.File(tmp_path / "s.nir", "r+") as file:
        put(file, "node/nodes/scale1/scale", None, shape=(1 << 22,), dtype="f8", chunks=(1 << 16,))
    with pytest.raises(
        ExportError, match=r"s\.nir: file: .*; got 'scale' and what stands before it have more than 167"
    ):
        load_nir(tmp_path / "s.nir")


# --- graphs in the graph ---------------------------------------------------------------------------------------------


def block(out, size, inputs):
    """A convolution and its neurons as a graph of its own."""
    nodes = {
        "input": nir.Input(np.array([inputs, size, size])), "conv": conv(out, size, inputs),
        "lif": lif(out, size, size), "output": nir.Output(np.array([out, size, size])),
    }  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "conv"), ("conv", "lif"), ("lif", "output")], type_check=False)


def test_a_graph_in_the_graph_is_written_out(tmp_path):
    whole = chain(block(4, 8, 2), pool(), block(8, 4, 4), flatten(8, 4, 4), linear(3, 128))
    nir.write(tmp_path / "whole.nir", whole)
    for network in (load_nir(whole), load_nir(tmp_path / "whole.nir")):
        assert named(network) == [
            ("nirgraph0.conv", "conv", "input"),
            ("avgpool2d1", "pool", "nirgraph0.conv", "map"),
            ("nirgraph2.conv", "conv", "avgpool2d1"),
            ("linear4", "fc", "nirgraph2.conv", "map"),
        ]
        assert counted(network, tmp_path) > 0


def test_what_a_graph_in_the_graph_reads_and_gives_may_be_sums():
    skip = block(4, 8, 4)
    skip.edges.append(("input", "output"))
    nodes = {"first": block(4, 8, 2), "other": conv(4, 8), "skip": skip, "last": lif(4, 8, 8)}
    edges = [("input", "first"), ("input", "other"), ("first", "skip"), ("other", "skip"), ("skip", "last")]
    layers = named(load_nir(graph(nodes, edges)))
    assert ("skip.input.sum", "add", "first.conv", "other", "map") in layers
    assert layers[-1] == ("last", "add", "skip.input.sum", "skip.conv")


def nested(depth):
    """A neuron in graphs that deep."""
    inside = lif(3)
    for _ in range(depth):
        ends = {"input": nir.Input(np.array([3])), "in": inside, "output": nir.Output(np.array([3]))}
        inside = nir.NIRGraph(ends, [("input", "in"), ("in", "output")], type_check=False)
    return chain(inside, linear(3, 3), shape=(3,))


def test_graphs_in_graphs_have_a_depth(tmp_path):
    nir.write(tmp_path / "deep.nir", nested(MOST_NESTED))
    name = "nirgraph0" + ".in" * MOST_NESTED
    assert named(load_nir(tmp_path / "deep.nir"))[0] == (name, "pool", "input")
    with pytest.raises(ExportError, match=r"nirgraph0[.in]+: expected graphs in graphs at most 8 deep; got deeper"):
        load_nir(nested(MOST_NESTED + 1))
    nir.write(tmp_path / "deep.nir", nested(MOST_NESTED + 1))
    with pytest.raises(ExportError, match="file: expected a NIR graph in HDF5; got groups more than 18 deep"):
        load_nir(tmp_path / "deep.nir")


def test_a_graph_that_holds_itself_or_one_many_times_is_refused_at_once():
    again = chain(lif(3), shape=(3,))
    again.nodes["self"] = again
    with pytest.raises(ExportError, match=r"self(.self)+: expected graphs in graphs at most 8 deep"):
        load_nir(again)
    bomb = nir.NIRGraph({}, [], type_check=False)
    for _ in range(MOST_NESTED):
        bomb = nir.NIRGraph({str(number): bomb for number in range(64)}, [], type_check=False)
    with pytest.raises(ExportError, match="nodes: expected at most 16384; got 164"):
        load_nir(bomb)
    many = chain(lif(3), shape=(3,))
    many.edges *= 200_000
    with pytest.raises(ExportError, match="edges: expected at most 262144; got 400000"):
        load_nir(many)


def test_a_recurrent_layer_is_refused_by_its_nodes():
    """As snnTorch writes RLeaky."""
    ends = {
        "input": nir.Input(np.array([3])),
        "lif": lif(3),
        "w_rec": linear(3, 3),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    layer = nir.NIRGraph(ends, edges, type_check=False)
    with pytest.raises(ExportError) as caught:
        load_nir(chain(linear(3, 6), layer, linear(2, 3), shape=(6,)))
    where = "NIR graph: nirgraph1.lif, nirgraph1.w_rec"
    why = "expected edges without a cycle; got recurrent connections (the machine only feeds forward)"
    assert caught.value.args == (f"{where}: {why}",)


def changed(change):
    inner = block(4, 8, 2)
    change(inner)
    return chain(inner, shape=(2, 8, 8))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda inner: inner.nodes.pop("input"), "nirgraph0.edges: expected names of nodes; got input to conv"),
        (lambda inner: (inner.nodes.pop("output"), inner.edges.pop()), "nirgraph0: expected one Output of .*; got 0"),
        (lambda inner: inner.nodes.update(more=nir.Input(np.array([3]))), "nirgraph0: expected one Input of .*; got 2"),
        (lambda inner: inner.edges.append(("output", "conv")), "nirgraph0.edges: expected none from an Output or to"),
        (lambda inner: inner.edges.append(("lif", "input")), "nirgraph0.edges: expected none from an Output or to"),
        (lambda inner: inner.edges.append(None), "nirgraph0.edges: expected pairs of names"),
        (lambda inner: setattr(inner, "nodes", [1]), r"nirgraph0.nodes: expected nodes by name; got \[1\]"),
        (lambda inner: setattr(inner.nodes["conv"], "stride", 0), "nirgraph0.conv: stride: expected"),
    ],
)  # fmt: skip
def test_a_fault_of_a_graph_in_the_graph_is_told_by_both_names(change, why):
    with pytest.raises(ExportError, match=rf"^NIR graph: {why}"):
        load_nir(changed(change))


def test_names_that_meet_when_graphs_are_written_out_are_refused():
    nodes = {"a": block(4, 8, 2), "a.conv": lif(2, 8, 8)}
    with pytest.raises(ExportError, match=r"nodes: expected names of their own; got a\.conv twice"):
        load_nir(graph(nodes, [("input", "a"), ("input", "a.conv")]))


def test_a_residual_graph_in_a_graph_is_the_same_network():
    plain, inside = load_nir(residual()), load_nir(chain(residual()))
    assert [layer["name"] for layer in inside.layers] == [f"nirgraph0.{layer['name']}" for layer in plain.layers]


# --- any field of a node of a graph in the graph, with any value ------------------------------------------------------


def whole():
    """Factors and graphs in a graph: all that can be odd in them."""
    inner = block(4, 4, 4)
    inner.nodes["deeper"] = block(4, 4, 4)
    inner.edges[-1:] = [("lif", "deeper"), ("deeper", "output")]
    return chain(block(4, 8, 2), pool(nir.SumPool2d), nir.Scale(np.full((4, 4, 4), 0.5)), inner, flatten(4, 4, 4),
                 linear(3, 64))  # fmt: skip


def test_any_value_of_any_field_of_a_graph_in_a_graph_in_memory_is_told_or_read():
    rng, refused = random.Random(7), 0
    for _ in range(160):
        odd = found = whole()
        while isinstance(found, nir.NIRGraph) and rng.random() < 0.9:
            found = rng.choice(list(found.nodes.values()))
        fields = [name for name in vars(found) if name != "metadata"]
        setattr(found, rng.choice(fields), rng.choice([None, [], {}, [1, [2]], "x", odd, odd_value(rng)]))
        refused += outcome(odd)[0] == "refused"
    assert 40 < refused < 160


def test_any_value_of_any_field_of_a_graph_in_a_graph_of_a_file_is_told_or_read(tmp_path):
    rng, refused = random.Random(7), 0
    nir.write(tmp_path / "good.nir", whole())
    good, places = (tmp_path / "good.nir").read_bytes(), []
    with h5py.File(tmp_path / "good.nir") as file:
        file.visititems(lambda name, _: places.append(name))
    for _ in range(60):
        (tmp_path / "odd.nir").write_bytes(good)
        with h5py.File(tmp_path / "odd.nir", "r+") as file:
            put(file, rng.choice(places), odd_value(rng))
        refused += outcome(tmp_path / "odd.nir")[0] == "refused"
    assert 20 < refused < 60
