"""A page as one HTML file that asks nothing of any network: its styles, scripts and data stand in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from h2sim.document.html import narrow_css, part_html
from h2sim.document.markup import Markup, element, join, raw
from h2sim.document.page import Page, Section, Tile
from h2sim.document.palette import css

ALWAYS = ("page",)  # scripts of every page


def page_html(page: Page) -> str:
    """The whole file. Scripts and styles run by their hashes alone, so that no name in a result can act."""
    style, script = f"{css()}{asset('page.css')}\n{narrow_css()}", _script(page)
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("title", f"{page.title}: h2sim"),
        element("link", rel="icon", href="data:,"),
        element("style", raw(style)),
    ]
    body = [
        element("a", "Skip to the result", href="#main", class_="skip"),
        _bar(page.sections),
        _main(page),
        element("script", raw(_json(page.data)), type="application/json", id="data"),
        element("script", raw(script)),
    ]
    return f"<!doctype html>\n{element('html', element('head', *head), element('body', *body), lang='en')}\n"


@cache
def asset(name: str) -> str:
    """A file of ours beside this one, as it goes into pages."""
    return files("h2sim.document").joinpath("static", name).read_text("utf-8").strip()


def _script(page: Page) -> str:
    return "\n".join(asset(f"{name}.js") for name in (*ALWAYS, *page.scripts))


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: Mapping[str, Any]) -> str:
    """Plain data within a script element, which no text of it can end."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _bar(sections: tuple[Section, ...]) -> Markup:
    links = [element("a", section.name, href=f"#{section.key}") for section in sections]
    theme = element("button", "dark / light", id="theme", type="button", hidden=True)
    return element("nav", element("b", "h2sim"), element("div", *links), theme, aria_label="Sections")


def _main(page: Page) -> Markup:
    badge = element("span", page.badge, class_="badge") if page.badge else None
    head = element(
        "header",
        element("h1", page.title, " " if badge else None, badge),
        element("p", page.subtitle, class_="quiet"),
        element("p", page.verdict, class_="verdict"),
        element("div", *map(_tile, page.tiles), class_="tiles") if page.tiles else None,
    )
    body = element("div", *map(_section, page.sections), class_="sections")
    panel = _panel(page.aside) if page.aside else None
    return element("main", head, body, panel, id="main", class_="with-panel" if panel else None)


def _tile(tile: Tile) -> Markup:
    return element("p", tile.name, element("b", tile.value), tile.words)


def _section(section: Section) -> Markup:
    inner = join(part_html(part) for part in section.parts)
    return element("section", element("h2", section.title), inner, id=section.key)


def _panel(words: str) -> Markup:
    close = element("button", "close", type="button", class_="close")
    inner = element("div", element("p", words, class_="quiet"), class_="chosen")
    return element("aside", close, inner, aria_label="What is chosen", tabindex=0, hidden=True)
