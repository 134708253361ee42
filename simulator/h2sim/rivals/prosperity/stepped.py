"""Prosperity stepped cycle by cycle in plain Python: a finder and adders with one tile between them."""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[int, ...]  # the columns of a tile in which a row has a spike


@dataclass
class Tile:
    """A tile's rows, and what they come to: adds left to do, searches and counts of rows left to do."""

    rows: list[Row]
    popcounts: int
    product: bool

    def __post_init__(self) -> None:
        self.exact = self.partial = self.searched = self.residuals = 0
        for number, row in enumerate(self.rows):
            prefix = self._prefix(number) if self.product and len(row) > 1 else ()
            self.searched += self.product and len(row) > 1
            self.exact += prefix == row and len(row) > 1
            self.partial += 0 < len(prefix) < len(row)
            self.residuals += len(row) - len(prefix)
        self.adds = self.residuals + self.exact
        self.finding = self.searched + -(-len(self.rows) // self.popcounts) if self.product else 0

    def _prefix(self, number: int) -> Row:
        """The candidate of most spikes: a subset that is not empty, and above the row where it is the same."""
        mine = set(self.rows[number])
        candidates = [
            row
            for other, row in enumerate(self.rows)
            if row and set(row) <= mine and (set(row) != mine or other < number)
        ]
        return max(candidates, key=len, default=())


def run(tiles: list[Tile]) -> tuple[int, int]:
    """(all cycles, those before the first add). In each cycle the adders work on a tile and the finder on the next;
    both go on to another tile together."""
    cycles, before_first_add = 0, 0
    finding, adding = tiles[0].finding, 0
    waiting = tiles[1:]
    current: Tile | None = None
    while True:
        while finding or adding:
            cycles += 1
            finding, adding = max(0, finding - 1), max(0, adding - 1)
        if current is None:
            before_first_add, current = cycles, tiles[0]
        elif waiting:
            current = waiting.pop(0)
        else:
            return cycles, before_first_add
        adding = current.adds
        finding = waiting[0].finding if waiting else 0
