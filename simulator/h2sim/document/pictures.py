"""Pictures as files: the same bytes for the same input, with the hashes of what they show inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from h2sim.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(
    figure: Figure,
    path: Path,
    *,
    dpi: int = 120,
    tight: bool = True,
    fitted: bool = False,
    told: Mapping[str, str] | None = None,
) -> None:
    """Writes a figure as PNG (aside, then renamed) and closes it; no date and no program's name stand in it.

    tight: the picture ends where its content does. fitted: the axes first move until their labels have room.
    told: text entries of the file, such as the sha256 of the arch file and the trace that a picture was made of.
    """
    import matplotlib.pyplot as plt

    metadata: dict[str, str | None] = {"Software": None, **(told or {})}
    with replacing(path) as aside, warnings.catch_warnings():
        for what in ("Glyph", "Matplotlib currently does not support"):  # a name in a script that the font lacks:
            warnings.filterwarnings("ignore", message=what)  # boxes will do
        if fitted:
            figure.tight_layout()
        figure.savefig(aside, format="png", dpi=dpi, bbox_inches="tight" if tight else None, metadata=metadata)
    plt.close(figure)
