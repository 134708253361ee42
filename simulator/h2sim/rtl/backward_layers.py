"""Random layers of the Backward Engine, each with its case for the RTL and both of the simulator's counts."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import MODES, TileSize
from h2sim.arrays import Array
from h2sim.engines import backward
from h2sim.reference import backward as ref_backward
from h2sim.reference import encode as ref_encode
from h2sim.rtl import backward_cases, fixed, images
from h2sim.rtl.draw import (
    WIDTHS,
    Hardware,
    Layer,
    Results,
    bits,
    conv_shape,
    fc_shape,
    fixed_neuron,
    integers,
    machines,
    maps,
    soma_reader,
    soma_results,
    stalling,
    values,
)


def _neurons(rng: np.random.Generator, shape: tuple[int, ...]) -> backward_cases.NeuronMaps:
    membrane = rng.integers(-1024, 1025, shape)
    return backward_cases.NeuronMaps(bits(rng, shape), bits(rng, shape), membrane)


def _grad_reader(tile: TileSize, columns: int, map_shape: tuple[int, ...], shape: tuple[int, ...]) -> Results:
    """How to read the spatial part of ds, and dm, from result words; the sweep's timesteps run backwards."""
    low = WIDTHS.sum_bits

    def read(results: Array) -> dict[str, Array]:
        words = images.from_items(results, tile, columns, map_shape)[::-1].reshape(shape)
        return {"spatial ds": images.field(words, 0, low), "dm": images.field(words, low, WIDTHS.state_bits)}

    return read


def backward_conv(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    (arch, engine, built), tile = machines(hardware), hardware.arch.tile
    mode = MODES[int(rng.integers(len(MODES)))]
    engine, built = (each.model_copy(update={"mode": mode}) for each in (engine, built))
    shape, neuron = conv_shape(rng, hardware.kernel, 1000, built), fixed_neuron(rng)
    in_map, out_map = maps(shape)
    neurons, mask = _neurons(rng, in_map), bits(rng, out_map)
    grad: Array = values(rng, *out_map) * mask
    weight = values(rng, shape.out_channels, shape.in_channels, *shape.kernel)
    case = backward_cases.backward_conv(
        engine, tile, hardware.kernel, shape, mask, grad, weight, neurons, neuron, WIDTHS
    )
    reference = ref_backward.backward_conv(engine, tile, shape, mask, neurons.window, grad, weight)
    packed = [np.packbits(m.reshape(shape.samples, -1), axis=1) for m in (mask, neurons.window)]
    work = backward.conv(engine, tile, shape, *packed)
    fill = backward.fill_cycles(engine, arch.latency, arch.latency.grad) + work.neuron_cycles
    spatial = integers(reference)
    results = {
        "spatial ds": spatial,
        "dm": fixed.grad(spatial, neurons.membrane, neurons.spikes, neurons.window, neuron),
    }
    read = _grad_reader(tile, built.columns, in_map[2:], in_map)
    about = f"{mode}, {shape}"
    return Layer(
        kind=kind,
        seed=seed,
        about=about,
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
    )


def backward_fc(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    arch, engine, built = machines(hardware)
    shape, neuron = fc_shape(rng, 12, built), fixed_neuron(rng)
    neurons = _neurons(rng, (shape.timesteps, shape.batch, shape.in_features))
    grad = values(rng, shape.timesteps, shape.batch, shape.out_features)
    weight = values(rng, shape.out_features, shape.in_features)
    case = backward_cases.backward_fc(built, hardware.kernel, shape, grad, weight, neurons, neuron, WIDTHS)
    reference = ref_backward.backward_fc(engine, shape, grad, weight)
    work = backward.fc(engine, shape)
    fill = backward.depth_cycles(engine, arch.latency, arch.latency.grad) + work.neuron_cycles
    spatial = integers(reference)
    results = {
        "spatial ds": spatial,
        "dm": fixed.grad(spatial, neurons.membrane, neurons.spikes, neurons.window, neuron),
    }
    read = _grad_reader(TileSize(height=1, width=1), built.columns, (shape.in_features, 1, 1), spatial.shape)
    return Layer(
        kind=kind,
        seed=seed,
        about=str(shape),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
    )


def encode_forward(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    (arch, engine, built), tile = machines(hardware), hardware.arch.tile
    shape, neuron = conv_shape(rng, hardware.kernel, 1000, built), fixed_neuron(rng)
    in_map, out_map = maps(shape)
    analog = values(rng, *in_map)
    weight = values(rng, shape.out_channels, shape.in_channels, *shape.kernel)
    case = backward_cases.encode_forward(built, tile, hardware.kernel, shape, analog, weight, neuron)
    reference = ref_encode.encode_forward(engine, tile, shape, analog, weight, None)
    work = backward.encode_forward(engine, tile, shape)
    fill = backward.fill_cycles(engine, arch.latency, arch.latency.soma) + work.neuron_cycles
    results = soma_results(integers(reference), neuron)
    read = soma_reader(tile, built.columns, out_map[2:], out_map)
    return Layer(
        kind=kind,
        seed=seed,
        about=str(shape),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
    )
