"""Values as HTML: tables that sort, bars, folded parts. A fragment for notebooks, and the body of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from h2sim.document.markup import Child, Markup, element, join, raw
from h2sim.document.page import Folded, Gallery, Legend, Listing, PagePart, Pairs, Picture, Prose
from h2sim.document.values import Bar, Cell, Column, Document, Figure, Line, Note, Table, text_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

WIDTHS = (340, 400, 480, 640, 800, 960, 1120)  # of a table's room in CSS pixels, at which columns may be left out
LETTER, GAP, BAR = 7.6, 18, 130  # pixels of a letter of a table, between columns, and of a bar
LONG = 40  # letters of a cell, from which on it may break anywhere


def to_html(document: Document) -> str:
    """A document as a fragment without styles or scripts, as notebooks show it."""
    verdict = element("p", element("strong", document.verdict))
    return join([verdict, *(part_html(part) for part in document.parts)])


def part_html(part: PagePart) -> Markup | None:
    """One part of a document or a page."""
    return _WRITERS[type(part)](part)


def _figure(figure: Figure) -> Markup:
    return element("figure", element("img", src=quote(figure.path), alt=figure.alt))


def _listing(listing: Listing) -> Markup:
    return element("pre", element("code", raw(_lines(listing.text))), data_name=listing.name or None, tabindex=0)


def _folded(folded: Folded) -> Markup:
    inner = join(part_html(each) for each in folded.parts)
    return element("details", element("summary", folded.summary), inner, id=folded.key or None)


def legend_html(items: Iterable[tuple[str, str]]) -> Markup:
    """Swatches with their words."""
    swatch = [
        element("span", element("svg", element("rect", width=10, height=10, class_=f"f-{meaning}"), **_SWATCH), words)
        for meaning, words in items
    ]
    return element("p", *swatch, class_="legend")


_SWATCH: dict[str, str | float | bool | None] = {"width": 10, "height": 10, "aria_hidden": "true"}


def table_html(table: Table) -> Markup:
    """A table with its title as caption; in a narrow room it does what it does on a narrow terminal.

    Columns are left out in their order; where those that stay still have no room, each row is a block of its cells.
    """
    looks = _looks(table)
    head = [
        element("th", column.name, scope="col", class_=look.classes)
        for column, look in zip(table.columns, looks, strict=True)
    ]
    keys: Sequence[str] = table.keys or [""] * len(table.rows)
    rows = [_row(row, looks, key) for row, key in zip(table.rows, keys, strict=True)]
    caption = element("caption", table.title) if table.title else None
    grid = element("table", caption, element("thead", element("tr", *head)), element("tbody", *rows))
    folds = _folds_below(table, looks)
    region = element(
        "div", grid, class_=f"scroll fold-{folds}" if folds else "scroll", tabindex=0, role="group",
        aria_label=table.title or "table",
    )  # fmt: skip
    foot = [element("p", text, class_="foot") for text in table.foot]
    return element("div", region, _left_out(table, looks), *foot, class_="table")


def narrow_css() -> str:
    """Rules for each width of a table's room: which columns go, what is said of them, which tables become blocks."""
    return "\n".join(_narrow(width) for width in WIDTHS)


def _narrow(width: int) -> str:
    fold = f".fold-{width}"
    rules = (
        f".from-{width}{{display:none}}.below-{width}{{display:block}}span.below-{width}{{display:inline!important}}",
        f"{fold} :is(table,caption,tbody,tr,td){{display:block;width:auto!important;text-align:left}}",
        f"{fold} :is(caption,td){{white-space:normal}}",
        f"{fold} thead{{position:absolute;left:-9999px}}{fold}+.left{{display:none}}",
        f"{fold} tr{{padding:.35rem 0;border-bottom:1px solid var(--line)}}",
        f"{fold} td[data-l]{{display:grid;grid-template-columns:minmax(6rem,40%) minmax(0,1fr);gap:.6rem}}",
        f"{fold} td{{overflow-wrap:anywhere}}{fold} td[data-l]::before{{content:attr(data-l);color:var(--quiet)}}",
    )
    return f"@container (max-width:{width}px){{{''.join(rules)}}}"


@dataclass(frozen=True)
class _Look:
    """How a column stands: its width in pixels, below which room it is left out, its label in a block."""

    column: Column
    pixels: float
    prose: bool
    below: int | None = None
    label: str | None = None

    @property
    def classes(self) -> str | None:
        """Of the header and the cells."""
        names = ["r"] * self.column.right + ["prose"] * self.prose + [f"from-{self.below}"] * bool(self.below)
        return " ".join(names) or None


