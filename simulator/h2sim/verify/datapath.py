"""A layer's values through the engines' own data paths, at the sizes of an arch: what `verify` compares with a trace.

S = T*N samples, timestep after timestep. Every function can also be given absolute values; its result is then the sum
of absolute values by which rounding scales. Groups of a convolution are computed one by one, each where its rows lie in
the array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Array, Bytes, Float32s, Floats
from h2sim.engines.forward import sub_kernels
from h2sim.kernels import datapath
from h2sim.kernels.threads import in_parts
from h2sim.shapes import ConvShape, FcShape


def _flat(x: Floats) -> Float32s:
    """(T, N, ...) to a writable contiguous float32 (S, ...)."""
    return _f32(x.reshape(-1, *x.shape[2:]))


def _flat_bits(x: Array, planes: int = 1) -> Array:
    """Spikes or counts (T, N, ...) to a writable contiguous (S, ...): uint8 where it holds so many planes, or int64."""
    return np.require(x.reshape(-1, *x.shape[2:]), np.uint8 if planes <= 8 else np.int64, ["C", "W"])


def _f32(x: Floats) -> Float32s:
    return np.require(x, np.float32, ["C", "W"])


def _geometry(shape: ConvShape) -> tuple[int, int, int, int]:
    return (*shape.stride, *shape.padding)


@dataclass(frozen=True)
class _Group:
    """Channels of one group of a convolution, and the array's rows above its own that other groups of its pass hold."""

    ins: slice
    outs: slice
    lead: int


