"""Pieces of pictures in SVG: shapes of a given size, and axes whose numbers are round."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h2sim.document.markup import Child, Markup, element
from h2sim.document.numbers import significant

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "\u00b5"), (1e-9, "n"))


def svg(width: float, height: float, label: str, *children: Child, interactive: bool = False) -> Markup:
    """A picture of width x height units that says in words what it shows.

    interactive: it holds links, which a picture that is one image to a screen reader may not.
    """
    role = "group" if interactive else "img"
    return element("svg", *children, viewBox=f"0 0 {width:g} {height:g}", role=role, aria_label=label)


@dataclass(frozen=True)
class LogAxis:
    """Positive numbers from `low` to `high` onto `start` to `end` of a picture, equal ratios at equal lengths."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, margin: float = 0.06) -> LogAxis:
        """An axis that holds all values, with room at both ends."""
        low, high = math.log(min(values)), math.log(max(values))
        room = max(margin * (high - low), 0.15)
        return cls(math.exp(low - room), math.exp(high + room), start, end)

    def at(self, value: float) -> float:
        """Where a number stands."""
        share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten; with 2 and 5 between where they are few."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1,), (1, 2, 5)):
            found = [f * 10.0**power for power in range(first, last + 1) for f in factors]
            found = [tick for tick in found if self.low <= tick <= self.high]
            if len(found) > 2:
                break
        return found


def short(value: float) -> str:
    """A tick's number: 20 k, 500, 5 m."""
    for factor, prefix in PREFIXES:
        if abs(value) >= factor * 0.9999:
            return f"{value / factor:g}{' ' * bool(prefix)}{prefix}"
    return significant(value)


def stripes(x: Sequence[float], top: Sequence[float], height: Sequence[float], width: float, meaning: str) -> Markup:
    """Upright lines side by side in one path: much smaller than a rectangle each."""
    lines = "".join(f"M{a:.6g} {b:.4g}v{h:.4g}" for a, b, h in zip(x, top, height, strict=True) if h > 0)
    return element("path", d=lines, stroke_width=f"{width:.6g}", class_=f"l-{meaning}")


def axes(across: LogAxis, up: LogAxis, height: float, names: tuple[str, str]) -> Iterator[Markup]:
    """Both axes' lines, numbers and names; below the picture's height are 6 units to its edge."""
    for tick in across.ticks():
        x = across.at(tick)
        yield element("line", x1=x, x2=x, y1=up.end, y2=up.start, class_="grid")
        yield element("text", short(tick), x=x, y=up.start + 15, text_anchor="middle", class_="q")
    for tick in up.ticks():
        y = up.at(tick)
        yield element("line", x1=across.start, x2=across.end, y1=y, y2=y, class_="grid")
        yield element("text", short(tick), x=across.start - 5, y=y + 4, text_anchor="end", class_="q")
    middle = (across.start + across.end) / 2
    yield element("text", names[0], x=middle, y=height - 6, text_anchor="middle", class_="q")
    turned = f"translate(12 {(up.start + up.end) / 2:g}) rotate(-90)"
    yield element("text", names[1], transform=turned, text_anchor="middle", class_="q")
