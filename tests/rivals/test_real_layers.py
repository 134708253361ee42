"""Layers of a shipped trace counted by plain loops over its bits, as the specifications say, beside the machines."""

from __future__ import annotations

import numpy as np
import pytest

import h2sim
from h2sim.rivals.im2col import input_bits
from h2sim.rivals.maps import shape_of
from h2sim.rivals.ptb.stepped import pack
from h2sim.rivals.registry import run_rival
from tests.helpers.convs import TABLE, plain_rows


@pytest.fixture(scope="module")
def trace():
    return h2sim.load_trace("mnist-digits")


def samples(trace, layer):
    """Rows of im2col of each sample, bool (T, L, K_in)."""
    shape = shape_of(trace.meta, layer)
    chw = (shape.in_channels, shape.in_height, shape.in_width)
    bits = np.unpackbits(input_bits(trace, layer), axis=-1, count=int(np.prod(chw)))
    maps = bits.reshape(shape.timesteps, shape.batch, *chw)
    return [plain_rows(shape, maps[:, n]).transpose(1, 0, 2).astype(bool) for n in range(shape.batch)]


def windows_of(rows):
    """(Window, position) pairs of a sample, windows of 4 timesteps or-ed: bool (pairs, K_in)."""
    return np.concatenate([rows[t : t + 4].any(axis=0) for t in range(0, len(rows), 4)])


def ptb(rows, weights):
    pairs, positions = windows_of(rows), rows.shape[1]
    columns = 8 if positions > 1 else min(8, len(pairs))
    batches = -(-len(pairs) // columns)
    wide = np.zeros((batches * columns, pairs.shape[1]), bool)
    wide[: len(pairs)] = pairs
    slots = sum(len(pack([tuple(map(int, line)) for line in wide[b::batches].T])) for b in range(batches))
    return slots * -(-len(weights) // 16) * 4 + 32 * positions


def sato(rows, weights):
    load = [0] * 128
    for work in rows.sum(axis=2).ravel():
        load[load.index(min(load))] += int(work)
    return max(load) * len(weights)


def loas(rows, weights):
    def cost(pair):
        chunks = [(pair[k : k + 128] & weights[:, k : k + 128]).sum(axis=1) for k in range(0, len(pair), 128)]
        return sum(np.maximum(1, chunk) for chunk in chunks)

    costs = [cost(pair) for pair in windows_of(rows)]
    return sum(int(each[o : o + 16].max()) for each in costs for o in range(0, len(weights), 16))


@pytest.mark.parametrize("layer", ["conv1", "fc2"])
@pytest.mark.parametrize("count", [ptb, sato, loas])
def test_compute_cycles_are_those_of_plain_loops(count, layer, trace):
    found = run_rival(h2sim.load_machine(count.__name__), trace, TABLE).to_rows()
    weights = trace.values(layer, "weight").reshape(len(trace.values(layer, "weight")), -1) != 0
    wanted = sum(count(rows, weights) for rows in samples(trace, trace.meta.layer(layer)))
    assert next(row for row in found if row.layer == layer).cycles.compute == wanted > 0
