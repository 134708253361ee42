"""What a training run's log looks like: loss and held-out accuracy by epoch, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from h2sim.document.pictures import save_png


def draw_log(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Rows as log.csv holds them (epoch, loss or None, accuracy)."""
    figure, accuracy = plt.subplots(figsize=(7, 3.5))
    loss = accuracy.twinx()
    known = [row for row in rows if row["loss"] is not None]
    loss.plot([r["epoch"] for r in known], [r["loss"] for r in known], color="#b8b8b8", marker="o")
    accuracy.plot([r["epoch"] for r in rows], [r["accuracy"] for r in rows], color="#3b6ea5", marker="o")
    accuracy.set(xlabel="epoch", ylabel="accuracy, held out (blue)", ylim=(0, 1))
    loss.set_ylabel("loss, mean of the epoch (grey)")
    loss.set_ylim(bottom=0)
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_png(figure, path)
