"""PTB stepped cycle by cycle in plain Python: lines of a batch are packed, then pass the array, and PEs add weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Line = tuple[int, ...]  # 0 or 1 for each column


def pack(lines: list[Line]) -> list[tuple[int, ...]]:
    """Which lines share each slot: an empty line none, a full line its own, others a partner if there is one."""
    slots: list[tuple[int, ...]] = []
    gone: set[int] = set()
    for i, line in enumerate(lines):
        if not any(line) or i in gone:
            continue
        partner = None
        if not all(line):
            others = (j for j in range(i + 1, len(lines)) if j not in gone and any(lines[j]) and not all(lines[j]))
            partner = next((j for j in others if not any(map(int.__mul__, line, lines[j]))), None)
        slots.append((i,) if partner is None else (i, partner))
        gone |= set(slots[-1])
    return slots


@dataclass
class SteppedArray:
    """PEs of rows x columns, and what they have done; sums: int64 (O, T, L) of one sample."""

    rows: int
    columns: int
    window: int
    cycles: int = 0
    accumulates: int = 0
    weight_reads: int = 0
    idle: int = field(default=0)

    def run(self, spikes: np.ndarray, weights: np.ndarray, windows: int, strided: bool) -> np.ndarray:
        """Sums of one sample. spikes: 0 or 1 (T, L, K_in); weights: int64 (O, K_in)."""
        steps, positions, inputs = spikes.shape
        padded = np.zeros((max(windows * self.window, steps), positions, inputs), np.int64)
        padded[:steps] = spikes
        pairs = [(w, p) for w in range(windows) for p in range(positions)]
        batches = -(-len(pairs) // self.columns)
        sums = np.zeros((len(weights), len(padded), positions), np.int64)
        for b in range(batches):
            at = [j * batches + b if strided else b * self.columns + j for j in range(self.columns)]
            held = [pairs[i] if i < len(pairs) else None for i in at]
            self._batch(padded, weights, held, sums)
        self.cycles += positions * 2 * self.rows  # the cold start
        return sums[:, :steps]

    def _batch(
        self, spikes: np.ndarray, weights: np.ndarray, held: list[tuple[int, int] | None], sums: np.ndarray
    ) -> None:
        columns = [self._column(spikes, pair) for pair in held]
        lines = [tuple(int(c[:, k].any()) for c in columns) for k in range(spikes.shape[2])]
        slots = pack(lines)
        self.idle += sum(self.columns * self.window - sum(sum(lines[k]) for k in slot) for slot in slots)
        for group in range(0, len(weights), self.rows):
            for slot in slots:
                self.weight_reads += len(slot)
                for step in range(self.window):
                    self.cycles += 1
                    self._cycle(slot, step, lines, columns, held, weights[group : group + self.rows], sums[group:])

    def _column(self, spikes: np.ndarray, pair: tuple[int, int] | None) -> np.ndarray:
        """Spikes of a column's window, (window, K_in)."""
        if pair is None:
            return np.zeros((self.window, spikes.shape[2]), np.int64)
        window, position = pair
        return spikes[window * self.window : (window + 1) * self.window, position]

    def _cycle(self, slot: tuple[int, ...], step: int, lines: list[Line], columns: list[np.ndarray],
               held: list[tuple[int, int] | None], weights: np.ndarray, sums: np.ndarray) -> None:  # fmt: skip
        """Each column takes the line of the slot that has its bit, and its PEs add that line's weights on a spike."""
        for c, pair in enumerate(held):
            mine = [k for k in slot if lines[k][c]]
            assert len(mine) <= 1, "lines of a slot share a column"
            if pair and mine and columns[c][step, mine[0]]:
                sums[: len(weights), pair[0] * self.window + step, pair[1]] += weights[:, mine[0]]
                self.accumulates += len(weights)
