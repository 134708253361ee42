"""Graphs as snnTorch, Norse, sinabs and SpikingJelly write them today are read in memory and from files, and run."""

from __future__ import annotations

import warnings

import pytest

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")


from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import load_nir  # noqa: E402
from tests.export.test_nir import counted, named  # noqa: E402
from tests.helpers.models import library, torch  # noqa: E402

nn = torch.nn


@pytest.fixture(autouse=True)
def _quiet():
    """The libraries' warnings on each other are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Stored:
    """A graph to be written as earlier versions of nir did: they left out what is None, and took tensors."""

    def __init__(self, graph):
        self.graph = graph

    def to_dict(self):
        """What nir.write asks for."""
        return stored(self.graph.to_dict())


def stored(value):
    """A node's fields as a file has them."""
    if isinstance(value, dict):
        return {key: stored(each) for key, each in value.items() if each is not None}
    return value.numpy() if isinstance(value, torch.Tensor) else value


def read(graph, tmp_path):
    """The network of a graph, which its file gives as well."""
    nir.write(tmp_path / "net.nir", Stored(graph), compression=None)
    network, again = load_nir(graph), load_nir(tmp_path / "net.nir")
    assert again.layers == network.layers
    assert again.input_shape == network.input_shape
    assert counted(network, tmp_path) > 0
    return network


def snntorch(net, *shape, **options):
    library("snntorch")
    from snntorch.export_nir import export_to_nir

    return export_to_nir(net, torch.rand(1, *shape), **options)


def leaky(*shape, **options):
    """snnTorch's neuron, with parameters for each (then nir can infer types) or for all."""
    import snntorch as snn

    own = {"beta": torch.full(shape, 0.9), "threshold": torch.ones(shape)} if shape else {"beta": 0.9}
    return snn.Leaky(**own, init_hidden=True, **options)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("batch", [True, False])
def test_snntorch(each, batch, tmp_path, monkeypatch):
    library("snntorch")
    if batch or not each:  # snnTorch 1.0 refuses its own graph when nir infers its types; earlier ones wrote it
        monkeypatch.setattr(nir.NIRGraph, "infer_types", lambda self: None)
    options = {} if batch else {"ignore_dims": [0]}

    def neurons(*shape, **more):
        return leaky(*(shape if each else ()), **more)

    mlp = nn.Sequential(nn.Linear(12, 8), neurons(8), nn.Linear(8, 3, bias=False), neurons(3, output=True))
    network = read(snntorch(mlp, 12, **options), tmp_path)
    assert named(network) == [("0", "fc", "input"), ("2", "fc", "0")]
    convnet = nn.Sequential(
        nn.Conv2d(2, 4, 3), neurons(4, 6, 6), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1, bias=False),
        neurons(4, 3, 3), nn.Flatten(), nn.Linear(36, 3), neurons(3, output=True),
    )  # fmt: skip
    network = read(snntorch(convnet, 2, 8, 8, **options), tmp_path)
    assert network.input_shape == (2, 8, 8)
    assert network.source.endswith("the batch of 1 in front of its shape is left out") == batch
    assert named(network) == [
        ("0", "conv", "input"), ("2", "pool", "0", "map"), ("3", "conv", "2"), ("6", "fc", "3"),
    ]  # fmt: skip


def test_snntorchs_recurrence_and_what_it_does_not_know_are_refused(monkeypatch):
    snn = library("snntorch")
    monkeypatch.setattr(nir.NIRGraph, "infer_types", lambda self: None)
    recurrent = nn.Sequential(nn.Linear(12, 8), snn.RLeaky(0.9, linear_features=8, init_hidden=True, output=True))
    with pytest.raises(ExportError, match=r"^NIR graph: 1\.lif, 1\.w_rec: expected edges without a cycle") as caught:
        load_nir(snntorch(recurrent, 12))
    assert len(caught.value.args) == 1
    unknown = nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), leaky(output=True))
    with pytest.raises(ExportError, match=r"^NIR graph: 1: expected a node; got none \(its exporter could not trans"):
        load_nir(snntorch(unknown, 2, 8, 8))


def norse(net, *shape):
    return library("norse.torch").to_nir(net, torch.rand(1, *shape))


def test_norse(tmp_path):
    no = library("norse.torch")
    for cell, last in ((no.LIFBoxCell, no.LIBoxCell), (no.LIFCell, no.IAFCell)):
        net = no.SequentialState(nn.Linear(12, 8), cell(), nn.Linear(8, 3), last())
        network = read(norse(net, 12), tmp_path)
        reads = ("2", "fc", "0") if last is no.IAFCell else ("2", "fc", "0", "map")
        assert named(network) == [("0", "fc", "input"), reads]
    convnet = no.SequentialState(nn.Conv2d(2, 4, 3), no.LIFBoxCell(), nn.Conv2d(4, 4, 3, 2), no.LIFCell())
    network = read(norse(convnet, 2, 8, 8), tmp_path)
    assert named(network) == [("0", "conv", "input"), ("2", "conv", "0")]
    assert network.layers[1]["out_shape"] == [4, 2, 2]


