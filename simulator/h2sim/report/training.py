"""What a training run's log looks like: loss and held-out accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from h2sim.document.drawing import few, line_look, panels, whole
from h2sim.document.pictures import PNG, Plots, draw_picture
from h2sim.document.style import LOG

Row = dict[str, Any]


def draw_log(rows: Sequence[Row], path: Path, plots: Plots = PNG) -> list[Path]:
    """Rows as log.csv holds them (epoch, loss or None, accuracy); path: without ending. Returns the files' paths."""
    return draw_picture(lambda width: _log(rows, width), path, plots)


def _log(rows: Sequence[Row], width_mm: float) -> Figure:
    known = [row for row in rows if row["loss"] is not None]
    figure, axes = panels(2 if known else 1, width_mm, 52.0)
    axes[0].plot([r["epoch"] for r in rows], [100 * r["accuracy"] for r in rows], **line_look(LOG["accuracy"]))
    axes[0].set(ylabel="accuracy, held out (%)", ylim=(0, 102))
    if known:
        axes[1].plot([r["epoch"] for r in known], [r["loss"] for r in known], **line_look(LOG["loss"]))
        axes[1].set(ylabel="loss, mean of the epoch")
        axes[1].set_ylim(bottom=0)
    for axis in axes:
        axis.set_xlabel("epoch")
        whole(axis.xaxis)
        few(axis.yaxis)
    return figure
