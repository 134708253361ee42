"""LoAS stepped cycle by cycle in plain Python: TPPEs walk over the chunks of a row, and wait for the slowest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class SteppedArray:
    """TPPEs that each take `timesteps` at once, with an inner join of `chunk` inputs; and what they have done."""

    tppes: int
    timesteps: int
    chunk: int
    cycles: int = 0
    adds: int = 0
    matches: int = 0
    chunks: int = 0

    def run(self, spikes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Sums of one sample, int64 (O, T, L). spikes: 0 or 1 (T, L, K_in); weights: int64 (O, K_in), 0: pruned."""
        steps, positions, _ = spikes.shape
        sums = np.zeros((len(weights), steps, positions), np.int64)
        for first in range(0, len(weights), self.tppes):
            outputs = range(first, min(first + self.tppes, len(weights)))
            for start in range(0, steps, self.timesteps):
                for position in range(positions):
                    self._row(spikes[start : start + self.timesteps, position], weights, outputs, start, position, sums)
        return sums

    def _row(
        self, row: np.ndarray, weights: np.ndarray, outputs: range, start: int, position: int, sums: np.ndarray
    ) -> None:
        """One row: every cycle each TPPE that is not done takes a weight that meets a word, or an empty chunk."""
        work = {output: self._matches(row, weights[output]) for output in outputs}
        self.chunks += sum(len(chunks) for chunks in work.values())
        while any(work.values()):
            self.cycles += 1
            for output, chunks in work.items():
                if not chunks:
                    continue
                if chunks[0]:
                    k = chunks[0].pop(0)
                    self.matches += 1
                    self.adds += int(row[:, k].sum())
                    sums[output, start : start + len(row), position] += row[:, k] * weights[output, k]
                if not chunks[0]:
                    chunks.pop(0)

    def _matches(self, row: np.ndarray, weights: np.ndarray) -> list[list[int]]:
        """Inputs with a spike in the pass and a weight, chunk by chunk."""
        inputs = range(row.shape[1])
        meet = [k for k in inputs if row[:, k].any() and weights[k]]
        return [[k for k in meet if k // self.chunk == c] for c in range(-(-len(inputs) // self.chunk))]
