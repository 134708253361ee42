"""Arrays as small pictures within a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from h2sim.document.markup import Markup, element

LEVELS = 32  # of the colour map: more cannot be told apart in so small a picture


def heat(values: NDArray[np.float64], alt: str, most: float) -> Markup:
    """A picture of one pixel a value, (H, W), from 0 to `most`, as an image of the page itself; NaN is blank."""
    from PIL import Image

    scaled = np.clip(np.nan_to_num(values / (most or 1)), 0, 1)
    levels = np.where(np.isnan(values), LEVELS, np.rint(scaled * (LEVELS - 1))).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette(_palette())
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    height, width = values.shape
    source = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    return element("img", src=source, width=width, height=height, alt=alt)


def _palette() -> list[int]:
    """Red, green and blue of each level, then of a blank pixel."""
    from matplotlib import colormaps

    colours = (colormaps["viridis"](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(int)
    return [*(int(value) for colour in colours for value in colour), 128, 128, 128]
