"""SATA stepped cycle by cycle in plain Python: the twin of the fast count in jobs.py.

Operands enter the array at two edges and pass on by one PE a cycle, so that PE (r, c) works on element k of its sum in
cycle k + r + c. A PE that is given a bit adds; one that is not waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.shapes import ConvShape, groups_of

Operand = Callable[[int, int, int], str | None]  # (row, column, element of the sum) -> the event, None: nothing is done


@dataclass
class SteppedArray:
    """Rows and columns of PEs; cycles and events of all that was run on it."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        self.cycles = 0
        self.events: Counter[str] = Counter()

    def fold(self, rows: Sequence[int], columns: Sequence[int], length: int, operand: Operand) -> None:
        """One sum of `length` elements in each PE of a fold; edge folds pass the whole array."""
        for cycle in range(length + self.rows + self.columns - 2):
            self.cycles += 1
            for r, row in enumerate(rows):
                for c, column in enumerate(columns):
                    k = cycle - r - c
                    if 0 <= k < length and (event := operand(row, column, k)):
                        self.events[event] += 1

    def folds(self, rows: int, columns: int, length: int, operand: Operand) -> None:
        """All folds of rows times columns sums."""
        for group in groups_of(columns, self.columns):
            for span in groups_of(rows, self.rows):
                self.fold(span, group, length, operand)


def forward(array: SteppedArray, shape: ConvShape, spikes: np.ndarray) -> None:
    """spikes: 0 or 1 (T, N, C, H, W). A PE holds an output; its sum runs over channels and taps."""
    for t in range(shape.timesteps):
        for n in range(shape.batch):
            array.folds(_outputs(shape), shape.out_channels, _inputs(shape), _spike_of(shape, spikes[t, n]))
            array.events["lif"] += _outputs(shape) * shape.out_channels


def backward(array: SteppedArray, shape: ConvShape, gradients: np.ndarray, window: np.ndarray) -> None:
    """gradients (T, N, O, Ho, Wo), window (T, N, C, H, W). A PE holds an input neuron's gradient."""
    taps = shape.kernel[0] * shape.kernel[1]
    for t in range(shape.timesteps):
        for n in range(shape.batch):

            def operand(
                row: int, column: int, k: int, du: np.ndarray = gradients[t, n], df: np.ndarray = window[t, n]
            ) -> str | None:
                y, x = divmod(row, shape.in_width)
                fed = _fed_output(shape, y, x, k % taps)
                if fed is None or not du[k // taps, fed[0], fed[1]]:
                    return None
                return "window" if df[column, y, x] else "gradient"

            array.folds(shape.in_height * shape.in_width, shape.in_channels, shape.out_channels * taps, operand)
            array.events["pgu"] += _outputs(shape) * shape.out_channels


def weight_update(array: SteppedArray, shape: ConvShape, spikes: np.ndarray, gradients: np.ndarray) -> None:
    """A PE holds one weight's gradient; its sum runs over output positions, anew at each timestep of each sample."""
    for t in range(shape.timesteps):
        for n in range(shape.batch):
            spike = _spike_of(shape, spikes[t, n])

            def operand(
                row: int, column: int, k: int, spike: Operand = spike, du: np.ndarray = gradients[t, n]
            ) -> str | None:
                if not spike(k, column, row):
                    return None
                return "both" if du[column].ravel()[k] else "spike"

            array.folds(_inputs(shape), shape.out_channels, _outputs(shape), operand)


def _outputs(shape: ConvShape) -> int:
    return shape.out_height * shape.out_width


def _inputs(shape: ConvShape) -> int:
    return shape.in_channels * shape.kernel[0] * shape.kernel[1]


def _spike_of(shape: ConvShape, spikes: np.ndarray) -> Operand:
    """Whether output position `row` sees a spike through element k, (channel, ky, kx) in this order."""

    def operand(row: int, column: int, k: int) -> str | None:
        oy, ox = divmod(row, shape.out_width)
        channel, tap = divmod(k, shape.kernel[0] * shape.kernel[1])
        ky, kx = divmod(tap, shape.kernel[1])
        y, x = oy * shape.stride[0] + ky - shape.padding[0], ox * shape.stride[1] + kx - shape.padding[1]
        inside = 0 <= y < shape.in_height and 0 <= x < shape.in_width
        return "spike" if inside and spikes[channel, y, x] else None

    return operand


def _fed_output(shape: ConvShape, y: int, x: int, tap: int) -> tuple[int, int] | None:
    """The output position that an input position feeds through a tap; None where there is none."""
    ky, kx = divmod(tap, shape.kernel[1])
    oy, off_y = divmod(y + shape.padding[0] - ky, shape.stride[0])
    ox, off_x = divmod(x + shape.padding[1] - kx, shape.stride[1])
    inside = 0 <= oy < shape.out_height and 0 <= ox < shape.out_width
    return (oy, ox) if inside and not (off_y or off_x) else None
