"""Odd NIR graphs, in files and in memory: each is one line, or read as it is meant."""

from __future__ import annotations

import itertools
import math
import os
import random
import resource

import numpy as np
import pytest

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import load_nir, nirfile  # noqa: E402
from h2sim.trace import check_layers  # noqa: E402
from tests.export.test_nir import chain, conv, graph, lif, pool, residual  # noqa: E402

SEED, RANDOM_FILES, RANDOM_GRAPHS = 12, 140, 240


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("nir") / "good.nir"
    nir.write(path, residual())
    return path


@pytest.fixture
def copied(good, tmp_path):
    """A copy of the good file, to change."""
    path = tmp_path / "odd.nir"
    path.write_bytes(good.read_bytes())
    return path


def outcome(source) -> tuple[str, object]:
    """'refused' and the lines, or 'read' and the layers; anything else is a fault."""
    try:
        network = load_nir(source)
    except ExportError as error:
        assert not any("\n" in line or len(line) > 2200 for line in error.lines)  # noqa: PT017
        return "refused", str(error)
    check_layers(list(network.layers), "odd")
    return "read", network.layers


def put(file, place, value, **options):
    """Writes a data set in place of another."""
    if place in file:
        del file[place]
    file.create_dataset(place, **({"data": value} if value is not None else {}), **options)


VLEN = h5py.string_dtype()

# --- files, one fault each: what is changed, and the line (None: the layers of the good file) ------------------------


def external_link(file):
    del file["node/nodes/c1/weight"]
    file["node/nodes/c1/weight"] = h5py.ExternalLink("other.h5", "/x")


def soft_link(file):
    file["node/nodes/c3"] = h5py.SoftLink("/node/nodes/c1")


def soft_loop(file):
    file["node/nodes/c3"] = h5py.SoftLink("/node/nodes/c3")


def hard_loop(file):
    file["node/nodes/again"] = file["node"]


def hard_diamond(file):
    file["node/nodes/again"] = file["node/nodes/c1"]


def deep(file):
    file.create_group("node/nodes/c1/" + "/".join("abcdefghijklmnopqrstuvwxyz"))


def sparse_weights(file):
    put(file, "node/nodes/fc/weight", None, shape=(1 << 20, 1 << 20), dtype="f8", chunks=(1024, 1024))


def sparse_stride(file):
    put(file, "node/nodes/c1/stride", None, shape=(1 << 40,), dtype="i8", chunks=(1 << 20,))


def sparse_edges(file):
    put(file, "node/edges", None, shape=(1 << 30, 2), dtype=VLEN, chunks=(1 << 16, 2))


def long_type(file):
    put(file, "node/nodes/c1/type", None, shape=(), dtype="S1000000000")


def wide_blocks(file):
    put(file, "node/nodes/c1/stride", [1, 1], maxshape=(None,), chunks=(1 << 22,))


def external_values(file):
    put(file, "node/nodes/c1/stride", None, shape=(2,), dtype="i8", external=[("/etc/passwd", 0, 16)])