def _groups(shape: ConvShape, rows: tuple[int, int], columns: tuple[int, int]) -> Iterator[_Group]:
    """rows and columns: (what a group takes, how many there are), as ConvShape.passes has them."""
    one = shape.group
    for ins, outs in shape.passes(rows, columns):
        for number in range(len(ins) // one.in_channels):
            first, other = ins.start + number * one.in_channels, outs.start + number * one.out_channels
            lead = number * rows[0]
            yield _Group(slice(first, first + one.in_channels), slice(other, other + one.out_channels), lead)


def conv_current(
    arch: Arch, shape: ConvShape, spikes: Array, weight: Floats, bias: Floats, planes: int = 1
) -> Float32s:
    """Forward Engine: the current x (T, N, C_out, H_out, W_out) of spikes, or counts of so many bit planes.

    spikes: (T, N, C, H, W).
    """
    fe = arch.engines.forward
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    read = _flat_bits(spikes, planes)
    rows = shape.group.in_channels * sub_kernels(fe, shape.kernel), fe.rows
    for group in _groups(shape, rows, (shape.group.out_channels, fe.columns)):
        kernel, made = _f32(weight[group.outs]), np.empty_like(out[:, group.outs])
        luts = datapath.conv_luts(kernel, fe.sub_lut_inputs)
        in_parts(
            datapath.forward_conv, shape.samples, np.require(read[:, group.ins], None, ["C", "W"]), kernel, luts,
            _f32(bias[group.outs]), _geometry(shape), fe.lut, fe.sub_lut_inputs, fe.sub_luts, fe.rows, planes,
            group.lead, made,
        )  # fmt: skip
        out[:, group.outs] = made
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def encode_current(arch: Arch, shape: ConvShape, analog: Floats, weight: Floats, bias: Floats) -> Float32s:
    """Backward Engine: the current x (T, N, C_out, H_out, W_out) of an analog operand (T, N, C, H, W)."""
    be, one = arch.engines.backward, shape.group
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    read = _flat(analog)
    for group in _groups(shape, (one.in_channels, be.rows), (one.out_channels, be.columns)):
        made = np.empty_like(out[:, group.outs])
        in_parts(
            datapath.encode_forward, shape.samples, _f32(read[:, group.ins]), _f32(weight[group.outs]),
            _f32(bias[group.outs]), _geometry(shape), be.rows, group.lead, made,
        )  # fmt: skip
        out[:, group.outs] = made
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_current(arch: Arch, shape: FcShape, spikes: Array, weight: Floats, bias: Floats, planes: int = 1) -> Float32s:
    """Forward Engine: the current x (T, N, out) of spikes, or counts of so many planes, (T, N, in)."""
    fe = arch.engines.forward
    slots, entries = (fe.sub_luts, fe.sub_lut_size) if fe.lut else (fe.sub_luts * fe.sub_lut_inputs, 1)
    out = np.empty((shape.samples, shape.out_features), np.float32)
    in_parts(
        datapath.forward_fc, shape.samples, _flat_bits(spikes, planes), _f32(weight), _f32(bias), slots, fe.rows,
        entries, planes, out,
    )  # fmt: skip
    return out.reshape(shape.timesteps, shape.batch, -1)


def analog_fc_current(arch: Arch, shape: FcShape, analog: Floats, weight: Floats, bias: Floats) -> Float32s:
    """Backward Engine: the current x (T, N, out) of an analog operand (T, N, in), as a convolution of one position."""
    conv = _of_one_position(shape)
    out = encode_current(arch, conv, analog[..., None, None], weight[..., None, None], bias)
    return out[..., 0, 0]


def _of_one_position(shape: FcShape) -> ConvShape:
    samples = shape.timesteps, shape.batch
    return ConvShape.of(samples, (shape.in_features, 1, 1), (shape.out_features, 1, 1), (1, 1))


def conv_spatial(
    arch: Arch, shape: ConvShape, grad: Floats, grad_mask: Bytes, window: Bytes, weight: Floats
) -> Float32s:
    """Backward Engine: the spatial part of ds (T, N, C_in, H, W).

    grad (dm) and grad_mask (dm~): (T, N, C_out, H_out, W_out); window (ds~, or what is needed of a map): (T, N, C_in,
    H, W). A mask that the engine's mode ignores counts as all ones.
    """
    be, one, mode = arch.engines.backward, shape.group, arch.engines.backward.mode
    grad_mask = grad_mask if mode in ("dual", "input_only") else np.ones_like(grad_mask)
    window = window if mode in ("dual", "output_only") else np.ones_like(window)
    out = np.empty((shape.samples, shape.in_channels, shape.in_height, shape.in_width), np.float32)
    dm, dm_mask, asked = _flat(grad), _flat_bits(grad_mask), _flat_bits(window)
    for group in _groups(shape, (one.out_channels, be.rows), (one.in_channels, be.columns)):
        made = np.empty_like(out[:, group.ins])
        lead = group.lead
        in_parts(
            datapath.backward_conv, shape.samples, _f32(dm[:, group.outs]),
            np.require(dm_mask[:, group.outs], np.uint8, ["C", "W"]),
            np.require(asked[:, group.ins], np.uint8, ["C", "W"]), _f32(weight[group.outs]), _geometry(shape), be.rows,
            lead, made,
        )  # fmt: skip
        out[:, group.ins] = made
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_spatial(arch: Arch, shape: FcShape, grad: Floats, weight: Floats) -> Float32s:
    """Backward Engine: the spatial part of ds (T, N, in) of grad (dm, (T, N, out)); dense."""
    out = np.empty((shape.samples, shape.in_features), np.float32)
    in_parts(datapath.backward_fc, shape.samples, _flat(grad), _f32(weight), arch.engines.backward.rows, out)
    return out.reshape(shape.timesteps, shape.batch, -1)


def conv_weight_gradient(arch: Arch, shape: ConvShape, spikes: Array, grad: Floats, planes: int = 1) -> Float32s:
    """Weight Update Engine: dw (C_out, C_in / groups, kh, kw) of the sub-batch, from spikes or counts and grad (dm)."""
    wue, one = arch.engines.weight_update, shape.group
    dw = np.zeros((shape.out_channels, one.in_channels, *shape.kernel), np.float32)
    read, dm = _flat_bits(spikes, planes), _flat(grad)
    for group in _groups(shape, (0, 0), (one.out_channels, wue.columns)):
        in_parts(
            datapath.weight_gradient_conv, one.out_channels, np.require(read[:, group.ins], None, ["C", "W"]),
            _f32(dm[:, group.outs]), _geometry(shape), (arch.tile.height, arch.tile.width), wue.lut,
            wue.sub_lut_inputs, wue.sub_luts, wue.rows, shape.batch, planes, dw[group.outs],
        )  # fmt: skip
    return dw


def encode_weight_gradient(arch: Arch, shape: ConvShape, analog: Floats, grad: Floats) -> Float32s:
    """Backward Engine: dw (C_out, C_in / groups, kh, kw) of the sub-batch, of an analog operand and grad (dm)."""
    be, one = arch.engines.backward, shape.group
    dw = np.zeros((shape.out_channels, one.in_channels, *shape.kernel), np.float32)
    tile, read, dm = (arch.tile.height, arch.tile.width), _flat(analog), _flat(grad)
    for group in _groups(shape, (one.in_channels, be.rows), (one.out_channels, be.columns)):
        in_parts(
            datapath.encode_weight_gradient, one.out_channels, _f32(read[:, group.ins]), _f32(dm[:, group.outs]),
            _geometry(shape), tile, dw[group.outs],
        )  # fmt: skip
    return dw


def fc_weight_gradient(arch: Arch, shape: FcShape, spikes: Array, grad: Floats, planes: int = 1) -> Float32s:
    """Weight Update Engine: dw (out, in) of the sub-batch, from spikes or counts and grad (dm)."""
    dw = np.zeros((shape.out_features, shape.in_features), np.float32)
    rows = arch.engines.weight_update.rows
    in_parts(
        datapath.weight_gradient_fc, shape.out_features, _flat_bits(spikes, planes), _flat(grad), rows, shape.batch,
        planes, dw,
    )  # fmt: skip
    return dw


def analog_fc_weight_gradient(arch: Arch, shape: FcShape, analog: Floats, grad: Floats) -> Float32s:
    """Backward Engine: dw (out, in) of an analog operand (T, N, in) and grad (dm, (T, N, out))."""
    conv = _of_one_position(shape)
    return encode_weight_gradient(arch, conv, analog[..., None, None], grad[..., None, None])[..., 0, 0]
