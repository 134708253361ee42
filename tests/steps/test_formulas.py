"""compute_cycles of random steps against closed forms, written out here a second time, pass by pass of groups."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

import h2sim
from h2sim.arch import Arch, load_arch
from h2sim.trace import Layer, TraceMeta
from h2sim.trace.operands import operands_of
from tests.helpers.steps import draw_step, small_machine


def c(a: int, b: int) -> int:
    return -(-a // b)


def tiles(arch: Arch, height: int, width: int) -> list[tuple[int, int]]:
    return [
        (min(arch.tile.height, height - y), min(arch.tile.width, width - x))
        for y in range(0, height, arch.tile.height)
        for x in range(0, width, arch.tile.width)
    ]


def passes(groups: int, fit: int) -> list[int]:
    """How many groups each pass works on: floor(g / u) passes of u, and one of what is left."""
    u = max(1, min(groups, fit))
    return [u] * (groups // u) + [groups % u] * (groups % u > 0)


def forward_conv(arch: Arch, meta: TraceMeta, layer: Layer, planes: int) -> int:
    e, g = arch.engines.forward, layer.groups
    ins, outs, (kh, kw) = layer.in_chw[0] // g, layer.out_chw[0] // g, layer.kernel or (0, 0)
    v = e.sub_lut_size.bit_length() - 1
    rows = ins * c(kh, e.sub_luts) * c(kw, v)
    turns = c(meta.timesteps * meta.batch, e.parallelism)
    each = sum(e.sub_lut_size + planes * turns * p * q for p, q in tiles(arch, *layer.out_chw[1:]))
    return sum(c(u * rows, e.rows) * c(u * outs, e.columns) * each
               for u in passes(g, min(e.rows // rows, e.columns // outs)))  # fmt: skip


def forward_fc(arch: Arch, meta: TraceMeta, layer: Layer, planes: int) -> int:
    e, total = arch.engines.forward, 0
    per_entry = e.rows * e.sub_luts
    for start in range(0, layer.in_chw[0], per_entry * e.sub_lut_size):
        entries = c(min(per_entry * e.sub_lut_size, layer.in_chw[0] - start), per_entry)
        total += entries * (1 + planes * c(meta.timesteps * meta.batch, e.parallelism))
    return c(layer.out_chw[0], e.columns) * total


def update_conv(arch: Arch, meta: TraceMeta, layer: Layer, planes: int) -> int:
    e, g = arch.engines.weight_update, layer.groups
    ins, outs, taps = layer.in_chw[0] // g, layer.out_chw[0] // g, prod(layer.kernel or ())
    segment, total = e.sub_luts * (e.sub_lut_size.bit_length() - 1), 0
    for u in passes(g, e.columns // outs):
        work = e.sub_lut_size + planes * c(u * ins * taps, e.parallelism)
        segments = sum(p * c(q, segment) for p, q in tiles(arch, *layer.out_chw[1:]))
        total += c(u * outs, e.columns) * segments * work
    return meta.batch * c(meta.timesteps, e.rows) * total


def update_fc(arch: Arch, meta: TraceMeta, layer: Layer, planes: int) -> int:
    e = arch.engines.weight_update
    turns = planes * c(layer.in_chw[0], e.parallelism)
    return meta.batch * c(meta.timesteps, e.rows) * c(layer.out_chw[0], e.columns) * (1 + turns)


def analog_conv(arch: Arch, meta: TraceMeta, layer: Layer, _: int) -> int:
    e, g = arch.engines.backward, layer.groups
    ins, outs, taps = layer.in_chw[0] // g, layer.out_chw[0] // g, prod(layer.kernel or ())
    each = sum(c(p * q, e.parallelism) * taps + e.tile_sync_cycles for p, q in tiles(arch, *layer.out_chw[1:]))
    samples = meta.timesteps * meta.batch
    return samples * sum(c(u * ins, e.rows) * c(u * outs, e.columns) * each
                         for u in passes(g, min(e.rows // ins, e.columns // outs)))  # fmt: skip


def analog_fc(arch: Arch, meta: TraceMeta, layer: Layer, _: int) -> int:
    e = arch.engines.backward
    turns = c(meta.timesteps * meta.batch, e.parallelism)
    return c(layer.in_chw[0], e.rows) * c(layer.out_chw[0], e.columns) * turns


def backward_fc(arch: Arch, meta: TraceMeta, layer: Layer, _: int) -> int:
    e, samples = arch.engines.backward, meta.batch * (1 if layer.mean_over_time else meta.timesteps)
    return c(layer.out_chw[0], e.rows) * c(layer.in_chw[0], e.columns) * c(samples, e.parallelism)


FORMULAS: dict[tuple[str, str, str], Any] = {
    ("forward", "forward", "conv"): forward_conv, ("forward", "forward", "fc"): forward_fc,
    ("weight_update", "weight_update", "conv"): update_conv, ("weight_update", "weight_update", "fc"): update_fc,
    ("forward", "backward", "conv"): analog_conv, ("weight_update", "backward", "conv"): analog_conv,
    ("forward", "backward", "fc"): analog_fc, ("weight_update", "backward", "fc"): analog_fc,
    ("backward", "backward", "fc"): backward_fc,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_compute_cycles_are_the_formulas(seed, tmp_path):
    trace = draw_step(seed, tmp_path)
    arch = small_machine(seed) if seed % 3 else load_arch("h2learn")
    operands, seen = operands_of(trace.meta), 0
    for row in h2sim.count(arch, trace).activity.layers:
        layer = trace.meta.layer(row.layer)
        formula = FORMULAS.get((row.phase, row.engine, layer.kind))
        if formula is None:
            assert (row.phase == "backward" and layer.kind == "conv") or row.compute_cycles == 0
            continue
        seen += 1
        assert row.compute_cycles == formula(arch, trace.meta, layer, operands[layer.inputs[0]].planes), row
    assert seen > 10
