"""What a machine could do at most."""

from __future__ import annotations

from h2sim.arch.schema import Arch


def peak_flops(arch: Arch) -> float:
    """Peak operations per second, as the source counts them.

    clock_hz * (rows * columns * sub_luts * parallelism of Forward and Weight Update Engine, where a LUT read with its
    add is one operation, + 3 * rows * columns * parallelism of the Backward Engine).
    """
    fe, wue, be = arch.engines.forward, arch.engines.weight_update, arch.engines.backward
    lut = sum(e.rows * e.columns * e.sub_luts * e.parallelism for e in (fe, wue))
    return arch.clock_hz * (lut + be.rows * be.columns * be.parallelism * 3)
