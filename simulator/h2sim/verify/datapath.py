"""A layer's values through the engines' own data paths, at the sizes of an arch: what `verify` compares with a trace.

S samples are T*N, timestep-major. Every function also runs on absolute values, which gives the scale of rounding.
"""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.kernels import datapath
from h2sim.shapes import ConvShape, FcShape


def _flat(x: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """(T, N, ...) to a writable contiguous (S, ...)."""
    return np.require(x.reshape(-1, *x.shape[2:]), dtype, ["C", "W"])


def _f32(x: np.ndarray) -> np.ndarray:
    return np.require(x, np.float32, ["C", "W"])


def _geometry(shape: ConvShape) -> tuple[int, int, int, int]:
    return (*shape.stride, *shape.padding)


def conv_current(arch: Arch, shape: ConvShape, spikes: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Forward Engine: spikes (T, N, C, H, W) uint8 -> x (T, N, C_out, H_out, W_out)."""
    fe = arch.engines.forward
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    lut_inputs, sub_luts = fe.sub_lut_inputs, fe.sub_luts
    datapath.forward_conv(
        _flat(spikes, np.uint8), _f32(weight), _f32(bias), _geometry(shape), fe.lut, lut_inputs, sub_luts, fe.rows, out
    )
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def encode_current(
    arch: Arch, shape: ConvShape, analog: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Backward Engine, encoding layer: analog (T, N, C, H, W) -> x."""
    out = np.empty((shape.samples, shape.out_channels, shape.out_height, shape.out_width), np.float32)
    datapath.encode_forward(_flat(analog), _f32(weight), _f32(bias), _geometry(shape), arch.engines.backward.rows, out)
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_current(arch: Arch, shape: FcShape, spikes: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Forward Engine: spikes (T, N, in) uint8 -> x (T, N, out)."""
    fe = arch.engines.forward
    slots = fe.sub_luts if fe.lut else fe.sub_luts * fe.sub_lut_inputs
    out = np.empty((shape.samples, shape.out_features), np.float32)
    datapath.forward_fc(_flat(spikes, np.uint8), _f32(weight), _f32(bias), slots, fe.rows, out)
    return out.reshape(shape.timesteps, shape.batch, -1)


def conv_spatial(
    arch: Arch, shape: ConvShape, grad: np.ndarray, grad_mask: np.ndarray, window: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Backward Engine: spatial part of ds (T, N, C_in, H, W) from dm and the two masks, as its mode uses them."""
    mode = arch.engines.backward.mode
    grad_mask = grad_mask if mode in ("dual", "input_only") else np.ones_like(grad_mask)
    window = window if mode in ("dual", "output_only") else np.ones_like(window)
    out = np.empty((shape.samples, shape.in_channels, shape.in_height, shape.in_width), np.float32)
    datapath.backward_conv(
        _flat(grad),
        _flat(grad_mask, np.uint8),
        _flat(window, np.uint8),
        _f32(weight),
        _geometry(shape),
        arch.engines.backward.rows,
        out,
    )
    return out.reshape(shape.timesteps, shape.batch, *out.shape[1:])


def fc_spatial(arch: Arch, shape: FcShape, grad: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Backward Engine: spatial part of ds (T, N, in) from dm (T, N, out), dense."""
    out = np.empty((shape.samples, shape.in_features), np.float32)
    datapath.backward_fc(_flat(grad), _f32(weight), arch.engines.backward.rows, out)
    return out.reshape(shape.timesteps, shape.batch, -1)


def conv_weight_gradient(arch: Arch, shape: ConvShape, spikes: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Weight Update Engine: dw (C_out, C_in, kh, kw) of the sub-batch."""
    wue = arch.engines.weight_update
    dw = np.zeros((shape.out_channels, shape.in_channels, *shape.kernel), np.float32)
    datapath.weight_gradient_conv(
        _flat(spikes, np.uint8),
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


def encode_weight_gradient(arch: Arch, shape: ConvShape, analog: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Backward Engine, encoding layer: dw (C_out, C_in, kh, kw)."""
    dw = np.zeros((shape.out_channels, shape.in_channels, *shape.kernel), np.float32)
    tile = (arch.tile.height, arch.tile.width)
    datapath.encode_weight_gradient(_flat(analog), _flat(grad), _geometry(shape), tile, dw)
    return dw


def fc_weight_gradient(arch: Arch, shape: FcShape, spikes: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Weight Update Engine: dw (out, in)."""
    dw = np.zeros((shape.out_features, shape.in_features), np.float32)
    rows = arch.engines.weight_update.rows
    datapath.weight_gradient_fc(_flat(spikes, np.uint8), _flat(grad), rows, shape.batch, dw)
    return dw