def virtual_values(file):
    layout = h5py.VirtualLayout(shape=(2,), dtype="i8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
    del file["node/nodes/c1/stride"]
    file.create_virtual_dataset("node/nodes/c1/stride", layout)


def huge_metadata(file):
    put(file, "node/metadata/x", None, shape=(1 << 40,), dtype="f8", chunks=(1 << 20,))
    file["node"].create_group("nodes/c1/metadata").create_group("y")
    file["node"].attrs["x"] = np.zeros(8000)


def many_names(file):
    edges = [(f"n{i}", f"n{i + 1}") for i in range(40_000)]
    put(file, "node/edges", np.array(edges, object), dtype=VLEN)
    for i in range(20):
        put(file, f"node/nodes/n{i}/type", "LIF")


def one_threshold(file):
    for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        put(file, f"node/nodes/l1/{name}", [1.0])


FILES = {
    "external link": (external_link, "'weight' is a link, to another place or file"),
    "soft link": (soft_link, "'c3' is a link"),
    "soft link to itself": (soft_loop, "'c3' is a link"),
    "hard link to the graph": (hard_loop, "stands in the file twice, or holds itself"),
    "node twice": (hard_diamond, "stands in the file twice, or holds itself"),
    "deep groups": (deep, "groups more than 18 deep"),
    "weights of 8 TiB": (sparse_weights, "declares 1099511627776 values"),
    "a stride of 8 TiB": (sparse_stride, "declares 1099511627776 values"),
    "2^31 edges": (sparse_edges, "'edges' and what stands before it have more than"),
    "a type of 1 GB": (long_type, "'type' and what stands before it have more than"),
    "blocks of 32 MiB": (wide_blocks, "'stride' lies in blocks of 33554432 bytes"),
    "values in another file": (external_values, "'stride' has no values of its own in this file"),
    "virtual values": (virtual_values, "'stride' has no values of its own in this file"),
    "huge metadata": (huge_metadata, None),
    "many edges": (many_names, "node 'n0': 'v_threshold'"),
    "no node": (lambda f: f.__delitem__("node"), "no group 'node'"),
    "no nodes": (lambda f: f.__delitem__("node/nodes"), "no group 'nodes'"),
    "no edges": (lambda f: f.__delitem__("node/edges"), "edges that are no pairs of names"),
    "no type": (lambda f: f.__delitem__("node/type"), "a None where a NIRGraph is expected"),
    "another type": (lambda f: put(f, "node/type", "LIF"), "a 'LIF' where a NIRGraph is expected"),
    "a link to nothing": (lambda f: (f.__delitem__("node"), f.__setitem__("node", h5py.SoftLink("/x"))), "no group"),
    "a version of another kind": (lambda f: put(f, "version", [1, 2]), None),
    "node without type": (lambda f: f.__delitem__("node/nodes/c1/type"), "node 'c1' without a type"),
    "node of a number": (lambda f: put(f, "node/nodes/c1/type", 7), "node 'c1' without a type"),
    "node that is an array": (lambda f: put(f, "node/nodes/x", [1]), "node 'x' without a type"),
    "unknown node": (lambda f: put(f, "node/nodes/c1/type", "Conv9d"), "node 'c1': .*nir does not know"),
    "a graph in the graph": (lambda f: put(f, "node/nodes/c1/type", "NIRGraph"), "in 'c1': no group 'nodes'"),
    "unknown field": (lambda f: put(f, "node/nodes/c1/x", 1), "node 'c1': .*'x'"),
    "missing field": (lambda f: f.__delitem__("node/nodes/c1/bias"), "node 'c1': .*'bias'"),
    "null values": (lambda f: put(f, "node/nodes/c1/stride", h5py.Empty("i8")), "'stride' has no values of its own"),
    "complex": (lambda f: put(f, "node/nodes/c1/weight", np.ones((4, 2, 3, 3), complex)), "neither numbers nor text"),
    "a compound": (lambda f: put(f, "node/nodes/c1/weight", np.zeros(3, [("a", "f4")])), "neither numbers nor text"),
    "references": (lambda f: put(f, "node/nodes/c1/weight", f["node"].ref, dtype=h5py.ref_dtype), "neither numbers"),
    "edges of numbers": (lambda f: put(f, "node/edges", np.ones((3, 2))), "edges that are no pairs of names"),
    "edges of three": (lambda f: put(f, "node/edges", np.array([["a", "b", "c"]], object), dtype=VLEN), "no pairs"),
    "a single edge": (lambda f: put(f, "node/edges", "a", dtype=VLEN), "edges that are no pairs of names"),
    "no edge": (lambda f: put(f, "node/edges", None, shape=(0, 2), dtype=VLEN), "c1: expected an edge that ends here"),
    "edge to nowhere": (lambda f: put(f, "node/edges", np.array([["c1", "x"]], object), dtype=VLEN), "c1 to x"),
    "no UTF-8": (lambda f: put(f, "node/edges", np.array([[b"\xff", b"\xfe"]], "S1")), "utf-8"),
    "scalar padding": (lambda f: put(f, "node/nodes/c1/padding", 1), None),
    "scalar stride": (lambda f: put(f, "node/nodes/c1/stride", 1), None),
    "scalar kernel": (lambda f: put(f, "node/nodes/p/kernel_size", 2), None),
    "stride of one number": (lambda f: put(f, "node/nodes/p/stride", [2]), None),
    "padding in text": (lambda f: put(f, "node/nodes/c1/padding", "same"), None),
    "whole floats": (lambda f: put(f, "node/nodes/c1/padding", [1.0, 1.0]), None),
    "weights of nan": (lambda f: put(f, "node/nodes/c1/weight", np.full((4, 2, 3, 3), np.nan)), None),
    "weights of integers": (lambda f: put(f, "node/nodes/c1/weight", np.ones((4, 2, 3, 3), int)), None),
    "weights of half": (lambda f: put(f, "node/nodes/c1/weight", np.ones((4, 2, 3, 3), np.float16)), None),
    "odd text as padding": (lambda f: put(f, "node/nodes/c1/padding", "x" * 5000), "padding must be"),
    "stride 0": (lambda f: put(f, "node/nodes/c1/stride", [0, 1]), "c1: stride: expected 2 whole numbers from 1 to"),
    "stride -1": (lambda f: put(f, "node/nodes/p/stride", -1), "p: stride: expected 2 whole numbers from 1 to 65536"),
    "another threshold": (lambda f: put(f, "node/nodes/l1/v_threshold", np.ones(7)), "l1"),
    "one threshold": (one_threshold, None),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_odd_file_is_one_line_or_read_as_it_is_meant(good, copied, name):
    change, why = FILES[name]
    with h5py.File(copied, "r+") as file:
        change(file)
    if why is None:
        assert outcome(copied) == ("read", load_nir(good).layers)
        return
    with pytest.raises(ExportError, match=rf"odd\.nir: .*({why})"):
        load_nir(copied)
    assert outcome(copied)[0] == "refused"


def test_weights_are_known_by_their_shape_and_cost_no_memory(copied):
    with h5py.File(copied, "r+") as file:
        put(file, "node/nodes/fc/weight", None, shape=(1 << 28, 64), dtype="f8", chunks=(1024, 64))
        del file["node/nodes/fc/bias"], file["node/nodes/fc/type"], file["node/nodes/li"]
        put(file, "node/nodes/fc/type", "Linear")
        edges = [(a.decode(), b.decode()) for a, b in file["node/edges"][()] if b"li" not in (a, b)]
        put(file, "node/edges", np.array([*edges, ("fc", "output")], object), dtype=VLEN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load_nir(copied).layers[-1]["out_features"] == 1 << 28
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_shapes_are_read_as_nir_itself_reads_them(good):
    ours, theirs = nirfile.read_graph(good), nir.read(good)
    assert ours.edges == theirs.edges
    for key, node in theirs.nodes.items():
        for field, value in vars(node).items():
            if field not in ("metadata", "input_type", "output_type"):
                assert np.shape(getattr(ours.nodes[key], field)) == np.shape(value)
    assert np.array_equal(ours.nodes["c1"].padding, theirs.nodes["c1"].padding)


def test_damaged_bytes_are_one_line_or_change_no_structure(good, tmp_path):
    rng, whole, path = random.Random(SEED), good.read_bytes(), tmp_path / "odd.nir"
    for number in range(80):
        harmed = bytearray(whole)
        if number % 5 == 0:
            del harmed[rng.randrange(len(harmed)) :]
        else:
            for _ in range(rng.randrange(1, 4)):
                harmed[rng.randrange(len(harmed))] = rng.randrange(256)
        path.write_bytes(harmed)
        outcome(path)


def test_what_is_no_plain_file_is_one_line(tmp_path):
    with (tmp_path / "huge.nir").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "folder.nir").mkdir()
    os.mkfifo(tmp_path / "pipe.nir")
    for name in ("huge", "folder", "pipe", "none"):
        with pytest.raises(ExportError, match=rf"{name}\.nir: file: expected a NIR graph in HDF5; got ") as caught:
            load_nir(tmp_path / f"{name}.nir")
        assert "\n" not in str(caught.value)


# --- any field of any node, with any value ----------------------------------------------------------------------------

NUMBERS = [0, -1, 2, 3, 65537, 2**31, 2**63 - 1, -(2**63), 1.5, math.nan, math.inf, -0.0, 1e300, True]
SHAPES = [(), (0,), (1,), (2,), (3,), (0, 2), (2, 2), (3, 0, 1), (4, 2, 3, 3), (1, 1, 1, 1, 1), (7, 7)]
TEXTS = ["", "same", "valid", "x", "\u00e9" * 50, "a\nb", "nan", "NIRGraph"]


def odd_value(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(TEXTS)
    value = rng.choice(NUMBERS)
    dtype = rng.choice([np.float32, np.float64, np.int64, np.int8, np.bool_, np.float16])
    with np.errstate(all="ignore"):
        return np.full(rng.choice(SHAPES), value, np.float64 if math.isinf(value) or value != value else None).astype(
            dtype if math.isfinite(value) and abs(value) < 100 else np.float64
        )


def test_any_value_of_any_field_of_a_file_is_one_line_or_read(good, tmp_path):
    rng, path, refused = random.Random(SEED), tmp_path / "odd.nir", 0
    with h5py.File(good) as file:
        places = []
        file.visititems(lambda name, item: places.append(name) if isinstance(item, h5py.Dataset) else None)
    for _ in range(RANDOM_FILES):
        path.write_bytes(good.read_bytes())
        with h5py.File(path, "r+") as file:
            for place in rng.sample(places, rng.choice([1, 1, 1, 2, 5])):
                if rng.random() < 0.1:
                    del file[place]
                else:
                    put(file, place, odd_value(rng))
        refused += outcome(path)[0] == "refused"
    assert RANDOM_FILES // 3 < refused < RANDOM_FILES


def random_graph(rng):
    """A good graph in which a field, an edge or a node is odd."""
    odd = rng.choice([residual, lambda: chain(conv(4, 8), lif(4, 8, 8), pool(), lif(4, 4, 4))])()
    what = rng.randrange(4)
    names = [*odd.nodes, "nowhere", "", 7, None]
    if what == 0:
        for _ in range(rng.randrange(1, 4)):
            odd.edges.insert(rng.randrange(len(odd.edges)), (rng.choice(names), rng.choice(names)))
    elif what == 1:
        del odd.edges[rng.randrange(len(odd.edges))]
    elif what == 2:
        del odd.nodes[rng.choice(list(odd.nodes))]
    else:
        node = rng.choice(list(odd.nodes.values()))
        fields = [name for name in vars(node) if name != "metadata"]
        setattr(node, rng.choice(fields), rng.choice([None, [], {}, [1, [2]], "x", b"same", odd_value(rng)]))
    return odd


def test_any_graph_in_memory_is_one_line_or_read():
    rng = random.Random(SEED)
    found = [outcome(random_graph(rng))[0] for _ in range(RANDOM_GRAPHS)]
    assert RANDOM_GRAPHS // 3 < found.count("refused") < RANDOM_GRAPHS


GRAPHS = {
    "stride 0": (lambda: chain(conv(4, 8, stride=(1, 1)), lif(4, 8, 8)), "stride", 0),
    "stride -1": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "stride", -1),
    "stride of three": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "stride", (1, 1, 1)),
    "stride 2^40": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "stride", 2**40),
    "stride nan": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "stride", math.nan),
    "stride 1.5": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "stride", 1.5),
    "padding -1": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "padding", -1),
    "padding 10^30": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "padding", 10**30),
    "padding None": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "padding", None),
    "groups 0": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "groups", 0),
    "groups nan": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "groups", math.nan),
    "dilation 0": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "dilation", 0),
    "weight of None": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "weight", None),
    "weight of ragged lists": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "weight", [[1], [1, 2]]),
    "weight of no channels": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "weight", np.ones((0, 2, 3, 3))),
    "weight of no kernel": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "weight", np.ones((4, 2, 0, 3))),
    "padding wider than its kernel": (lambda: chain(conv(4, 8), lif(4, 8, 8)), "padding", 65536),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_an_odd_field_of_a_node_is_refused_by_its_name(name):
    make, field, value = GRAPHS[name]
    odd = make()
    setattr(odd.nodes["conv2d0"], field, value)
    with pytest.raises(ExportError, match=r"NIR graph: .*conv2d0") as caught:
        load_nir(odd)
    assert "\n" not in str(caught.value)


