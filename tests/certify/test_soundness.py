"""No input of a set does what its bounds deny: all corners of small networks, random ones of large ones, ties."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.certify import bounds, image_spikes  # noqa: E402
from h2sim.trace import parse_notation  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from tests.certify.draw import Drawn, faults, plain  # noqa: E402


def bounded(drawn):
    return bounds(drawn.network, drawn.lower, drawn.upper, drawn.labels, timesteps=drawn.steps)


@pytest.mark.parametrize("part", range(20))
def test_every_corner_of_a_thousand_networks(part):
    for seed in range(50 * part, 50 * part + 50):
        drawn = Drawn(seed)
        assert faults(drawn, bounded(drawn), drawn.corners()) == [], seed
        if drawn.analog:
            assert faults(drawn, bounded(drawn), drawn.inside(50)) == [], seed


@pytest.mark.parametrize("seed", range(30))
def test_an_input_that_is_known_gives_what_the_network_does(seed):
    drawn = Drawn(seed, unstable=0)
    found = bounded(drawn)
    for name, (m, s) in plain(drawn.network, drawn.corners(), drawn.steps).items():
        bound = found.layers[name]
        torch.testing.assert_close(bound.m_lower, m, rtol=0, atol=1e-12)
        torch.testing.assert_close(bound.m_upper, m, rtol=0, atol=1e-12)
        if s is not None:
            assert torch.equal(bound.s_lower, s)
            assert torch.equal(bound.s_upper, s)
    torch.testing.assert_close(found.crown, found.ibp, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_more_unstable_inputs_never_raise_the_bounds_of_intervals(seed):
    drawn = Drawn(seed)
    if drawn.analog:
        return
    few = drawn.upper.clone()
    picked = torch.nonzero(drawn.lower != drawn.upper)
    for row in picked[: len(picked) // 2]:
        few[tuple(row)] = drawn.lower[tuple(row)]
    less = bounds(drawn.network, drawn.lower, few, drawn.labels)
    more = bounded(drawn)
    assert bool((more.ibp <= less.ibp + 1e-12).all())
    for name, bound in more.layers.items():
        assert bool((bound.m_lower <= less.layers[name].m_lower + 1e-12).all())
        assert bool((bound.m_upper >= less.layers[name].m_upper - 1e-12).all())


@pytest.mark.parametrize("fires_at", ["greater", "greater_equal"])
@pytest.mark.parametrize("notation", ["4C3S2-AP2-16FC-10FC", "30FC-20FC-10FC"])
def test_random_pictures_of_a_large_network(notation, fires_at):
    """Pictures of the box, coded with the same random numbers, and random corners of the spikes' bounds."""
    generator = torch.Generator().manual_seed(3)
    neuron = Neuron(0.25, 0.25, window=(-0.25, 0.75), fires_at=fires_at)
    network = SpikingNetwork(parse_notation(notation, (1, 12, 12)), neuron, generator)
    network.normalise(torch.rand((3, 20, 1, 12, 12), generator=generator), 3, 0.5)
    network.double().eval()
    image = torch.rand((1, 1, 12, 12), generator=generator, dtype=torch.float64)
    draws = torch.rand((3, 1, 1, 12, 12), generator=generator, dtype=torch.float64)
    drawn = Drawn(0)
    drawn.network, drawn.steps, drawn.labels = network, 3, torch.tensor([4])
    lower, upper = image_spikes(image, 0.1, draws)
    found = bounds(network, lower, upper, drawn.labels)
    assert bool((lower != upper).any())
    for _ in range(5):
        moved = (image + 0.1 * (torch.rand((200, 1, 12, 12), generator=generator) - 0.5)).clamp(0, 1)
        assert faults(drawn, found, (moved > draws).double()) == []
        corner = torch.rand((3, 200, 1, 12, 12), generator=generator) < 0.5
        assert faults(drawn, found, torch.where(corner, upper, lower)) == []