def _looks(table: Table) -> list[_Look]:
    plain = [_look(column, [row[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    below = narrow_columns(table.columns, [look.pixels for look in plain])
    looks = [replace(look, below=width) for look, width in zip(plain, below, strict=True)]
    folds = _folds_below(table, looks)
    return [replace(look, label=look.column.full_name or None) for look in looks] if folds else looks


def narrow_columns(columns: Sequence[Column], pixels: Sequence[float]) -> list[int | None]:
    """For each column, the width of room below which it is left out; None: it always stays.

    What goes first is what goes first on a terminal (`Column.drop`).
    """
    going = sorted((i for i, column in enumerate(columns) if column.drop), key=lambda i: columns[i].drop)
    below: list[int | None] = [None] * len(columns)
    for width in sorted(WIDTHS, reverse=True):
        for i in going:
            if below[i] is None and sum(s for s, gone in zip(pixels, below, strict=True) if gone is None) > width:
                below[i] = width
    return below


def _look(column: Column, cells: Sequence[Cell]) -> _Look:
    longest = max((len(text_of(cell)) for cell in cells), default=0)
    if any(isinstance(cell, Bar) for cell in cells):
        return _Look(column, BAR + GAP, prose=False)
    if column.prose or longest > LONG:
        return _Look(column, 150 + GAP, prose=True)
    words = max(map(len, column.name.split()), default=0)
    return _Look(column, LETTER * max(longest, words) + GAP, prose=False)


def _folds_below(table: Table, looks: Sequence[_Look]) -> int | None:
    """The widest room in which the columns that always stay have none, if each row then reads as a block."""
    least = sum(look.pixels for look in looks if look.below is None)
    return max((width for width in WIDTHS if width < least), default=None) if len(table.columns) > 2 else None


def _left_out(table: Table, looks: Sequence[_Look]) -> Markup | None:
    """Which columns have no room, said at just the widths at which they have none."""
    gone = [look for look in looks if look.below]
    if not gone:
        return None
    names = [element("span", look.column.full_name, class_=f"below-{look.below}") for look in gone]
    widest = max(look.below or 0 for look in gone)
    where = "its row's details have them" if table.keys else "a wider window has them"
    return element("p", "left out at this width: ", *names, f" ({where})", class_=f"left below-{widest}")


def _row(row: Sequence[Cell], looks: Sequence[_Look], key: str) -> Markup:
    cells = []
    for number, (look, cell) in enumerate(zip(looks, row, strict=True)):
        inner: Child = _bar_cell(cell) if isinstance(cell, Bar) else text_of(cell)
        if key and number == 0:
            inner = element("a", inner, href=f"#{key}")
        value = None if isinstance(cell, str) else cell.value
        cells.append(element("td", inner, data_v=_exact(value, cell), data_l=look.label, class_=look.classes))
    return element("tr", *cells, data_key=key or None)


def _bar_cell(bar: Bar) -> Markup:
    if not bar.label:
        return bar_html(bar)
    return element("div", element("span", bar.label), bar_html(bar), class_="labelled")


def _exact(value: float | None, cell: Cell) -> str | None:
    """What a column is sorted by, where its text does not say it."""
    if isinstance(cell, str):
        return None
    return "" if value is None else repr(value)


def bar_html(bar: Bar) -> Markup:
    """Parts laid end to end; each says on hovering what it is."""
    x, parts = 0.0, []
    for meaning, amount in bar.parts:
        width = 100 * amount / bar.whole if bar.whole else 0.0
        if width > 0:
            parts.append(element("rect", x=x, width=max(width, 0.01), height=10, class_=f"f-{meaning}"))
        x += width
    shape = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none"}
    return element("svg", element("title", bar.text), *parts, class_="bar", role="img", **shape)


def _picture(picture: Picture) -> Markup:
    if picture.narrow is None:
        return element("div", picture.markup, class_="picture")
    return join(
        [
            element("div", picture.markup, class_="picture wide-only"),
            element("div", picture.narrow, class_="picture narrow-only"),
        ]
    )


def _pairs(pairs: Pairs) -> Markup | None:
    if not pairs.items:
        return None
    shown = [
        join([element("dt", name), element("dd", element("code", value) if pairs.code else value)])
        for name, value in pairs.items
    ]
    return element("dl", *shown)


def _gallery(gallery: Gallery) -> Markup:
    groups = []
    for key, name, pictures in gallery.groups:
        shown = [element("figure", image, element("figcaption", caption)) for image, caption in pictures]
        title = element("h3", element("a", name, href=f"#{key}") if key else name) if name else None
        groups.append(element("article", title, element("div", *shown), data_key=key or None))
    return element("div", *groups, class_="gallery")


def _lines(text: str) -> str:
    """Text as it stands, line breaks and all; each line is made harmless for itself."""
    return "\n".join(join([line]) for line in text.split("\n"))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    writer = MarkdownIt("commonmark", {"html": False}).enable("table")
    writer.add_render_rule("table_open", lambda *_: _REGION)
    writer.add_render_rule("table_close", lambda *_: "</table></div></div>")
    return writer


_REGION = '<div class="table prose"><div class="scroll" tabindex="0" role="group" aria-label="table"><table>'


_WRITERS: dict[type, Callable[[Any], Markup | None]] = {
    Table: table_html,
    Line: lambda line: element("p", line.text),
    Note: lambda note: element("p", element("b", f"{note.kind}: "), note.text, class_="note"),
    Figure: _figure,
    Picture: _picture,
    Legend: lambda legend: legend_html(legend.items),
    Pairs: _pairs,
    Listing: _listing,
    Folded: _folded,
    Gallery: _gallery,
    Prose: lambda prose: raw(_markdown().render(prose.text)),
}
