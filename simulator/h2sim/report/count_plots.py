"""A picture of a network input of counts: how often each count comes, and the mean count by timestep."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from h2sim.arrays import Array, Floats
from h2sim.document.drawing import few, line_look, whole
from h2sim.document.style import OURS

MOST_BARS = 64


def draw_counts(axes: tuple[Axes, Axes], counts: Array, most: int) -> None:
    """Draws counts, integers (T, N, C, H, W) from 0 to `most`, into two axes: shares, and means by timestep."""
    edges, shares = count_shares(counts, most)
    axes[0].bar(edges[:-1], shares, width=np.diff(edges), align="edge", color=OURS.colour, edgecolor="white", lw=0.5)
    axes[0].set(xlabel="count", ylabel="share of the input's values")
    means = counts.mean(axis=tuple(range(1, counts.ndim)))
    axes[1].plot(np.arange(len(means)), means, **line_look(OURS))
    axes[1].set(xlabel="timestep", ylabel="mean count", ylim=(0, 1.1 * max(float(means.max()), 1.0)))
    for axis in axes:
        whole(axis.xaxis)
        few(axis.yaxis)


def count_shares(counts: Array, most: int) -> tuple[Floats, Floats]:
    """Share of the values from each edge to the next: a bar a count, or MOST_BARS bars of as many counts each."""
    each = -(-(most + 1) // MOST_BARS)
    edges = np.arange(0, most + 1 + each, each) - 0.5
    found, _ = np.histogram(counts, edges)
    return edges, found / counts.size
