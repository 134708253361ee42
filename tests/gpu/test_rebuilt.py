"""A trace's network, rebuilt: it computes the recorded spikes again, and its steps are timed by the trace's layers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import h2sim  # noqa: E402
from h2sim import export  # noqa: E402
from h2sim.gpu.rebuilt import _made, record_trace  # noqa: E402
from h2sim.gpu.targets import cpu_target  # noqa: E402
from h2sim.gpu.timed import Plan  # noqa: E402
from h2sim.trace.bits import unpack  # noqa: E402
from tests.helpers.houses import ROOT  # noqa: E402
from tests.helpers.models import conv_pool_fc, mean_loss, spikes  # noqa: E402
from tests.helpers.own_models import TARGETS, spikingjelly  # noqa: E402
from tests.helpers.traces import tiny_trace  # noqa: E402

QUICK = Plan(0, 1)


def exported(folder, own):
    """A trace of a model, opened."""
    export.trace(*own, folder / "t.npz", network="mine", window_threshold=0.01)
    return h2sim.load_trace(folder / "t.npz")


TRACES = {
    "analog, residual, pools": lambda folder: h2sim.load_trace(ROOT / "tests/data/encode-residual.npz"),
    "spikes, averages": lambda folder: exported(folder, (conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss)),
    "batch norm of the step, maxima": lambda folder: exported(folder, spikingjelly().arguments),
}


@pytest.fixture(params=TRACES, scope="module")
def trace(request, tmp_path_factory):
    return TRACES[request.param](tmp_path_factory.mktemp("rebuilt"))


def sent_by(model, inputs):
    found = {}
    for part in model.parts:
        part.register_forward_hook(lambda module, args, output: found.setdefault(module.layer.name, output.detach()))
    model(inputs)
    return found


def test_the_rebuilt_network_sends_the_spikes_that_were_recorded(trace):
    made = _made(trace, trace.meta.batch, 0)
    sent = sent_by(made.model, made.inputs)
    spiking = [layer for layer in trace.meta.layers if layer.spiking]
    assert spiking
    for layer in spiking:
        recorded = unpack(trace.mask(layer.name, "spikes"), layer.neurons)
        assert recorded.any()
        assert (sent[layer.name].flatten(2).numpy() == recorded).all(), layer.name


def test_its_rows_are_the_traces_layers(trace):
    timed = record_trace(trace, cpu_target(), QUICK)
    layers = {layer.name for layer in trace.meta.layers}
    assert {row.layer for row in timed.rows if row.phase != "other"} == layers
    weighted = {layer.name for layer in trace.meta.layers if layer.has_weights}
    assert {row.layer for row in timed.rows if row.phase == "weight_update"} == weighted
    assert all(row.flops for row in timed.rows if row.phase == "weight_update")
    assert (timed.network, timed.samples, timed.timesteps) == (
        trace.meta.network, trace.meta.batch, trace.meta.timesteps,
    )  # fmt: skip
    assert "weights: the trace has them" in timed.notes


def test_a_trace_without_weights_says_that_they_are_random_and_its_neurons_spike(tmp_path):
    found = h2sim.load_trace(tiny_trace(tmp_path))
    assert not any(found.has(f"{layer.name}.weight") for layer in found.meta.layers)
    made = _made(found, 2 * found.meta.batch + 1, 0)
    assert "weights: drawn at random, for the trace has none, and scaled so that neurons spike" in made.notes
    assert f"samples: the {found.meta.batch} of the trace, taken again and again up to " in made.notes[0]
    sent = sent_by(made.model, made.inputs)
    first = next(layer for layer in found.meta.layers if layer.spiking)
    assert 0 < float(sent[first.name].mean()) < 1
    assert torch.equal(made.inputs[:, 0], made.inputs[:, found.meta.batch])
