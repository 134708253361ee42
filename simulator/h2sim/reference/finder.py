"""The Effectual finders of the Backward Engine (figure 3.6 a and b)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from h2sim.arrays import Bytes
from h2sim.reference.result import Tally
from h2sim.shapes import ConvShape, Tile

Position = tuple[int, int]  # (y, x) of an input neuron of the layer: a `ds` ID


class OutputFinder:
    """Effectual O finder of one column: it scans the window mask and fills the P output ID buffers in turn.

    The PE groups of all rows share the buffers: PE i of every group works through buffer i.
    """

    def __init__(self, parallelism: int) -> None:
        self.parallelism = parallelism

    def deal(self, window: Bytes, tile: Tile) -> list[list[Position]]:
        """The positions of `tile` whose window bit is set, in raster order, dealt to the P buffers in turn.

        window: (H, W), of one channel.
        """
        buffers: list[list[Position]] = [[] for _ in range(self.parallelism)]
        n_valid = 0
        for y in range(tile.y0, tile.y1):
            for x in range(tile.x0, tile.x1):
                if window[y, x]:
                    buffers[n_valid % self.parallelism].append((y, x))
                    n_valid += 1
        return buffers


@dataclass(frozen=True)
class Pair:
    """A valid Conv ID, decoded: dm[output] * w[tap] is to be added to ds[position]."""

    position: Position
    output: Position
    tap: Position


class TagReader:
    """Reads the gradient bits of all outputs that a position feeds as one tag, and decodes the tag's bits.

    Bit ky*kw + kx belongs to the output that reads the position through kernel position (tap) (ky, kx). It is 0 for a
    tap that no output uses, because of the stride or the map's edge.
    """

    def __init__(self, shape: ConvShape) -> None:
        self.shape = shape

    def tag(self, gradient: Bytes, position: Position) -> int:
        """The tag of one position; gradient: the gradient mask (Ho, Wo) of one channel."""
        tag = 0
        for bit in range(self.shape.kernel[0] * self.shape.kernel[1]):
            output = self._output(position, bit)
            if output is not None and gradient[output]:
                tag |= 1 << bit
        return tag

    def decode(self, position: Position, bit: int) -> Pair:
        """The operands that a set bit of a position's tag stands for (wID and dmID decoders)."""
        output = self._output(position, bit)
        if output is None:
            raise ValueError(f"bit {bit}: expected one that stands for an output fed by {position}; got none")
        return Pair(position, output, divmod(bit, self.shape.kernel[1]))

    def _output(self, position: Position, bit: int) -> Position | None:
        s = self.shape
        ky, kx = divmod(bit, s.kernel[1])
        y, y_between = divmod(position[0] + s.padding[0] - ky, s.stride[0])
        x, x_between = divmod(position[1] + s.padding[1] - kx, s.stride[1])
        if y_between or x_between or not (0 <= y < s.out_height and 0 <= x < s.out_width):
            return None
        return y, x


class PairFinder:
    """Effectual I-and-O finder of one PE: one valid pair a cycle, lowest set bit of the tag first.

    A position takes max(set bits of its tag, empty_window_cycles) cycles. enabled False: the machine has no finders,
    so none of their events are counted.
    """

    def __init__(
        self,
        positions: list[Position],
        tag_of: Callable[[Position], int],
        empty_window_cycles: int,
        enabled: bool,
        tally: Tally,
    ) -> None:
        self.buffer = deque(positions)
        self.tag_of = tag_of
        self.empty_window_cycles = empty_window_cycles
        self.enabled = enabled
        self.tally = tally
        self.position: Position | None = None
        self.tag = 0
        self.cycles_here = 0
        self._next_position()

    @property
    def done(self) -> bool:
        """Whether all positions were worked through."""
        return self.position is None

    def step(self) -> tuple[Position, int] | None:
        """One cycle: the position and the lowest set bit of what is left of its tag; None where that is empty."""
        found = None
        self.cycles_here += 1
        if self.position is not None and self.tag:
            lowest = self.tag & -self.tag
            self.tag ^= lowest
            found = (self.position, lowest.bit_length() - 1)
            self.tally.priority_encode += self.enabled
        if not self.tag and self.cycles_here >= self.empty_window_cycles:
            self._next_position()
        return found

    def _next_position(self) -> None:
        self.position = None
        while self.buffer:
            position = self.buffer.popleft()
            self.tag, self.cycles_here = self.tag_of(position), 0
            if not self.tag:
                self.tally.priority_encode += self.enabled
            if self.tag or self.empty_window_cycles:
                self.position = position
                return
