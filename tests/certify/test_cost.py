"""What bounds cost: operations by hand, and S-IBP's forward passes as traces that the machine runs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.arch import load_arch  # noqa: E402
from h2sim.certify import bounds, image_box, image_spikes  # noqa: E402
from h2sim.certify.operations import operations  # noqa: E402
from h2sim.certify.passes import write_passes  # noqa: E402
from h2sim.errors import NetworkError  # noqa: E402
from h2sim.facade import simulate  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.trace.bits import unpack  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402

NEURON = Neuron(0.25, 0.25, (-0.25, 0.75))


def network(notation):
    made = SpikingNetwork(parse_notation(notation, (1, 6, 6)), NEURON, torch.Generator().manual_seed(0))
    made.normalise(torch.rand((1, 8, 1, 6, 6), generator=torch.Generator().manual_seed(1)), 1, 0.3)
    return made


def test_operations_by_hand():
    """8 x 36 of fc1 and 3 x 8 of fc2: 312 a timestep; T = 4, T' = 2, 2 rows, 11 neurons."""
    found = operations(network("8FC-3FC"), 4, 2)
    assert (found.plain_forward, found.plain_backward) == (4 * 312, 2 * 4 * 312 - 4 * 288)
    assert (found.ibp_forward, found.ibp_backward) == (3 * 2 * 312, 6 * 2 * 312)
    assert (found.crown_forward, found.crown_backward) == (2 * 2 * 312, 2 * 2 * 2 * 312)
    assert (found.ibp_neurons, found.crown_neurons) == (2 * 2 * 11, 2 * 2 * 11)
    assert found.of("ibp") == 9 * 2 * 312
    assert found.of("crown") == found.of("max") == 9 * 2 * 312 + 3 * 2 * 2 * 312
    assert found.of("crown", training=False) == 5 * 2 * 312


def test_pixels_pass_the_first_layer_once_but_rows_reach_them_at_every_timestep():
    """4 x 9 x 36 = 1,296 of the convolution, 3 x 144 = 432 of fc1."""
    found = operations(network("4C3(Encoding)-3FC"), 4, 2)
    assert found.plain_forward == 1296 + 4 * 432
    assert found.plain_backward == 2 * (1296 + 4 * 432) - 1296
    assert found.ibp_forward == 3 * (1296 + 2 * 432)
    assert found.crown_forward == 2 * 2 * (1296 + 432)


@pytest.mark.parametrize(
    "notation", ["8FC-3FC", "4C3S2-6C3-AP2-3FC", "4C3(BN)-AP2(Spikes)-3FC", "4C3(Encoding)-AP2-3FC"]
)
def test_passes_are_traces_of_the_bounds_spikes(tmp_path, notation):
    made, generator = network(notation), torch.Generator().manual_seed(2)
    image = torch.rand((2, 1, 6, 6), generator=generator)
    labels = torch.tensor([0, 1])
    if made.reads_analog:
        lower, upper = image_box(image, 0.3)
        found = bounds(made, lower, upper, labels, timesteps=3)
    else:
        lower, upper = image_spikes(image, 0.3, torch.rand((3, 2, 1, 6, 6), generator=generator))
        found = bounds(made, lower, upper, labels)
    paths = write_passes(made, lower, upper, found, tmp_path, "halves")
    for which, path in paths.items():
        trace = load_trace(path)
        trace.check()
        assert trace.meta.phases == ("forward",)
        assert (trace.meta.timesteps, trace.meta.batch) == (3, 2)
        sent = lower if which == "lower" else upper - lower
        if made.reads_analog:
            torch.testing.assert_close(torch.from_numpy(trace.input_analog()).float(), sent.unsqueeze(0))
        else:
            given = torch.from_numpy(unpack(trace.input_spikes(), 36)).float()
            assert torch.equal(given, sent.flatten(2))
        for name, layer in found.layers.items():
            if layer.s_lower is not None:
                spikes = layer.s_lower if which == "lower" else layer.s_upper - layer.s_lower
                kept = unpack(trace.mask(name, "spikes"), trace.meta.layer(name).neurons)
                assert torch.equal(torch.from_numpy(kept).float(), spikes.flatten(2).detach())
        result = simulate(load_arch("h2learn"), trace)
        assert result.activity.steady_cycles > 0
        assert {row.phase for row in result.activity.layers} == {"forward"}


def test_dropout_is_in_no_trace_of_inference(tmp_path):
    made = network("4C3-D20-3FC")
    lower = torch.zeros(2, 1, 1, 6, 6)
    found = bounds(made, lower, lower + 1, torch.tensor([0]))
    with pytest.raises(NetworkError, match="drop1: kind: expected one that a trace of inference has; got gate"):
        write_passes(made, lower, lower + 1, found, tmp_path, "halves")
