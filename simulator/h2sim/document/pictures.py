"""Pictures as files: PNG for the screen, SVG and PDF for a paper; the same bytes for the same input.

A picture is a function that makes a figure of a width. Its title stands in the PNG alone: a paper has a caption.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h2sim.document.style import COLUMN_MM, DPI, FORMATS, PAGE_MM
from h2sim.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Make = Callable[[float], "Figure"]  # of a width in mm


@dataclass(frozen=True)
class Plots:
    """How pictures are written: in which formats, and how wide, in mm (default: a page in PNG, else a column)."""

    formats: tuple[str, ...] = ("png",)
    width_mm: float | None = None

    def width_of(self, kind: str) -> float:
        """Of one of the formats."""
        return self.width_mm or (PAGE_MM if kind == "png" else COLUMN_MM)


PNG = Plots()


def draw_picture(
    make: Make, path: Path, plots: Plots = PNG, *, title: str = "", told: Mapping[str, str] | None = None
) -> list[Path]:
    """Writes a picture as `path` with the ending of each format (aside, then renamed); returns the files' paths.

    Vector formats hold glyphs as shapes (SVG) or with their fonts (PDF). told: text entries of the files, such as the
    sha256 of the arch file and the trace that the picture was made of.
    """
    from h2sim.document.drawing import headline, one_look

    paths = []
    for kind in sorted(plots.formats, key=FORMATS.index):
        width = plots.width_of(kind)
        target = path.with_name(f"{path.name}.{kind}")
        with replacing(target) as aside, one_look(), _whatever_the_script():
            figure = make(width)
            if title and kind == "png":
                headline(figure, title, width)
            _settle(figure)
            figure.savefig(aside, format=kind, dpi=DPI, metadata=_undated(kind, told or {}))
        paths.append(target)
    return paths


def _settle(figure: Figure) -> None:
    """Places everything: maps of a fixed shape move their neighbours, so that one pass is not enough."""
    for _ in range(2):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _undated(kind: str, told: Mapping[str, str]) -> dict[str, str | None]:
    """Metadata of a format: no date, no program, and what is told, in vector formats in one entry."""
    said = "; ".join(f"{name} {value}" for name, value in told.items()) or None
    if kind == "png":
        return {"Software": None, **told}
    if kind == "svg":
        return {"Date": None, "Creator": None, "Description": said}
    return {"CreationDate": None, "Creator": None, "Producer": None, "Keywords": said}


@contextmanager
def _whatever_the_script() -> Iterator[None]:
    """A block in which a name in a script that the font lacks is no warning: boxes will do."""
    with warnings.catch_warnings():
        for what in ("Glyph", "Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", message=what)
        yield
