"""A layer's values through the engines' own data paths, at the sizes of an arch: what `verify` compares with a trace.

S = T*N samples, timestep after timestep. Every function can also be given absolute values; its result is then the sum
of absolute values by which rounding scales.
"""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Bytes, Float32s, Floats
from h2sim.kernels import datapath
from h2sim.kernels.threads import in_parts
from h2sim.shapes import ConvShape, FcShape


def _flat(x: Floats) -> Float32s:
    """(T, N, ...) to a writable contiguous float32 (S, ...)."""
    return _f32(x.reshape(-1, *x.shape[2:]))


def _flat_bits(x: Bytes) -> Bytes:
    """(T, N, ...) to a writable contiguous uint8 (S, ...)."""
    return np.require(x.reshape(-1, *x.shape[2:]), np.uint8, ["C", "W"])


def _f32(x: Floats) -> Float32s:
    return np.require(x, np.float32, ["C", "W"])


def _geometry(shape: ConvShape) -> tuple[int, int, int, int]:
    return (*shape.stride, *shape.padding)


def conv_current(arch: Arch, shape: ConvShape, spikes: Bytes, weight: Floats, bias: Floats) -> Float32s:
    """Forward Engine: the current x (T, N, C_out, H_out, W_out) of spikes, uint8 (T, N, C, H, W)."""
    fe = arch.engines.forward
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    lut_inputs, sub_luts = fe.sub_lut_inputs, fe.sub_luts
    kernel = _f32(weight)
    luts = datapath.conv_luts(kernel, lut_inputs)
    in_parts(
        datapath.forward_conv, shape.samples, _flat_bits(spikes), kernel, luts, _f32(bias), _geometry(shape), fe.lut,
        lut_inputs, sub_luts, fe.rows, out,
    )  # fmt: skip
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def encode_current(arch: Arch, shape: ConvShape, analog: Floats, weight: Floats, bias: Floats) -> Float32s:
    """Backward Engine, encoding layer: the current x (T, N, C_out, H_out, W_out) of an analog input (T, N, C, H, W)."""
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    in_parts(
        datapath.encode_forward,
        shape.samples,
        _flat(analog),
        _f32(weight),
        _f32(bias),
        _geometry(shape),
        arch.engines.backward.rows,
        out,
    )
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_current(arch: Arch, shape: FcShape, spikes: Bytes, weight: Floats, bias: Floats) -> Float32s:
    """Forward Engine: the current x (T, N, out) of spikes, uint8 (T, N, in)."""
    fe = arch.engines.forward
    slots = fe.sub_luts if fe.lut else fe.sub_luts * fe.sub_lut_inputs
    out = np.empty((shape.samples, shape.out_features), np.float32)
    in_parts(datapath.forward_fc, shape.samples, _flat_bits(spikes), _f32(weight), _f32(bias), slots, fe.rows, out)
    return out.reshape(shape.timesteps, shape.batch, -1)


def conv_spatial(
    arch: Arch, shape: ConvShape, grad: Floats, grad_mask: Bytes, window: Bytes, weight: Floats
) -> Float32s:
    """Backward Engine: the spatial part of ds (T, N, C_in, H, W).

    grad (dm) and grad_mask (dm~): (T, N, C_out, H_out, W_out); window (ds~): (T, N, C_in, H, W). A mask that the
    engine's mode ignores counts as all ones.
    """
    mode = arch.engines.backward.mode
    grad_mask = grad_mask if mode in ("dual", "input_only") else np.ones_like(grad_mask)
    window = window if mode in ("dual", "output_only") else np.ones_like(window)
    out = np.empty((shape.samples, shape.in_channels, shape.in_height, shape.in_width), np.float32)
    in_parts(
        datapath.backward_conv,
        shape.samples,
        _flat(grad),
        _flat_bits(grad_mask),
        _flat_bits(window),
        _f32(weight),
        _geometry(shape),
        arch.engines.backward.rows,
        out,
    )
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_spatial(arch: Arch, shape: FcShape, grad: Floats, weight: Floats) -> Float32s:
    """Backward Engine: the spatial part of ds (T, N, in) of grad (dm, (T, N, out)); dense."""
    out = np.empty((shape.samples, shape.in_features), np.float32)
    in_parts(datapath.backward_fc, shape.samples, _flat(grad), _f32(weight), arch.engines.backward.rows, out)
    return out.reshape(shape.timesteps, shape.batch, -1)


def conv_weight_gradient(arch: Arch, shape: ConvShape, spikes: Bytes, grad: Floats) -> Float32s:
    """Weight Update Engine: dw (C_out, C_in, kh, kw) of the sub-batch, from its spikes and grad (dm)."""
    wue = arch.engines.weight_update
    dw = np.zeros((shape.out_channels, shape.in_channels, *shape.kernel), np.float32)
    in_parts(
        datapath.weight_gradient_conv,
        shape.out_channels,
        _flat_bits(spikes),
        _flat(grad),
        _geometry(shape),
        (arch.tile.height, arch.tile.width),
        wue.lut,
        wue.sub_lut_inputs,
        wue.sub_luts,
        wue.rows,
        shape.batch,
        dw,
    )
    return dw


def encode_weight_gradient(arch: Arch, shape: ConvShape, analog: Floats, grad: Floats) -> Float32s:
    """Backward Engine, encoding layer: dw (C_out, C_in, kh, kw) of the sub-batch, of analog and grad (dm)."""
    dw = np.zeros((shape.out_channels, shape.in_channels, *shape.kernel), np.float32)
    tile = (arch.tile.height, arch.tile.width)
    in_parts(
        datapath.encode_weight_gradient, shape.out_channels, _flat(analog), _flat(grad), _geometry(shape), tile, dw
    )
    return dw


def fc_weight_gradient(arch: Arch, shape: FcShape, spikes: Bytes, grad: Floats) -> Float32s:
    """Weight Update Engine: dw (out, in) of the sub-batch, from its spikes and grad (dm)."""
    dw = np.zeros((shape.out_features, shape.in_features), np.float32)
    rows = arch.engines.weight_update.rows
    in_parts(datapath.weight_gradient_fc, shape.out_features, _flat_bits(spikes), _flat(grad), rows, shape.batch, dw)
    return dw
