"""`fused` trains as `plain` does: the same bytes without a norm, the same loss curve, records and checkpoints."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.errors import TrainingError  # noqa: E402
from h2sim.fused import unit  # noqa: E402
from h2sim.neuron import Neuron  # noqa: E402
from h2sim.trace import load_network, parse_notation  # noqa: E402
from h2sim.train import backends, units  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from tests.helpers.tiny import settings, tiny_trainer  # noqa: E402

EVERY = "4C3(Encoding)(BN)-MP2-D20-4C3G2(BN)-AP3(Spikes)-8FC(BN)-2FC(Mean)"
PLAIN = "4C3(Encoding)-AP2-4C3-8FC-2FC"


def layers(notation):
    return parse_notation(notation, (1, 6, 6))


def pair(notation, **changes):
    return [tiny_trainer(layers=layers(notation), backend=backend, **changes) for backend in ("plain", "fused")]


def state(trainer):
    return trainer.network.state_dict()


def residual():
    """Two blocks whose sums other layers read, with norms: spikes that several layers read."""
    conv = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "in_shape": [4, 6, 6], "out_shape": [4, 6, 6]}
    norm = {"kind": "batch"}
    first = {"name": "a", "kind": "encode", "inputs": ["input"], **conv, "in_shape": [1, 6, 6], "norm": norm}
    return [
        first,
        {"name": "b", "kind": "conv", "inputs": ["a"], **conv, "norm": norm},
        {"name": "c", "kind": "conv", "inputs": ["b"], **conv, "norm": norm, "spiking": False},
        {"name": "sum", "kind": "add", "inputs": ["a", "c"], "in_shape": [4, 6, 6], "out_shape": [4, 6, 6]},
        {"name": "d", "kind": "conv", "inputs": ["sum"], **conv},
        {"name": "e", "kind": "conv", "inputs": ["sum"], **conv},
        {"name": "f", "kind": "add", "inputs": ["d", "e"], "in_shape": [4, 6, 6], "out_shape": [4, 6, 6]},
        {"name": "fc", "kind": "fc", "inputs": ["f"], "in_features": 144, "out_features": 2},
    ]


@pytest.mark.parametrize("changes", [{}, {"neuron": Neuron(reset="subtract", surrogate="triangle")}])
def test_without_a_norm_fifty_steps_end_in_the_same_bytes(changes):
    plain, fused = pair(PLAIN, epochs=50, **changes)
    assert fused.network.backend == "fused"
    losses = [[trainer.step() for _ in range(50)] for trainer in (plain, fused)]
    assert losses[0] == losses[1]
    ours, theirs = state(fused), state(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("made", [EVERY, residual], ids=["every", "residual"])
def test_an_epoch_has_the_same_loss_curve(made):
    how = {"layers": made() if callable(made) else layers(made)}
    plain, fused = (tiny_trainer(backend=backend, **how) for backend in ("plain", "fused"))
    for _ in range(plain.iterations_per_epoch):
        assert plain.step() == pytest.approx(fused.step(), rel=1e-4)
    assert plain.accuracy() == fused.accuracy()


@pytest.mark.parametrize("dtype", ["float32", "float16-flush"])
@pytest.mark.parametrize("made", [PLAIN, EVERY, residual], ids=["plain", "every", "residual"])
def test_a_recorded_step_records_the_same(made, dtype):
    objective = {"gradient_dtype": dtype, "loss_scale": 64.0}
    how = {"layers": made() if callable(made) else layers(made), "objective": objective}
    plain, fused = (tiny_trainer(backend=backend, **how) for backend in ("plain", "fused"))
    records = [trainer.recorded_step(3, values=True)[1][0] for trainer in (plain, fused)]
    for (name, wanted), (other, found) in zip(*(record.members() for record in records), strict=True):
        assert name == other
        if wanted.dtype == np.uint8:
            assert np.unpackbits(wanted ^ found).mean() < 1e-3, name
        else:
            np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=2e-2, atol=2e-3, err_msg=name)


def test_slices_train_as_the_whole_does(monkeypatch):
    monkeypatch.setattr(unit, "SLICE_BYTES", 1)
    plain, fused = pair(PLAIN)
    taken = []
    slices = unit.slices
    monkeypatch.setattr(unit, "slices", lambda *given: taken.append(list(slices(*given))) or iter(taken[-1]))
    assert [plain.step() for _ in range(3)] == pytest.approx([fused.step() for _ in range(3)], rel=1e-5)
    assert max(map(len, taken)) > 1


@pytest.mark.parametrize("first", ["plain", "fused"])
@pytest.mark.parametrize("notation", [PLAIN, EVERY], ids=["plain", "every"])
def test_a_checkpoint_of_one_backend_goes_on_with_the_other(notation, first):
    """The run that goes on as it was and the one that changes: the same weights, statistics and random draws."""
    stays, changes = pair(notation, epochs=4) if first == "plain" else reversed(pair(notation, epochs=4))
    stays.step()
    changes.load_state(copy.deepcopy(stays.state()))
    ours, theirs = state(changes), state(stays)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    exact = 0 if notation == PLAIN else 1e-4
    assert [stays.step() for _ in range(3)] == pytest.approx([changes.step() for _ in range(3)], rel=exact, abs=0)


def test_spikes_that_several_layers_read_are_kept_as_bits():
    network = SpikingNetwork(residual(), Neuron(), torch.Generator().manual_seed(0))
    x = torch.rand(1, 2, 1, 6, 6)
    sizes = {}
    for backend in ("plain", "fused"):
        network.backend, kept = backend, {}

        def pack(value, kept=kept):
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            out = network(x, 5)
        own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
        sizes[backend] = sum(size for place, size in kept.items() if place not in own)
        del out
    maps = 5 * 2 * 144
    # the currents of a, b, sum, d, e, f and c's before its norm; a's and sum's spikes as bits; the rest is small
    assert sizes["fused"] <= 4 * maps * 9 + maps
    assert sizes["fused"] < 0.6 * sizes["plain"]


@pytest.mark.parametrize("size", [(3, 2, 5), (1, 1, 8)])
def test_bits_come_back_as_the_spikes(size):
    s = (torch.rand(size) > 0.5).float()
    bits = units.packed(s)
    assert bits.numel() == -(-s.numel() // 8)
    assert torch.equal(units.unpacked(bits, s.shape, s.dtype), s)


def test_auto_takes_units_where_much_would_be_kept():
    network = load_network("cifar10")
    made = SpikingNetwork(list(network.layers), Neuron(), torch.Generator())
    for batch, backend in ((1, "plain"), (512, "fused")):
        assert backends.decided(settings(backend="auto", batch=batch, timesteps=10), made) == backend
    neurons = sum(layer.neurons for layer in made.described.values() if layer.spiking)
    assert backends.kept_bytes(made, 20) == 20 * 8 * neurons


def test_units_of_trained_neurons_are_refused():
    with pytest.raises(TrainingError, match="expected plain or auto with --train-neurons; got fused"):
        tiny_trainer(layers=layers(PLAIN), backend="fused", trained_neurons=True)


def test_only_a_fused_run_says_its_backend():
    plain, fused = pair(PLAIN)
    assert "backend" not in plain.settings.to_dict()
    assert fused.settings.to_source("Adam", {})["backend"] == "fused"
