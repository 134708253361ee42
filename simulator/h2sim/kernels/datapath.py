"""The engines' arithmetic, compiled: the same partial sums in the same order as the stepped reference, in float32.

Masks and spikes are bytes (0 or 1). S = T*N samples of a sub-batch: sample s = t*N + n is timestep t of sample n.
v is the number of spikes (or gradients) that address one sub-LUT.
A kernel with start and stop fills the part of its result that belongs to the samples s from start to stop, or, where it
is a weight gradient, to the output channels o from start to stop: see threads.in_parts.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Bytes, Float32s
from h2sim.kernels.jit import njit


@njit()
def tree_sum(values: Float32s, n: int) -> np.float32:
    """The sum of values[:n] as the Acc tree adds it: neighbours in pairs, level by level.

    The last value of a level of odd length passes to the next level unchanged. `values` is overwritten.
    """
    if n == 0:
        return np.float32(0.0)
    while n > 1:
        half = n // 2
        for i in range(half):
            values[i] = values[2 * i] + values[2 * i + 1]
        if n & 1:
            values[half] = values[n - 1]
            half += 1
        n = half
    total: np.float32 = values[0]
    return total


@njit()
def program_lut(weights: Float32s, n_inputs: int, entries: Float32s) -> None:
    """Fills a sub-LUT: entries[e] = sum of weights[i] over the bits i that are set in e, for e < 2^n_inputs.

    An entry with one bit is that weight. Any other is the entry without its highest bit, plus the weight of that bit.
    """
    entries[0] = np.float32(0.0)
    for e in range(1, 1 << n_inputs):
        top = 0
        while e >> (top + 1):
            top += 1
        rest = e ^ (1 << top)
        entries[e] = weights[top] if rest == 0 else entries[rest] + weights[top]


@njit(inline="always")
def pe_add(
    value: np.float32, operands: Float32s, n_inputs: int, entries: Float32s, address: int, lut: bool, first: bool
) -> np.float32:
    """A PE's running sum `value` after one more segment of n_inputs operands, chosen by the bits of `address`.

    With lut the PE adds entries[address], or takes it as it is for the `first` segment. Without, it adds the chosen
    operands one after the other.
    """
    total = value
    if lut:
        total = entries[address] if first else value + entries[address]
    else:
        for i in range(n_inputs):
            if address >> i & 1:
                total += operands[i]
    return total


@njit()
def conv_luts(weight: Float32s, v: int) -> Float32s:
    """Every sub-LUT of a convolution: float32 (C_out, C_in, kh, ceil(kw / v), 2^v), v weights of a kernel row each."""
    n_out, n_in, kh, kw = weight.shape
    across = -(-kw // v)
    luts = np.zeros((n_out, n_in, kh, across, 1 << v), np.float32)
    for o in range(n_out):
        for c in range(n_in):
            for y in range(kh):
                for j in range(across):
                    part = weight[o, c, y, j * v : min(kw, (j + 1) * v)]
                    program_lut(part, part.shape[0], luts[o, c, y, j])
    return luts


@njit()
def forward_conv(
    start: int,
    stop: int,
    spikes: Bytes,
    weight: Float32s,
    luts: Float32s,
    bias: Float32s,
    geometry: tuple[int, int, int, int],
    lut: bool,
    lut_inputs: int,
    sub_luts: int,
    rows: int,
    planes: int,
    lead: int,
    out: Float32s,
) -> None:
    """Fills out with the current of a convolution, through sub-LUTs, Acc tree and partial sums (figure 3.3).

    spikes: spikes, or counts of so many bit planes, unsigned or int64 (S, C_in, H, W);
    weight: float32 (C_out, C_in, kh, kw); luts: conv_luts(weight, lut_inputs);
    bias: float32 (C_out,); geometry: (sh, sw, ph, pw), stride and padding; out: float32 (S, C_out, H_out, W_out).
    The Acc tree adds the values of `rows` PEs at a time into the partial sum, which starts as the bias: plane after
    plane, each times 2^plane. lead: rows of other groups of channels above these, which give 0.
    """
    n_in, height, width = spikes.shape[1:]
    n_out, kh, kw = weight.shape[0], weight.shape[2], weight.shape[3]
    sh, sw, ph, pw = geometry
    v, across = lut_inputs, -(-kw // lut_inputs)
    down = -(-kh // sub_luts)
    n_rows = n_in * down * across
    for s in range(start, stop):
        address = np.empty((planes, n_in, kh, across), np.int64)
        values = np.empty(rows, np.float32)
        for oy in range(out.shape[2]):
            for ox in range(out.shape[3]):
                for b in range(planes):
                    for c in range(n_in):
                        for y in range(kh):
                            iy = oy * sh - ph + y
                            for j in range(across):
                                a = 0
                                for x in range(j * v, min(kw, (j + 1) * v)):
                                    ix = ox * sw - pw + x
                                    if 0 <= iy < height and 0 <= ix < width and (spikes[s, c, iy, ix] >> b) & 1:
                                        a |= 1 << (x - j * v)
                                address[b, c, y, j] = a
                for o in range(n_out):
                    psum, begin, idle = bias[o], 0, lead
                    while begin < n_rows:
                        end = min(n_rows, begin + rows - idle)
                        for b in range(planes):
                            values[:idle] = np.float32(0.0)
                            n, at = idle, begin
                            while at < end:
                                c, piece = at // (down * across), at % (down * across)
                                first, j = piece // across * sub_luts, piece % across
                                value = np.float32(0.0)
                                for y in range(first, min(kh, first + sub_luts)):
                                    part = weight[o, c, y, j * v : min(kw, (j + 1) * v)]
                                    a = address[b, c, y, j]
                                    value = pe_add(value, part, len(part), luts[o, c, y, j], a, lut, y == first)
                                values[n] = value
                                n += 1
                                at += 1
                            psum += tree_sum(values, n) * np.float32(1 << b)
                        begin, idle = end, 0
                    out[s, o, oy, ox] = psum


@njit()
def forward_fc(
    start: int,
    stop: int,
    spikes: Bytes,
    weight: Float32s,
    bias: Float32s,
    slots: int,
    rows: int,
    entries: int,
    planes: int,
    out: Float32s,
) -> None:
    """Fills out with the current of a fully connected layer.

    spikes: spikes, or counts of so many bit planes, unsigned or int64 (S, in); weight: float32 (out, in);
    bias: float32 (out,); out: float32 (S, out).
    In a cycle each of the `rows` PEs of a column adds `slots` consecutive inputs' weights (0 where no spike came), and
    the Acc tree adds the rows into the partial sum, which starts as the bias: plane after plane for each group of
    rows * slots * entries inputs, each times 2^plane.
    """
    n_in, per_cycle = weight.shape[1], rows * slots
    per_group = per_cycle * entries
    for s in range(start, stop):
        values = np.empty(rows, np.float32)
        for o in range(weight.shape[0]):
            psum = bias[o]
            for group in range(0, n_in, per_group):
                for b in range(planes):
                    for first in range(group, min(n_in, group + per_group), per_cycle):
                        n = 0
                        for row in range(first, min(n_in, first + per_cycle), slots):
                            value = np.float32(0.0)
                            for i in range(row, min(n_in, row + slots)):
                                sent = weight[o, i] if (spikes[s, i] >> b) & 1 else np.float32(0.0)
                                value = sent if i == row else value + sent
                            values[n] = value
                            n += 1
                        psum += tree_sum(values, n) * np.float32(1 << b)
            out[s, o] = psum


@njit()
def weight_gradient_conv(
    start: int,
    stop: int,
    spikes: Bytes,
    grad: Float32s,
    geometry: tuple[int, int, int, int],
    tile: tuple[int, int],
    lut: bool,
    lut_inputs: int,
    sub_luts: int,
    rows: int,
    batch: int,
    planes: int,
    dw: Float32s,
) -> None:
    """Adds the weight gradient of a convolution to dw (figure 3.4).

    spikes: spikes, or counts of so many bit planes, unsigned or int64 (S, C_in, H, W);
    grad: float32 (S, C_out, H_out, W_out), the membrane gradient dm;
    geometry: (sh, sw, ph, pw), stride and padding; tile: (height, width); dw: float32 (C_out, C_in, kh, kw).
    The sub-LUTs of a PE hold the sums of a segment of 1 x (sub_luts * v) gradients, which the spikes address. PE rows
    are timesteps: the Acc tree adds `rows` timesteps at a time, plane after plane, each times 2^plane.
    """
    n_in, height, width = spikes.shape[1:]
    out_height, out_width = grad.shape[2:]
    kh, kw = dw.shape[2], dw.shape[3]
    sh, sw, ph, pw = geometry
    steps, v = spikes.shape[0] // batch, lut_inputs
    for o in range(start, stop):
        luts = np.zeros((rows, sub_luts, 1 << v), np.float32)
        values = np.empty(rows, np.float32)
        for ty in range(0, out_height, tile[0]):
            for tx in range(0, out_width, tile[1]):
                x_end = min(tx + tile[1], out_width)
                for sample in range(batch):
                    for t0 in range(0, steps, rows):
                        t1 = min(t0 + rows, steps)
                        for oy in range(ty, min(ty + tile[0], out_height)):
                            for x0 in range(tx, x_end, sub_luts * v):
                                x1 = min(x0 + sub_luts * v, x_end)
                                used = -(-(x1 - x0) // v)
                                for t in range(t0, t1):
                                    line = grad[t * batch + sample, o, oy]
                                    for j in range(used):
                                        part = line[x0 + j * v : min(x1, x0 + (j + 1) * v)]
                                        program_lut(part, part.shape[0], luts[t - t0, j])
                                for c in range(n_in):
                                    for y in range(kh):
                                        iy = oy * sh - ph + y
                                        for x in range(kw):
                                            for b in range(planes):
                                                for t in range(t0, t1):
                                                    s, value = t * batch + sample, np.float32(0.0)
                                                    for j in range(used):
                                                        a, first = 0, x0 + j * v
                                                        for ox in range(first, min(x1, first + v)):
                                                            ix = ox * sw - pw + x
                                                            inside = 0 <= iy < height and 0 <= ix < width
                                                            if inside and (spikes[s, c, iy, ix] >> b) & 1:
                                                                a |= 1 << (ox - first)
                                                        part = grad[s, o, oy, first : min(x1, first + v)]
                                                        table = luts[t - t0, j]
                                                        value = pe_add(value, part, len(part), table, a, lut, j == 0)
                                                    values[t - t0] = value
                                                dw[o, c, y, x] += tree_sum(values, t1 - t0) * np.float32(1 << b)


@njit()
def weight_gradient_fc(
    start: int, stop: int, spikes: Bytes, grad: Float32s, rows: int, batch: int, planes: int, dw: Float32s
) -> None:
    """Adds the weight gradient of a fully connected layer to dw: dm where the input spiked, else 0.

    spikes: spikes, or counts of so many bit planes, unsigned or int64 (S, in); grad: float32 (S, out), the membrane
    gradient dm; dw: float32 (out, in).
    PE rows are timesteps: the Acc tree adds `rows` timesteps at a time, plane after plane, each times 2^plane.
    """
    steps = spikes.shape[0] // batch
    for o in range(start, stop):
        values = np.empty(rows, np.float32)
        for sample in range(batch):
            for t0 in range(0, steps, rows):
                t1 = min(t0 + rows, steps)
                for b in range(planes):
                    for i in range(spikes.shape[1]):
                        for t in range(t0, t1):
                            s = t * batch + sample
                            values[t - t0] = grad[s, o] if (spikes[s, i] >> b) & 1 else np.float32(0.0)
                        dw[o, i] += tree_sum(values, t1 - t0) * np.float32(1 << b)


@njit()
def backward_conv(
    start: int,
    stop: int,
    grad: Float32s,
    grad_mask: Bytes,
    window: Bytes,
    weight: Float32s,
    geometry: tuple[int, int, int, int],
    rows: int,
    lead: int,
    out: Float32s,
) -> None:
    """Fills out with the spatial part of ds of a convolution (figure 3.6); it is 0 where the window bit is 0.

    grad: float32 (S, C_out, H_out, W_out), the membrane gradient dm; grad_mask: uint8, alike, 0 where dm is 0;
    window: uint8 (S, C_in, H, W); weight: float32 (C_out, C_in, kh, kw); geometry: (sh, sw, ph, pw), stride and
    padding; out: float32 (S, C_in, H, W).
    A PE multiplies only the pairs that its finder emits, in the order of the tag's bits, lowest first. The Acc tree
    adds the values of `rows` channels of dm at a time into the partial sum. lead: rows of other groups of channels
    above these, which give 0.
    """
    n_out, out_height, out_width = grad.shape[1:]
    n_in, height, width = window.shape[1:]
    kh, kw = weight.shape[2], weight.shape[3]
    sh, sw, ph, pw = geometry
    for s in range(start, stop):
        values = np.empty(rows, np.float32)
        for c in range(n_in):
            for y in range(height):
                for x in range(width):
                    out[s, c, y, x] = np.float32(0.0)
                    if not window[s, c, y, x]:
                        continue
                    oy0, oy1 = max(0, -((-(y + ph - kh + 1)) // sh)), min(out_height - 1, (y + ph) // sh)
                    ox0, ox1 = max(0, -((-(x + pw - kw + 1)) // sw)), min(out_width - 1, (x + pw) // sw)
                    psum, n = np.float32(0.0), lead
                    values[:lead] = np.float32(0.0)
                    for r in range(n_out):
                        value = np.float32(0.0)
                        for oy in range(oy1, oy0 - 1, -1):  # tag bits rise with the tap, so outputs fall
                            for ox in range(ox1, ox0 - 1, -1):
                                if grad_mask[s, r, oy, ox]:
                                    w = weight[r, c, y + ph - oy * sh, x + pw - ox * sw]
                                    value += w * grad[s, r, oy, ox]
                        values[n] = value
                        n += 1
                        if n == rows:
                            psum += tree_sum(values, n)
                            n = 0
                    if n:
                        psum += tree_sum(values, n)
                    out[s, c, y, x] = psum


@njit()
def backward_fc(start: int, stop: int, grad: Float32s, weight: Float32s, rows: int, out: Float32s) -> None:
    """Fills out with the spatial part of ds of a fully connected layer, at every neuron: no mask is looked at.

    grad: float32 (S, out), the membrane gradient dm; weight: float32 (out, in); out: float32 (S, in).
    The Acc tree adds the products of `rows` outputs at a time into the partial sum.
    """
    n_out = weight.shape[0]
    for s in range(start, stop):
        values = np.empty(rows, np.float32)
        for i in range(weight.shape[1]):
            psum = np.float32(0.0)
            for r0 in range(0, n_out, rows):
                r1 = min(r0 + rows, n_out)
                for r in range(r0, r1):
                    values[r - r0] = grad[s, r] * weight[r, i]
                psum += tree_sum(values, r1 - r0)
            out[s, i] = psum


@njit()
def encode_forward(
    start: int,
    stop: int,
    analog: Float32s,
    weight: Float32s,
    bias: Float32s,
    geometry: tuple[int, int, int, int],
    rows: int,
    lead: int,
    out: Float32s,
) -> None:
    """Fills out with the current of the encoding layer, whose input is analog.

    analog: float32 (S, C_in, H, W); weight: float32 (C_out, C_in, kh, kw); bias: float32 (C_out,);
    geometry: (sh, sw, ph, pw), stride and padding; out: float32 (S, C_out, H_out, W_out).
    A MAC unit sums the products of one input channel's kernel. The Acc tree adds `rows` channels at a time into the
    partial sum, which starts as the bias. lead: rows of other groups of channels above these, which give 0.
    """
    n_in, height, width = analog.shape[1:]
    kh, kw = weight.shape[2], weight.shape[3]
    sh, sw, ph, pw = geometry
    for s in range(start, stop):
        values = np.empty(rows, np.float32)
        for o in range(weight.shape[0]):
            for oy in range(out.shape[2]):
                for ox in range(out.shape[3]):
                    psum, n = bias[o], lead
                    values[:lead] = np.float32(0.0)
                    for c in range(n_in):
                        value = np.float32(0.0)
                        for y in range(kh):
                            for x in range(kw):
                                iy, ix = oy * sh - ph + y, ox * sw - pw + x
                                if 0 <= iy < height and 0 <= ix < width:
                                    value += analog[s, c, iy, ix] * weight[o, c, y, x]
                        values[n] = value
                        n += 1
                        if n == rows:
                            psum += tree_sum(values, n)
                            n = 0
                    if n:
                        psum += tree_sum(values, n)
                    out[s, o, oy, ox] = psum


@njit()
def encode_weight_gradient(
    start: int,
    stop: int,
    analog: Float32s,
    grad: Float32s,
    geometry: tuple[int, int, int, int],
    tile: tuple[int, int],
    dw: Float32s,
) -> None:
    """Adds the weight gradient of the encoding layer to dw.

    analog: float32 (S, C_in, H, W); grad: float32 (S, C_out, H_out, W_out), the membrane gradient dm;
    geometry: (sh, sw, ph, pw), stride and padding; tile: (height, width); dw: float32 (C_out, C_in, kh, kw).
    A MAC unit sums the products of one sample, tile and kernel position in raster order; that sum is then added to dw.
    """
    height, width = analog.shape[2:]
    out_height, out_width = grad.shape[2:]
    kh, kw = dw.shape[2], dw.shape[3]
    sh, sw, ph, pw = geometry
    for o in range(start, stop):
        for ty in range(0, out_height, tile[0]):
            for tx in range(0, out_width, tile[1]):
                for s in range(analog.shape[0]):
                    for c in range(analog.shape[1]):
                        for y in range(kh):
                            for x in range(kw):
                                chain = np.float32(0.0)
                                for oy in range(ty, min(ty + tile[0], out_height)):
                                    for ox in range(tx, min(tx + tile[1], out_width)):
                                        iy, ix = oy * sh - ph + y, ox * sw - pw + x
                                        if 0 <= iy < height and 0 <= ix < width:
                                            chain += analog[s, c, iy, ix] * grad[s, o, oy, ox]
                                dw[o, c, y, x] += chain
