"""The dense array stepped cycle by cycle, plainly: operands pass from unit to unit, and the product comes out."""

from __future__ import annotations

import numpy as np

from h2sim.shapes import ceil_div


def multiply(
    left: np.ndarray, right: np.ndarray, rows: int, columns: int, overlap_skew: bool
) -> tuple[np.ndarray, int, int]:
    """(product, cycles, multiply-accumulates) of int64 (m, k) by (k, n) on rows x columns units.

    In each cycle a unit takes one operand from its left and one from above, adds their product to its sum, and hands
    both on. A fold's first operands enter the corner unit; those of row r and column c enter r or c cycles later.
    """
    (m, length), n = left.shape, right.shape[1]
    product, macs, cycle = np.zeros((m, n), np.int64), 0, 0
    folds = [(g, f) for g in range(ceil_div(n, columns)) for f in range(ceil_div(m, rows))]
    gap = 0 if overlap_skew else rows + columns - 2
    last = len(folds) * length + (len(folds) - 1) * gap + rows + columns - 2
    while cycle < last:
        for r in range(rows):
            for c in range(columns):
                index, k = divmod(cycle - r - c, length + gap)
                if 0 <= index < len(folds) and k < length:
                    i, j = folds[index][1] * rows + r, folds[index][0] * columns + c
                    if i < m and j < n:
                        product[i, j] += left[i, k] * right[k, j]
                        macs += 1
        cycle += 1
    return product, cycle, macs
