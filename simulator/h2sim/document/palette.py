"""Colours by what they mean, for light and dark pages: a picture and a table that speak of one thing have one colour.

Each is at least 3 : 1 against the paper and the panels of its theme (WCAG 2.2, 1.4.11); text is at least 4.5 : 1.
"""

from __future__ import annotations

from collections.abc import Mapping

# meaning: (light, dark)
SURFACES: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#10151c"),
    "panel": ("#f4f6f8", "#19212b"),
    "ink": ("#17202b", "#e6ebf1"),
    "quiet": ("#55606e", "#a3b0be"),
    "line": ("#d5dbe3", "#323e4d"),
    "accent": ("#1d5bb8", "#8bbaff"),
    "marked": ("#fff1c2", "#3d3615"),
    "given": ("#1b7f4b", "#5cc792"),
    "derived": ("#1d5bb8", "#8bbaff"),
    "assumed": ("#9a5208", "#f0a860"),
    "changed": ("#7c3fae", "#c9a3f5"),
}
_BLUE, _PALE, _RED, _AMBER, _GREY = ("#2f6db3", "#5c9be0"), ("#6a9cc9", "#3f7fc0"), ("#c93c50", "#f0697c"), (
    "#b7791f", "#f0b14f"), ("#838d9a", "#7d8b9b")  # fmt: skip
_GREEN, _VIOLET, _TEAL, _BROWN = ("#23855f", "#58b98a"), ("#7c54b0", "#b08be0"), ("#2b8b86", "#5fc7c0"), (
    "#8b5a2b", "#c99a6b")  # fmt: skip
MEANINGS: Mapping[str, tuple[str, str]] = {
    "compute": _BLUE, "fill": _PALE, "read": _RED, "write": _AMBER, "wait": _GREY,
    "forward": _BLUE, "weight_update": _VIOLET, "backward": _GREEN,
    "pe_array": _BLUE, "acc": _PALE, "soma": _GREEN, "grad": _GREEN, "glb": _AMBER, "leakage": _GREY,
    "offchip": _VIOLET, "better": _GREEN, "worse": _RED,
    "s0": _BLUE, "s1": _AMBER, "s2": _GREEN, "s3": _RED, "s4": _VIOLET, "s5": _TEAL, "s6": _GREY, "s7": _BROWN,
}  # fmt: skip
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
