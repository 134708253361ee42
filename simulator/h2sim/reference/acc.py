"""The accumulator unit of one PE column (figure 3.3 b), the same in all three engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from h2sim.reference.result import Tally

ZERO = np.float32(0.0)


class AccTree:
    """A pairwise FP adder tree over the R rows of a column, and the adder that adds to a partial sum.

    Rows that hold no work give 0.0; their adders do not switch and are not counted.
    """

    def __init__(self, rows: int, tally: Tally) -> None:
        self.rows = rows
        self.tally = tally

    def reduce(self, outputs: Sequence[np.float32], first: int = 0) -> np.float32:
        """The sum of the outputs of the rows that hold work, from row `first` on; levels add (0, 1), (2, 3), ..."""
        self.tally.fp16_add += len(outputs) - 1
        level = [*[ZERO] * first, *outputs, *[ZERO] * (self.rows - first - len(outputs))]
        while len(level) > 1:
            unpaired = level[len(level) // 2 * 2 :]  # an odd one passes through
            level = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)] + unpaired
        return level[0]

    def accumulate(self, psum: np.float32, outputs: Sequence[np.float32], plane: int = 0, first: int = 0) -> np.float32:
        """The partial sum after the column's sum, times 2^plane, was added to it: a shift, of which none is counted."""
        total: np.float32 = psum + self.reduce(outputs, first) * np.float32(1 << plane)
        self.tally.fp16_add += 1
        return total
