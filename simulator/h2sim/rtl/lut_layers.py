"""Random layers of the two LUT engines, each with its case for the RTL and both of the simulator's counts."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import TileSize
from h2sim.arrays import Array
from h2sim.engines import forward, weight_update
from h2sim.reference import forward as ref_forward
from h2sim.reference import weight_update as ref_update
from h2sim.rtl import images, lut_cases
from h2sim.rtl.draw import (
    MOST_OFFSETS,
    WIDTHS,
    Hardware,
    Layer,
    Results,
    about,
    bits,
    conv_shape,
    counts,
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


def forward_conv(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    arch, engine, built = machines(hardware)
    shape, neuron = conv_shape(rng, (5, 5), 100, built), fixed_neuron(rng)
    in_map, out_map = maps(shape)
    k, planes = counts(bits(rng, in_map), hardware.planes, seed)
    weight, bias = values(rng, shape.out_channels, shape.in_channels, *shape.kernel), values(rng, shape.out_channels)
    case = lut_cases.forward_conv(built, arch.tile, shape, k, weight, bias, neuron, planes)
    reference = ref_forward.forward_conv(engine, arch.tile, shape, k, weight, bias, planes)
    work = forward.conv(engine, arch.tile, shape, planes)
    fill = forward.fill_cycles(engine, arch.latency) + work.neuron_cycles
    read = soma_reader(arch.tile, built.columns, out_map[2:], out_map)
    results = soma_results(integers(reference), neuron)
    return Layer(
        kind=kind,
        seed=seed,
        about=about(shape, planes),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
        planes=planes,
    )


def forward_fc(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    arch, engine, built = machines(hardware)
    shape, neuron = fc_shape(rng, 200, built), fixed_neuron(rng)
    k, planes = counts(bits(rng, (shape.timesteps, shape.batch, shape.in_features)), hardware.planes, seed)
    weight, bias = values(rng, shape.out_features, shape.in_features), values(rng, shape.out_features)
    case = lut_cases.forward_fc(built, shape, k, weight, bias, neuron, planes)
    reference = ref_forward.forward_fc(engine, shape, k, weight, bias, planes)
    work = forward.fc(engine, shape, int(np.bitwise_count(k).sum()), planes)
    fill = forward.fill_cycles(engine, arch.latency) + work.neuron_cycles
    one, out = TileSize(height=1, width=1), (shape.timesteps, shape.batch, shape.out_features)
    read = soma_reader(one, built.columns, (shape.out_features, 1, 1), out)
    results = soma_results(integers(reference), neuron)
    return Layer(
        kind=kind,
        seed=seed,
        about=about(shape, planes),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
        planes=planes,
    )


def _gradient_reader(shape: tuple[int, ...], columns: int) -> Results:
    """How to read dw, of the given shape, from result words (column group, offset group, column x lane)."""

    def read(results: Array) -> dict[str, Array]:
        groups, offset_groups, lanes = results.shape
        words = results.reshape(groups, offset_groups, columns, lanes // columns).transpose(0, 2, 1, 3)
        words = words.reshape(groups * columns, -1)[: shape[0], : int(np.prod(shape[1:]))]
        return {"weight gradients": images.field(words, 0, WIDTHS.sum_bits).reshape(shape)}

    return read


def weight_update_conv(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    arch, engine, built = machines(hardware)
    shape = conv_shape(rng, (4, 4), MOST_OFFSETS, built)
    in_map, out_map = maps(shape)
    k, planes = counts(bits(rng, in_map), hardware.planes, seed)
    grad = values(rng, *out_map)
    case = lut_cases.weight_update_conv(built, arch.tile, shape, k, grad, planes)
    reference = ref_update.weight_update_conv(engine, arch.tile, shape, k, grad, planes)
    work = weight_update.conv(engine, arch.tile, shape, planes)
    fill = weight_update.fill_cycles(engine, arch.latency)
    results = {"weight gradients": integers(reference)}
    read = _gradient_reader(reference.values.shape, built.columns)
    return Layer(
        kind=kind,
        seed=seed,
        about=about(shape, planes),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
        planes=planes,
    )


def weight_update_fc(hardware: Hardware, kind: str, seed: int, rng: np.random.Generator, stall_seed: int) -> Layer:
    arch, engine, built = machines(hardware)
    shape = fc_shape(rng, MOST_OFFSETS, built)
    k, planes = counts(bits(rng, (shape.timesteps, shape.batch, shape.in_features)), hardware.planes, seed)
    grad = values(rng, shape.timesteps, shape.batch, shape.out_features)
    case = lut_cases.weight_update_fc(built, shape, k, grad, planes)
    reference = ref_update.weight_update_fc(engine, shape, k, grad, planes)
    work = weight_update.fc(engine, shape, int(np.bitwise_count(k).sum()), planes)
    fill = weight_update.fill_cycles(engine, arch.latency)
    results = {"weight gradients": integers(reference)}
    read = _gradient_reader(reference.values.shape, built.columns)
    return Layer(
        kind=kind,
        seed=seed,
        about=about(shape, planes),
        shape=shape,
        case=stalling(case, stall_seed, built),
        reference=reference,
        fast=work,
        fill_cycles=fill,
        results=results,
        read=read,
        planes=planes,
    )
