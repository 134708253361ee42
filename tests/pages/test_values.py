"""The writer: what each value becomes, how tables shrink, which colours may stand on which ground."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.document import Column, Document, Note, Number, Table, to_csv, to_text
from h2sim.document.heat import heat
from h2sim.document.html import WIDTHS, narrow_columns, part_html
from h2sim.document.markup import element, escape, join, plain
from h2sim.document.page import Folded, Page, Prose, Section, page_document
from h2sim.document.palette import MEANINGS, SURFACES
from h2sim.document.shell import page_html
from h2sim.document.svg import LogAxis, short
from h2sim.document.values import Bar
from h2sim.pages.compare import compare_page
from h2sim.pages.machine import flat
from h2sim.pages.sweep import turned


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lower, higher = sorted((luminance(one), luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_are_seen_on_paper_and_panels(theme):
    for ground in ("paper", "panel"):
        for name, pair in MEANINGS.items():
            assert contrast(pair[theme], SURFACES[ground][theme]) >= 3, (name, ground)
        for name in ("ink", "quiet", "accent", "given", "derived", "assumed", "changed"):
            assert contrast(SURFACES[name][theme], SURFACES[ground][theme]) >= 4.5, (name, ground)
    assert contrast(SURFACES["ink"][theme], SURFACES["marked"][theme]) >= 4.5


@given(st.text(max_size=60))
def test_no_text_becomes_markup(text):
    shown = element("p", text, title=text)
    assert len(re.findall(r"<", shown)) == 2
    assert shown.count('"') == 2
    assert escape(text).isprintable()


@given(st.floats(-1e6, 1e6))
def test_numbers_of_pictures_are_near_and_short(value):
    assert abs(float(plain(value)) - value) <= 0.005 + 1e-9
    assert "e" not in plain(value)


def test_join_keeps_markup_and_escapes_text():
    assert join([element("b", "a"), "<i>", None]) == "<b>a</b>&lt;i&gt;"


def test_bars_add_up_to_their_share_and_say_their_words():
    shown = part_html(Table("", (Column("x"),), ((Bar("all of it", 4, (("compute", 1), ("read", 3)), 8),),)))
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="10"', shown)]
    assert widths == [12.5, 37.5]
    assert "<title>all of it</title>" in shown
    assert 'data-v="4"' in shown


def test_a_bar_is_its_words_in_a_terminal_and_its_value_in_csv():
    table = Table("t", (Column("x"),), ((Bar("half", 0.5, (("compute", 0.5),), 1),),))
    assert "half" in to_text(Document("v.", (table,)))
    assert to_csv(table) == "x\n0.5\n"


@given(st.lists(st.tuples(st.floats(20, 400), st.integers(0, 5)), min_size=1, max_size=9))
def test_columns_leave_in_their_order_and_only_where_there_is_no_room(drawn):
    columns = [Column(f"c{n}", drop=drop) for n, (_, drop) in enumerate(drawn)]
    pixels = [size for size, _ in drawn]
    below = narrow_columns(columns, pixels)
    for width in WIDTHS:
        kept = [n for n, gone in enumerate(below) if gone is None or gone < width]
        gone = [n for n in range(len(columns)) if n not in kept]
        assert all(columns[n].drop for n in gone)
        if gone:
            last = max(columns[n].drop for n in gone)
            assert all(not columns[n].drop or columns[n].drop >= last for n in kept)
        if sum(pixels[n] for n in kept) > width:
            assert not any(columns[n].drop for n in kept)


def test_prose_is_our_markdown_and_holds_no_html_of_its_own():
    shown = part_html(Prose("*one* `two` <img src=x>\n\n| a | b |\n|---|---|\n| 1 | 2 |"))
    assert "<em>one</em> <code>two</code>" in shown
    assert "<img" not in shown
    assert shown.count('role="group"') == 1


def test_data_cannot_end_its_script():
    text = page_html(Page("t", "s", "v", (), data={"name": "</script><script>alert(1)</script>"}))
    assert text.count("</script>") == 2


def test_a_page_in_a_terminal_is_its_tables_and_notes():
    table = Table("", (Column("x"),), (("1",),))
    page = Page(
        "t", "s", "v.", (Section("a", "A", "Title", (table, Note("mind"), Folded("f", ()))), Section("b", "B", "T", ()))
    )
    document = page_document(page, ["a"])
    assert [type(part) for part in document.parts] == [Table, Note]
    assert document.tables[0].title == "Title"


def test_wide_tables_of_few_rows_are_turned():
    table = Table("t", tuple(Column(name) for name in "abcdef"), (("1", "2", "3", "4", "5", Number("6", 6)),))
    assert turned(table).texts() == [["b", "2"], ["c", "3"], ["d", "4"], ["e", "5"], ["f", "6"]]
    small = Table("t", (Column("a"), Column("b")), (("1", "2"),))
    assert turned(small) is small


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_an_axis_holds_all_values_and_equal_ratios_are_equal_lengths(values):
    axis = LogAxis.of(values, 10, 210)
    assert all(10 < axis.at(value) < 210 for value in values)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks())
    assert math.isclose(axis.at(values[0] * 2) - axis.at(values[0]), axis.at(2.0) - axis.at(1.0), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("value", "text"), [(20_000, "20 k"), (500, "500"), (0.002, "2 m"), (1e6, "1 M"), (5e-7, "500 n")]
)
def test_ticks_are_short(value, text):
    assert short(value) == text


def test_pictures_of_arrays_are_the_same_bytes_and_blank_where_nothing_is():
    values = np.array([[0, 1, np.nan], [0.5, 0.25, 0]])
    assert heat(values, "x", 1.0) == heat(values.copy(), "x", 1.0)
    assert 'width="3" height="2"' in heat(values, "x", 1.0)


def test_notebooks_show_results_as_tables():
    import h2sim

    trace = h2sim.load_trace("mnist-digits")
    ours, theirs = (h2sim.simulate(h2sim.load_machine(name), trace)._repr_html_() for name in ("h2learn", "spinalflow"))
    for shown in (ours, theirs):
        assert shown.startswith("<p><strong>mnist-small on ")
        assert shown.count("<table>") >= 1
        assert "<script" not in shown


def test_the_machines_parameters_are_all_there_with_their_origin():
    import h2sim
    from h2sim.pages.result import result_page

    changed = h2sim.load_arch("h2learn").with_({"engines.backward.rows": 32})
    result = h2sim.simulate(changed, h2sim.load_trace("mnist-digits"))
    page = result_page(result.to_dict())
    (section,) = [each for each in page.sections if each.key == "machine"]
    (table,) = [part for folded in section.parts if isinstance(folded, Folded) for part in folded.parts]
    rows = {row[0]: row for row in table.texts()}
    shown = dict(flat(changed.model_dump(mode="json")))
    assert set(rows) == set(shown) - {"name", "description", "machine", "version"}
    assert rows["engines.backward.rows"][1:3] == ["32", "changed"]
    assert "16 as shipped" in rows["engines.backward.rows"][3]
    assert rows["clock_hz"][2] == "given"
    assert rows["tile.height"][2] == "assumed"
    assert {row[2] for row in rows.values()} <= {"given", "derived", "assumed", "changed", "-"}


def test_a_comparison_without_results_of_ours_is_still_a_page():
    from h2sim.compare.measurement import Measurement
    from h2sim.compare.ratios import compare

    def system(name, seconds):
        return Measurement(
            system=name, kind="measured", network="n", samples=1, seconds=seconds, energy_j=None, area_mm2=None,
            node_nm=None, phases=("forward",),
        )  # fmt: skip

    page = compare_page([compare(system("a", 1.0), system("b", 2.0))], [], [])
    assert "2.00x faster" in page.verdict
    titles = [part.title for section in page.sections for part in section.parts if isinstance(part, Table)]
    assert titles == ["Time of a sample"]