def test_scalars_in_memory_are_pairs():
    plain = load_nir(chain(conv(4, 8), lif(4, 8, 8), pool(), lif(4, 4, 4))).layers
    odd = chain(conv(4, 8), lif(4, 8, 8), pool(), lif(4, 4, 4))
    odd.nodes["conv2d0"].padding, odd.nodes["conv2d0"].stride = np.array(1), np.int8(1)
    odd.nodes["avgpool2d2"].kernel_size, odd.nodes["avgpool2d2"].padding = 2, np.array([0.0])
    assert load_nir(odd).layers == plain


def edges(*pairs):
    return graph({"a": lif(3), "b": lif(3)}, list(pairs), (3,), 3)


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([("input", "a"), ("a", "a"), ("a", "b"), ("b", "output")], "expected edges without a cycle"),
        ([("input", "a"), ("a", "b"), ("b", "a")], "expected edges without a cycle"),
        ([("input", "a"), ("a", "b"), ("b", "input")], "none from an Output or to the Input; got b to input"),
        ([("input", "a"), ("a", "output"), ("output", "b")], "none from an Output or to the Input; got output to b"),
        ([("input", "a"), ("a", "nowhere")], "names of nodes; got a to nowhere"),
        ([("input", "a", "b")], "edges: expected pairs of names"),
        ([None], "edges: expected pairs of names"),
    ],
)
def test_edges_that_no_network_has_are_refused(pairs, why):
    with pytest.raises(ExportError, match=why):
        load_nir(edges(*pairs))


