"""Pictures as files: the same bytes for the same input, with the hashes of what they show inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2sim.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIXED: Any = {"svg.hashsalt": "h2sim", "svg.fonttype": "path", "pdf.fonttype": 42}


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
    with replacing(path) as aside, _whatever_the_script():
        if fitted:
            figure.tight_layout()
        figure.savefig(aside, format="png", dpi=dpi, bbox_inches="tight" if tight else None, metadata=metadata)
    plt.close(figure)


def save_pictures(
    figure: Figure, path: Path, formats: Sequence[str], *, dpi: int = 200, told: Mapping[str, str] | None = None
) -> list[Path]:
    """Writes a figure at its exact size as `path` with each of the endings png, svg and pdf, and closes it.

    The figure's title stands in the PNG alone: a paper has a caption. Vector formats hold glyphs as shapes (SVG) or
    with their fonts (PDF), and as pixels of `dpi` what is marked as rasterized. told: as for `save_png`.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    paths = []
    title = figure.get_suptitle()
    for kind in sorted(formats, key=("png", "svg", "pdf").index):
        target = path.with_name(f"{path.name}.{kind}")
        if kind == "png":
            save_png(figure, target, dpi=dpi, tight=False, told=told)  # closes it: it can be saved still
        else:
            if title:
                figure.suptitle("").set_in_layout(False)
            with replacing(target) as aside, _whatever_the_script(), matplotlib.rc_context(_FIXED):
                figure.savefig(aside, format=kind, dpi=dpi, metadata=_undated(kind, told or {}))
        paths.append(target)
    plt.close(figure)
    return paths


def _undated(kind: str, told: Mapping[str, str]) -> dict[str, str | None]:
    """Metadata of a vector format: no date, no program, and what is told in one entry."""
    said = "; ".join(f"{name} {value}" for name, value in told.items()) or None
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
