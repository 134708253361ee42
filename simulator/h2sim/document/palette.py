"""Colours by what they mean, for light and dark pages; on light ones they are those of pictures (`style.py`).

Each is at least 3 : 1 against the paper and the panels of its theme (WCAG 2.2, 1.4.11); text is at least 4.5 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from h2sim.document import style

# meaning: (light, dark)
SURFACES: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#10151c"),
    "panel": ("#f4f6f8", "#19212b"),
    "ink": ("#17202b", "#e6ebf1"),
    "quiet": ("#55606e", "#a3b0be"),
    "line": ("#d5dbe3", "#323e4d"),
    "accent": ("#1d5bb8", "#8bbaff"),
    "marked": ("#fff1c2", "#3d3615"),
    "given": ("#1a7a48", "#5cc792"),
    "derived": ("#1d5bb8", "#8bbaff"),
    "assumed": ("#9a5208", "#f0a860"),
    "changed": ("#7c3fae", "#c9a3f5"),
}
DARK: Mapping[str, str] = {  # the colours of pictures on white paper, as they are on dark
    style.BLUE: "#56aee6",
    style.SKY: "#3c7fb0",
    style.GREEN: "#4fc39a",
    style.GOLD: "#e3b341",
    style.RED: "#f0697c",
    style.PURPLE: "#cf8fc4",
    style.GREY: "#8693a1",
}
_PARTS = {"compute": "compute", "fill": "fill", "stall: read": "read", "stall: write": "write", "stall: wait": "wait"}
_LIGHT = {
    **{short: style.CYCLES[long].colour for long, short in _PARTS.items()},
    **{name: look.colour for name, look in {**style.ENGINES, **style.COMPONENTS}.items()},
    "better": style.GREEN,
    "worse": style.RED,
    **{f"s{number}": colour for number, colour in enumerate((*style.SERIES, style.GREY))},
}
MEANINGS: Mapping[str, tuple[str, str]] = {name: (colour, DARK[colour]) for name, colour in _LIGHT.items()}
SERIES = tuple(name for name in MEANINGS if name.startswith("s") and name[1:].isdigit())


def series(number: int) -> str:
    """The colour of the n-th of several things without a meaning of their own."""
    return SERIES[number % len(SERIES)]


def css() -> str:
    """Custom properties for both themes, and a class for each meaning: f-NAME fills, l-NAME strokes."""
    colours = {**SURFACES, **MEANINGS}
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in colours.items()) for i in (0, 1))
    classes = "".join(f".f-{name}{{fill:var(--{name})}}.l-{name}{{stroke:var(--{name})}}" for name in MEANINGS)
    return (
        f":root{{color-scheme:light;{light}}}:root[data-theme=dark]{{color-scheme:dark;{dark}}}"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n{classes}\n"
    )
