"""The unit's kernels for GPUs, in Triton: one launch for all timesteps. They know no torch.

Element (t, b, c, p) of a map lies at t*_T + b*_B + c*_C + p*_P; places p are 0 for matrix products. A program owns a
tile of BC channels x BP positions (b, p) and runs over t alone. Values are loaded into float32, computed there, and
stored in the map's own type. Operations stand in the order of h2sim.neuron, and programs add nothing to each other's
sums, so that results have the same bytes every time. fires_from: the least m that fires. zeroed, before, after: see
kernels/unit.py.
"""

import triton
import triton.language as tl


@triton.jit
def _tile(POSITIONS, C, HW, BC: tl.constexpr, BP: tl.constexpr):
    """Channels (BC,), samples and places (BP,), and which of the tile exist."""
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    q = tl.program_id(0) * BP + tl.arange(0, BP)
    b = q // HW
    return c, b, q - b * HW, (c < C)[:, None] & (q < POSITIONS)[None, :]


@triton.jit
def _at(c, b, p, B, C, P):
    """Offsets of a tile at t = 0."""
    return (c.to(tl.int64) * C)[:, None] + (b.to(tl.int64) * B + p.to(tl.int64) * P)[None, :]


@triton.jit
def _row(base, row: tl.constexpr, c, C):
    """Row `row` of (4, C) values of the channels, (BC, 1)."""
    return tl.load(base + row * C + c, mask=c < C, other=0.0)[:, None]


@triton.jit
def _fired(m, fires_from):
    return tl.where(m >= fires_from, 1.0, 0.0)


@triton.jit
def _next(m, y, decay, fires_from, zeroed, before, after):
    """m of the next timestep (eq. 2.1-2.3)."""
    s = _fired(m, fires_from)
    return y + decay * (m * (1.0 - zeroed * s) - before * s) - after * s


@triton.jit
def _current(x_base, at, ok, mean, scale, offset, BN: tl.constexpr):
    """y: x normalised, or x."""
    y = tl.load(x_base + at, mask=ok, other=0.0).to(tl.float32)
    if BN:
        y = (y - mean) * scale + offset
    return y


@triton.jit
def _gradient(
    later, ds, m, decay, fires_from, threshold, low, high, eta, attached, zeroed, before, after, TRIANGLE: tl.constexpr
):
    """dm[t] of dm[t+1] (eq. 2.4-2.6)."""
    if TRIANGLE:
        slope = eta * tl.maximum(1.0 - tl.abs(tl.div_rn(m, threshold) - 1.0), 0.0)
        slope = tl.div_rn(slope, threshold)
    else:
        slope = tl.where((m > low) & (m < high), eta, 0.0)
    leak = decay * later
    drop = leak * (zeroed * m + before) + after * later
    return leak * (1.0 - zeroed * _fired(m, fires_from)) + (ds - attached * drop) * slope