def test_a_long_chain_is_refused_at_once():
    nodes = {f"n{i}": lif(3) for i in range(20_000)}
    with pytest.raises(ExportError, match="nodes: expected at most 16384; got 20002"):
        load_nir(graph(nodes, [], (3,), 3))
    names = [f"n{i}" for i in range(5000)]
    pairs = [("input", names[-1]), *((b, a) for a, b in itertools.pairwise(names))]
    with pytest.raises(ExportError, match="expected 1 to 4096 layers; got 5000"):
        load_nir(graph({name: lif(3) for name in names}, pairs, (3,), 3))


@pytest.mark.parametrize("timesteps", [0, -1, 65537, 10**30, math.nan, math.inf, 1.5, None, "10"])
def test_timesteps_out_of_range_are_one_line(timesteps):
    with pytest.raises(ExportError, match="NIR graph: timesteps: expected a whole number from 1 to 65536; got "):
        load_nir(residual(), timesteps=timesteps)
    with pytest.raises(ExportError, match=r"NIR graph: graph: expected a nir\.NIRGraph or a file's name; got LIF"):
        load_nir(lif(3))


@pytest.mark.parametrize(
    "shape",
    [(0,), (-1,), (2, 8), (2, 2, 8, 8), (1, 1, 2, 8, 8), (65537, 1, 1), (2**62,), (1.5,), (math.nan,)],
)
def test_an_input_of_another_shape_is_one_line(shape):
    odd = chain(conv(4, 8), lif(4, 8, 8))
    odd.nodes["input"].input_type = {"input": np.array(shape)}
    with pytest.raises(ExportError, match=r"input: .*input of shape \(C, H, W\) or \(F,\)"):
        load_nir(odd)