def test_norse_without_a_node_for_a_pool_is_refused():
    no = library("norse.torch")
    net = no.SequentialState(nn.Conv2d(2, 4, 3), no.LIFBoxCell(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(ExportError) as caught:
        load_nir(norse(net, 2, 8, 8))
    assert [line.split(": ")[1] for line in caught.value.args] == ["2", "3"]


def sinabs(net, *shape):
    library("sinabs")
    import sinabs.nir

    net(torch.rand(1, *shape))  # a layer has the shape of its neurons when it has run
    return sinabs.nir.to_nir(net, torch.rand(1, *shape))


def test_sinabs(tmp_path):
    library("sinabs")
    import sinabs.layers as sl

    mlp = nn.Sequential(
        nn.Linear(12, 8), sl.LIFSqueeze(tau_mem=20.0, batch_size=1), nn.Linear(8, 3, bias=False),
        sl.ExpLeakSqueeze(tau_mem=10.0, batch_size=1),
    )  # fmt: skip
    assert named(read(sinabs(mlp, 12), tmp_path)) == [("0", "fc", "input"), ("2", "fc", "0", "map")]
    convnet = nn.Sequential(
        nn.Conv2d(2, 4, 3), sl.IAFSqueeze(batch_size=1), sl.SumPool2d(2), nn.Conv2d(4, 4, 3, padding=1, bias=False),
        sl.IAFSqueeze(batch_size=1), sl.SumPool2d(3), nn.Flatten(), nn.Linear(4, 3), sl.IAFSqueeze(batch_size=1),
    )  # fmt: skip
    network = read(sinabs(convnet, 2, 8, 8), tmp_path)
    assert named(network) == [
        ("0", "conv", "input"), ("2", "pool", "0", "map"), ("3", "conv", "2"), ("5", "pool", "3", "map"),
        ("7", "fc", "5"),
    ]  # fmt: skip
    assert [layer.get("mode") for layer in network.layers] == [None, "sum", None, "sum", None]


def spikingjelly(net, *shape, multi=False):
    library("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, nir_exchange

    functional.set_step_mode(net, "m" if multi else "s")
    return nir_exchange.export_to_nir(net, torch.rand(*((4,) if multi else ()), 2, *shape))


@pytest.mark.parametrize("multi", [False, True])
def test_spikingjelly(multi, tmp_path):
    library("spikingjelly.activation_based")
    from spikingjelly.activation_based import layer, neuron

    mlp = nn.Sequential(layer.Linear(12, 8), neuron.LIFNode(), layer.Linear(8, 3, bias=False), neuron.IFNode())
    assert named(read(spikingjelly(mlp, 12, multi=multi), tmp_path)) == [("_0", "fc", "input"), ("_2", "fc", "_0")]
    convnet = nn.Sequential(
        layer.Conv2d(2, 4, 3), neuron.LIFNode(), layer.AvgPool2d(2), layer.Conv2d(4, 4, 3, padding=1, bias=False),
        neuron.ParametricLIFNode(), layer.Flatten(), layer.Linear(36, 3), neuron.CUBALIFNode(c_decay=0.5, v_decay=0.5),
    )  # fmt: skip
    assert named(read(spikingjelly(convnet, 2, 8, 8, multi=multi), tmp_path)) == [
        ("_0", "conv", "input"), ("_2", "pool", "_0", "map"), ("_3", "conv", "_2"), ("_6", "fc", "_3"),
    ]  # fmt: skip


def test_spikingjellys_residual_sum_of_spikes(tmp_path):
    library("spikingjelly.activation_based")
    from spikingjelly.activation_based import layer, neuron

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.n1 = layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode()
            self.c2, self.n2 = layer.Conv2d(4, 4, 3, padding=1), neuron.LIFNode()
            self.flat, self.fc = layer.Flatten(), layer.Linear(256, 3)

        def forward(self, x):
            first = self.n1(self.c1(x))
            return self.fc(self.flat(self.n2(self.c2(first)) + first))

    assert named(read(spikingjelly(Residual(), 2, 8, 8), tmp_path)) == [
        ("c1", "conv", "input"), ("c2", "conv", "c1"), ("flat.sum", "add", "c1", "c2", "map"),
        ("fc", "fc", "flat.sum", "map"),
    ]  # fmt: skip


def test_spikingjellys_convolution_in_one_dimension_is_refused():
    library("spikingjelly.activation_based")
    from spikingjelly.activation_based import layer, neuron

    net = nn.Sequential(layer.Conv1d(2, 4, 3), neuron.LIFNode())
    with pytest.raises(ExportError, match=r"^NIR graph: _0: expected a convolution in two dimensions; got a Conv1d"):
        load_nir(spikingjelly(net, 2, 8))