@triton.jit
def spikes(
    x_base, s_base, norm_base, T, POSITIONS, C, HW, X_T, X_B, X_C, X_P, S_T, S_B, S_C, S_P,
    decay, fires_from, zeroed, before, after, BN: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Algorithm 1: s of x."""
    c, b, p, ok = _tile(POSITIONS, C, HW, BC, BP)
    x_at, s_at = _at(c, b, p, X_B, X_C, X_P), _at(c, b, p, S_B, S_C, S_P)
    mean, scale, offset = 0.0, 0.0, 0.0
    if BN:
        mean, scale, offset = _row(norm_base, 0, c, C), _row(norm_base, 1, c, C), _row(norm_base, 2, c, C)
    m = _current(x_base, x_at, ok, mean, scale, offset, BN)
    tl.store(s_base + s_at, _fired(m, fires_from).to(s_base.dtype.element_ty), mask=ok)
    for _ in range(1, T):
        x_at += X_T
        s_at += S_T
        y = _current(x_base, x_at, ok, mean, scale, offset, BN)
        m = _next(m, y, decay, fires_from, zeroed, before, after)
        tl.store(s_base + s_at, _fired(m, fires_from).to(s_base.dtype.element_ty), mask=ok)


@triton.jit
def _finish(
    dm, of_gamma, of_beta, x_base, x_at, g_base, g_at, ok, mean, scale, inverse, of_dy, of_xh,
    BN: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """What a timestep does with dm: adds to the sums, or stores dx in the place of dL/ds (eq. 4.3)."""
    if SUMS:
        x = tl.load(x_base + x_at, mask=ok, other=0.0).to(tl.float32)
        of_beta += tl.where(ok, dm, 0.0)
        of_gamma += tl.where(ok, dm, 0.0) * ((x - mean) * inverse)
    else:
        if BN:
            x = tl.load(x_base + x_at, mask=ok, other=0.0).to(tl.float32)
            dx = scale * (dm - of_dy - ((x - mean) * inverse) * of_xh)
        else:
            dx = dm
        tl.store(g_base + g_at, dx.to(g_base.dtype.element_ty), mask=ok)
    return of_gamma, of_beta


@triton.jit
def gradients(
    x_base, g_base, m_base, norm_base, means_base, part_base, T, POSITIONS, C, HW,
    X_T, X_B, X_C, X_P, G_T, G_B, G_C, G_P, decay, fires_from, threshold, low, high, eta, attached, zeroed, before,
    after, BN: tl.constexpr, SUMS: tl.constexpr, TRIANGLE: tl.constexpr, STEPS: tl.constexpr, BC: tl.constexpr,
    BP: tl.constexpr,
):  # fmt: skip
    """SUMS: algorithm 2, sums of dy and dy * xh of each program, (programs, 2, C). Else algorithm 3: dx over dL/ds.

    STEPS: T, where all its membranes are kept in registers; 0: they go to m_base, which lies as the gradient does.
    """
    c, b, p, ok = _tile(POSITIONS, C, HW, BC, BP)
    x_at, g_at = _at(c, b, p, X_B, X_C, X_P), _at(c, b, p, G_B, G_C, G_P)
    mean, scale, offset, inverse, of_dy, of_xh = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if BN:
        mean, scale, offset = _row(norm_base, 0, c, C), _row(norm_base, 1, c, C), _row(norm_base, 2, c, C)
        inverse = _row(norm_base, 3, c, C)
        if not SUMS:
            of_dy, of_xh = _row(means_base, 0, c, C), _row(means_base, 1, c, C)
    of_gamma = tl.zeros([BC, BP], tl.float32)
    of_beta = tl.zeros([BC, BP], tl.float32)
    dm = tl.zeros([BC, BP], tl.float32)
    m = _current(x_base, x_at, ok, mean, scale, offset, BN)
    if STEPS > 0:
        kept = (m,)
        for t in tl.static_range(1, STEPS):
            y = _current(x_base, x_at + t * X_T, ok, mean, scale, offset, BN)
            m = _next(m, y, decay, fires_from, zeroed, before, after)
            kept = kept + (m,)  # noqa: RUF005  # Triton unpacks no tuple
        for k in tl.static_range(STEPS):
            g_of_t, x_of_t = g_at + (STEPS - 1 - k) * G_T, x_at + (STEPS - 1 - k) * X_T
            ds = tl.load(g_base + g_of_t, mask=ok, other=0.0).to(tl.float32)
            dm = _gradient(
                dm, ds, kept[STEPS - 1 - k], decay, fires_from, threshold, low, high, eta, attached, zeroed, before,
                after, TRIANGLE,
            )  # fmt: skip
            of_gamma, of_beta = _finish(
                dm, of_gamma, of_beta, x_base, x_of_t, g_base, g_of_t, ok, mean, scale, inverse, of_dy, of_xh, BN, SUMS
            )
    else:
        m_at = g_at
        tl.store(m_base + m_at, m, mask=ok)
        for _ in range(1, T):
            x_at += X_T
            m_at += G_T
            y = _current(x_base, x_at, ok, mean, scale, offset, BN)
            m = _next(m, y, decay, fires_from, zeroed, before, after)
            tl.store(m_base + m_at, m, mask=ok)
        tl.debug_barrier()  # what other threads of the program stored
        for _ in range(T):
            ds = tl.load(g_base + m_at, mask=ok, other=0.0).to(tl.float32)
            m = tl.load(m_base + m_at, mask=ok, other=0.0)
            dm = _gradient(
                dm, ds, m, decay, fires_from, threshold, low, high, eta, attached, zeroed, before, after, TRIANGLE
            )
            of_gamma, of_beta = _finish(
                dm, of_gamma, of_beta, x_base, x_at, g_base, m_at, ok, mean, scale, inverse, of_dy, of_xh, BN, SUMS
            )
            x_at -= X_T
            m_at -= G_T
    if SUMS:
        part = part_base + tl.program_id(0) * 2 * C + c
        tl.store(part, tl.sum(of_beta, axis=1), mask=c < C)
        tl.store(part + C, tl.sum(of_gamma, axis=1), mask=c < C)


@triton.jit
def moments(
    x_base, part_base, T, POSITIONS, C, HW, X_T, X_B, X_C, X_P, BC: tl.constexpr, BP: tl.constexpr
):  # fmt: skip
    """Of each program and channel the mean, and the sum of squares about it: (programs, 2, C)."""
    c, b, p, ok = _tile(POSITIONS, C, HW, BC, BP)
    at = _at(c, b, p, X_B, X_C, X_P)
    total = tl.zeros([BC, BP], tl.float32)
    first = tl.load(x_base + c * X_C, mask=c < C, other=0.0).to(tl.float32)[:, None]
    for t in range(T):
        x = tl.load(x_base + at + t * X_T, mask=ok, other=0.0).to(tl.float32)
        total += tl.where(ok, x - first, 0.0)  # about one of the values: sums stay small
    n = tl.minimum(POSITIONS - tl.program_id(0) * BP, BP) * T
    shift = tl.sum(total, axis=1)[:, None] / n
    squares = tl.zeros([BC, BP], tl.float32)
    for t in range(T):
        x = tl.load(x_base + at + t * X_T, mask=ok, other=0.0).to(tl.float32)
        deviation = tl.where(ok, (x - first) - shift, 0.0)
        squares += deviation * deviation
    part = part_base + tl.program_id(0) * 3 * C + c
    tl.store(part, tl.sum(shift, axis=1), mask=c < C)
    tl.store(part + C, tl.sum(squares, axis=1), mask=c < C)
    tl.store(part + 2 * C, tl.sum(first, axis=1), mask=c < C)
