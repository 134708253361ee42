"""Draws one steady training step of mnist-digits on h2learn: `python docs/pictures/step.py` writes the two SVG files.

Each pixel column of a track shows what the track did for most of its cycles. Light and dark differ in colours alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import h2sim
from h2sim.io.files import write_text
from h2sim.kernels.path import PATH_END, PATH_START, RESOURCE
from h2sim.memory.books import CAUSES, KINDS, Books, Intervals

FOLDER = Path(__file__).parent
LEFT, WIDTH, TOP, HEIGHT, STEP = 116, 860, 40, 22, 34  # pixels: of the plot, of a track and from track to track
IDLE, WORK, WAIT, MOVE, PATH = range(5)
NAMES = {"forward": "Forward", "weight_update": "Weight update", "backward": "Backward"}
WORDS = {WORK: "computes", WAIT: "waits", MOVE: "transfers", PATH: "holds the step up"}
LEAST_LABEL = 40  # pixels that a layer's name takes


@dataclass(frozen=True)
class Theme:
    """Colours: of words, of words that are quieter, of each state of a track, and of names on top of work."""

    ink: str
    quiet: str
    idle: str
    work: str
    wait: str
    move: str
    path: str
    label: str

    def of(self, state: int) -> str:
        return (self.idle, self.work, self.wait, self.move, self.path)[state]


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#eef1f4", "#2f6db5", "#f0cf8e", "#4c9a8a", "#c8384f", "#ffffff"),
    "dark": Theme("#e6edf3", "#9198a1", "#1c222b", "#5a9be6", "#8a6a26", "#4fae9b", "#f0637a", "#0d1117"),
}


def columns(start: np.ndarray, end: np.ndarray, states: np.ndarray, cycles: int) -> np.ndarray:
    """int64 (WIDTH,): the state of each pixel column, that of most of its cycles. All arguments but the last: (K,)."""
    share = np.zeros((5, WIDTH))
    scale = WIDTH / cycles
    for low, high, state in zip(start * scale, end * scale, states, strict=True):
        first, last = int(low), min(int(np.ceil(high)), WIDTH)
        pixels = np.arange(first, last)
        share[state, first:last] += np.minimum(high, pixels + 1) - np.maximum(low, pixels)
    share[IDLE] = 1 - share.sum(axis=0)
    return share.argmax(axis=0)


def runs(line: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(first pixel, end, state) of everything on a line that is not idle."""
    edges = [0, *(np.flatnonzero(np.diff(line)) + 1), len(line)]
    return ((a, b, int(line[a])) for a, b in pairwise(edges) if line[a] != IDLE)


def tracks(books: Books) -> Iterator[tuple[str, np.ndarray]]:
    """Name and line of each engine and each memory."""
    waits = [WAIT if cause not in ("compute", "fill") else WORK for cause in CAUSES]
    for owners, found, states in (
        (books.engines, books.engine_intervals(), np.array(waits)),
        (books.memories, books.memory_intervals(), np.array([MOVE] * len(KINDS))),
    ):
        for number, name in enumerate(owners):
            yield NAMES.get(name, name), track_line(found, number, states, books.makespan_cycles)


def track_line(found: Intervals, number: int, states: np.ndarray, cycles: int) -> np.ndarray:
    mine = found.track == number
    return columns(found.start[mine], found.end[mine], states[found.what[mine]], cycles)


def on_path(books: Books) -> dict[str, np.ndarray]:
    """The line of each resource that the critical path runs through."""
    path = books.critical_path()
    names = {code: NAMES.get(name, name) for code, name in enumerate(books.engines)}
    names |= {-1 - code: name for code, name in enumerate(books.memories)}
    found = {}
    for code in sorted({int(resource) for resource in path[:, RESOURCE]}):
        mine = path[path[:, RESOURCE] == code]
        states = np.full(len(mine), PATH)
        found[names[code]] = columns(mine[:, PATH_START], mine[:, PATH_END], states, books.makespan_cycles)
    return found


def labels(books: Books, lines: dict[str, np.ndarray], theme: Theme) -> Iterator[str]:
    """The layers' names, where there is room and the engine does one thing."""
    scale = WIDTH / books.makespan_cycles
    for job, (start, end) in zip(books.jobs, books.spans(), strict=True):
        first = int(start * scale) + 4
        states = set(lines[NAMES[job.engine]][first : first + LEAST_LABEL])
        if len(states) == 1 and (end - start) * scale > LEAST_LABEL:
            y = TOP + list(books.engines).index(job.engine) * STEP + 15
            yield text(LEFT + first + 2, y, job.layer, theme.label if WORK in states else theme.ink, size=11)


def text(x: float, y: float, words: str, colour: str, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" fill="{colour}"/>'


def picture(books: Books, theme: Theme) -> str:
    """The whole SVG."""
    parts, lines, path = [], dict(tracks(books)), on_path(books)
    for number, (name, line) in enumerate(lines.items()):
        y = TOP + number * STEP
        parts += [text(LEFT - 10, y + 16, name, theme.ink, "end"), box(LEFT, y, WIDTH, HEIGHT, theme.idle)]
        parts += [box(LEFT + a, y, b - a, HEIGHT, theme.of(state)) for a, b, state in runs(line)]
        parts += [box(LEFT + a, y + HEIGHT, b - a, 4, theme.path) for a, b, _ in runs(path.get(name, line * 0))]
    parts += [*labels(books, lines, theme), *legend(theme), *axis(books.makespan_cycles, theme)]
    height = TOP + 6 * STEP + 34
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 24} {height}" role="img" '
        'font-family="system-ui, sans-serif"><title>One training step on H2Learn</title>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def legend(theme: Theme) -> Iterator[str]:
    for number, (state, word) in enumerate(WORDS.items()):
        x, thin = LEFT + number * 120, state == PATH
        yield box(x, 17 if thin else 12, 14, 4 if thin else 14, theme.of(state))
        yield text(x + 20, 24, word, theme.quiet)


def axis(cycles: int, theme: Theme) -> Iterator[str]:
    """Cycles below the tracks, in round numbers."""
    y = TOP + 6 * STEP
    for tick in range(0, cycles, 20_000):
        x = LEFT + tick * WIDTH / cycles
        yield box(x, y, 1, 5, theme.quiet)
        yield text(x, y + 20, f"{tick:,}" if tick else "cycles", theme.quiet, "middle" if tick else "start", 12)


def pictures() -> dict[str, str]:
    """Both files' texts by name."""
    result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"), bounds=True)
    assert result.books is not None
    return {f"step-{name}.svg": picture(result.books, theme) for name, theme in THEMES.items()}


if __name__ == "__main__":
    for name, svg in pictures().items():
        write_text(FOLDER / name, svg)
