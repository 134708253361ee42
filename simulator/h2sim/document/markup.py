"""HTML and SVG as text that is safe by construction: whatever is no Markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from h2sim.errors import printable

VOID = {"br", "img", "input", "link", "meta", "col", "hr"}


class Markup(str):
    """Text that is HTML already, made by `element`, `join` or `raw` alone."""

    __slots__ = ()


Child = str | Markup | None


def raw(text: str) -> Markup:
    """Text of our own that is HTML as it stands: never of a file or a user."""
    return Markup(text)


def escape(text: str) -> Markup:
    """Text as HTML shows it, within an element or a quoted attribute; what does not print is shown as its code."""
    return Markup(html.escape(printable(text)))


def join(children: Iterable[Child], between: str = "") -> Markup:
    """Markup and text, one after the other; None is nothing."""
    return Markup(between.join(_safe(child) for child in children if child is not None))


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """`<tag attributes>children</tag>`.

    A trailing underscore is dropped (`class_`), others become dashes (`data_v`); None and False leave an attribute
    out, True is one without a value.
    """
    shown = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return Markup(f"<{tag}{shown}>")
    return Markup(f"<{tag}{shown}>{join(children)}</{tag}>")


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    key = name.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {key}"
    shown = escape(value) if isinstance(value, str) else plain(value)
    return f' {key}="{shown}"'


def plain(number: float) -> str:
    """A number of a picture, to a hundredth: 12.30 is 12.3."""
    if isinstance(number, int):
        return str(number)
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _safe(child: Child) -> str:
    return child if isinstance(child, Markup) else escape(child or "")
