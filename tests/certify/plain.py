"""Plain S-IBP and S-CROWN, written for reading: one sample, dense matrices, loops over timesteps and neurons.

The matrices are the network's own layers, probed with unit vectors; everything behind them is written out anew from
chapter 6, with the strict signs of eq. 6.7 mended. Nothing of h2sim.certify is used.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from h2sim.train.lif import membranes
from h2sim.train.network import over_time


@torch.no_grad()
def currents(network, layer, reads):
    """x of a layer in evaluation, (T, N, ...)."""
    norm = network.norm(layer["name"])
    x = network.current(layer, reads)
    return x if norm is None else norm(x)


@torch.no_grad()
def forward(network, inputs, timesteps):
    """{layer: (m, s)} of inputs (T or 1, N, ...), each (T, N, ...); both are the output of a layer without neuron."""
    network.eval()
    values, found = {"input": inputs}, {}
    for layer in network.layers:
        name = layer["name"]
        reads = [over_time(values[source], timesteps) for source in network.described[name].inputs]
        x = currents(network, layer, reads)
        found[name] = membranes(x, network.neurons[name]) if network.described[name].spiking else (x, x)
        values[name] = found[name][1]
    return found


def corners(lower, upper):
    """Every input that has each element at one of its bounds, (T or 1, 2^n, ...), of bounds (T or 1, 1, ...)."""
    open_places = torch.nonzero((lower != upper).flatten())[:, 0]
    choices = torch.tensor(list(product((0, 1), repeat=len(open_places))), dtype=torch.bool)
    return at_corners(lower, upper, choices, open_places)


def at_corners(lower, upper, choices, open_places):
    """The inputs whose elements at `open_places` are upper where a row of `choices` (M, places) says so."""
    flat = lower.flatten().repeat(len(choices), 1)
    flat[:, open_places] = torch.where(choices, upper.flatten()[open_places], lower.flatten()[open_places])
    shaped = flat.view(len(choices), lower.shape[0], *lower.shape[2:])
    return shaped.transpose(0, 1).contiguous()


def fires(neuron, m):
    return m > neuron.threshold if neuron.fires_at == "greater" else m >= neuron.threshold


@torch.no_grad()
def matrices(network, sizes):
    """{layer: ([W of each input, (out, in)], constant (out,))}. sizes: {name: shape of a sample, 'input' too}."""
    network.eval()
    found = {}
    for layer in network.layers:
        described = network.described[layer["name"]]
        nothing = [torch.zeros(1, 1, *sizes[source], dtype=torch.float64) for source in described.inputs]
        constant = currents(network, layer, nothing)
        columns = []
        for number, source in enumerate(described.inputs):
            units = torch.eye(int(np.prod(sizes[source])), dtype=torch.float64).view(1, -1, *sizes[source])
            reads = [units if n == number else torch.zeros_like(units[:, :1]).expand(1, units.shape[1], *sizes[s])
                     for n, s in enumerate(described.inputs)]  # fmt: skip
            columns.append((currents(network, layer, reads) - constant)[0].flatten(1).numpy().T)
        sizes[layer["name"]] = tuple(constant.shape[2:])
        found[layer["name"]] = columns, constant.flatten().numpy()
    return found


def interval_bounds(network, maps, lower, upper):
    """{layer: (m_l, m_u, s_l, s_u), each (T, neurons)} of an input's bounds (T, elements)."""
    values, found = {"input": (lower, upper)}, {}
    for name, layer in network.described.items():
        weights, constant = maps[name]
        neuron, last, rows = network.neurons[name], None, []
        for t in range(len(lower)):
            m_l, m_u = constant.copy(), constant.copy()
            for weight, source in zip(weights, layer.inputs, strict=True):
                low, high = (side[t] for side in values[source])
                m_l += np.minimum(weight, 0) @ high + np.maximum(weight, 0) @ low
                m_u += np.minimum(weight, 0) @ low + np.maximum(weight, 0) @ high
            if layer.spiking and last is not None:
                for i in range(len(m_l)):
                    below, above, s_l, s_u = (part[i] for part in last)
                    if s_u == 0:
                        z_l, z_u = below, above
                    elif s_l == 1:
                        z_l = z_u = 0.0
                    else:
                        z_l, z_u = min(0.0, below), neuron.threshold
                    m_l[i] += neuron.decay * z_l
                    m_u[i] += neuron.decay * z_u
            spikes = [fires(neuron, m).astype(float) for m in (m_l, m_u)] if layer.spiking else [m_l, m_u]
            last = (m_l, m_u, *spikes)
            rows.append(last)
        found[name] = tuple(np.array(part) for part in zip(*rows, strict=True))
        values[name] = found[name][2], found[name][3]
    return found


def lines(neuron, m_l, m_u, s_l, s_u):
    """(d_l, b_l, d_u, b_u) of one neuron: d_l m + b_l <= s <= d_u m + b_u (eq. 6.5)."""
    th = neuron.threshold
    if s_u == 0:
        return 0.0, 0.0, 0.0, 0.0
    if s_l == 1:
        return 0.0, 1.0, 0.0, 1.0
    if m_u - th < th - m_l:
        return 0.0, 0.0, 1 / (th - m_l), -m_l / (th - m_l)
    return 1 / (m_u - th), -th / (m_u - th), 0.0, 1.0


def relaxed_bound(network, maps, found, lower, upper, row, *, static):
    """The S-CROWN lower bound of one row (classes,) times the mean output (algorithm 7)."""
    steps, bias = len(lower), 0.0
    sizes = {name: len(maps[name][1]) for name in maps} | {"input": lower.shape[1]}
    on = {name: np.zeros((steps, size)) for name, size in sizes.items()}
    names = list(maps)
    on[names[-1]] += row / steps
    for name in reversed(names):
        layer, neuron = network.described[name], network.neurons[name]
        a_s, a_m = on[name].copy(), np.zeros((steps, sizes[name]))
        if not layer.spiking:
            a_m = a_s
        else:
            for t in reversed(range(steps)):
                for i in range(sizes[name]):
                    d_l, b_l, d_u, b_u = lines(neuron, *(part[t, i] for part in found[name]))
                    a = a_s[t, i]
                    a_m[t, i] += a * (d_l if a > 0 else d_u)
                    bias += a * (b_l if a > 0 else b_u)
                    if t:
                        below, _, s_l, s_u = (part[t - 1, i] for part in found[name])
                        a = neuron.decay * a_m[t, i]
                        if s_u == 0:
                            a_m[t - 1, i] += a
                        elif s_l == 0:
                            edge = a * (below if a > 0 else neuron.threshold)
                            a_s[t - 1, i] -= edge
                            bias += edge
        weights, constant = maps[name]
        bias += float((a_m @ constant).sum())
        for weight, source in zip(weights, layer.inputs, strict=True):
            on[source] = on[source] + a_m @ weight
    rows = on["input"].sum(0, keepdims=True) if static else on["input"]
    low, high = lower[: len(rows)], upper[: len(rows)]
    return float((rows * (high + low) / 2 - np.abs(rows) * (high - low) / 2).sum() + bias)
