"""Documents: what a narrow terminal, a pipe, CSV and Markdown make of the same values."""

from __future__ import annotations

import pytest

from h2sim.document import Column, Document, Figure, Line, Note, Number, Table, table, to_csv, to_markdown, to_text

LAYERS = table(
    "Layers of one sub-batch",
    ["layer", "phase"],
    ["compute cycles", "fill cycles", "energy uJ"],
    [("conv1", "forward", "13,200", "32", "1.250"), ("conv2", "weight_update", "38,016", "1,024", "12.500")],
    drop=["fill cycles", "compute cycles"],
    elsewhere="--csv FILE",
)


def lines(part, width=None):
    text = to_text(Document("It works.", (part,)), width)
    head, _, body = text.partition("\n\n")
    assert head == "It works."
    return body.splitlines()


def test_a_pipe_gets_every_column_in_a_line_a_row():
    assert lines(LAYERS) == [
        "Layers of one sub-batch",
        "layer  phase          compute cycles  fill cycles  energy uJ",
        "conv1  forward                13,200           32      1.250",
        "conv2  weight_update          38,016        1,024     12.500",
    ]


def test_names_of_columns_wrap_before_a_column_goes():
    assert lines(LAYERS, 50) == [
        "Layers of one sub-batch",
        "                      compute    fill  energy",
        "layer  phase           cycles  cycles      uJ",
        "conv1  forward         13,200      32   1.250",
        "conv2  weight_update   38,016   1,024  12.500",
    ]


def test_columns_go_in_the_order_that_their_author_named_and_it_is_said():
    assert lines(LAYERS, 40) == [
        "Layers of one sub-batch",
        "                      compute  energy",
        "layer  phase           cycles      uJ",
        "conv1  forward         13,200   1.250",
        "conv2  weight_update   38,016  12.500",
        "(left out at 40 columns: fill cycles; a",
        "  wider terminal, a pipe (| cat) and",
        "  --csv FILE have them)",
    ]
    assert "columns: fill   cycles, compute cycles; a wider" in " ".join(lines(LAYERS, 34))


def test_rows_fold_into_blocks_with_every_column_where_dropping_does_not_help():
    assert lines(LAYERS, 24) == [
        "Layers of one sub-batch",
        "layer: conv1",
        "  phase: forward",
        "  compute cycles: 13,200",
        "  fill cycles: 32",
        "  energy uJ: 1.250",
        "layer: conv2",
        "  phase: weight_update",
        "  compute cycles: 38,016",
        "  fill cycles: 1,024",
        "  energy uJ: 12.500",
    ]


def test_prose_in_a_table_wraps_between_words_and_a_long_word_stands_whole():
    keys = table("", ["key", Column("meaning", prose=True)], [], [("fill", "cycles before the first result comes out")])
    assert lines(keys, 30) == [
        "key   meaning",
        "fill  cycles before the first",
        "      result comes out",
    ]
    text = to_text(Document("See /a/path/that/is/longer/than/all for more."), 12)
    assert text.splitlines() == ["See", "/a/path/that/is/longer/than/all", "for more."]


def test_names_that_mean_nothing_alone_are_said_in_full_when_folded():
    ratio = Column("x", right=True, alone="forward x")
    part = table("", ["trace"], [Column("forward", right=True), ratio], [("a-long-name-of-a-trace", "1,234", "1.5")])
    assert lines(part, 20) == ["trace:", "    a-long-name-of-a-trace", "  forward: 1,234", "  forward x: 1.5"]


def test_lines_and_notes_and_figures_follow_in_order():
    document = Document("Good.", (Line("a"), Note("b"), Note("c", "warning"), Figure("p.png", "a curve"), LAYERS))
    assert to_text(document).splitlines()[:7] == [
        "Good.", "a", "note: b", "warning: c", "figure: p.png: a curve", "", "Layers of one sub-batch",
    ]  # fmt: skip


def test_a_name_from_a_file_cannot_steer_the_terminal():
    part = table("", ["name"], [], [("\x1b[2Jevil",)])
    assert lines(part) == ["name", "\\x1b[2Jevil"]


def test_csv_carries_the_exact_value_behind_a_cell():
    part = table("", ["layer"], ["energy"], [("a,b", Number("1.25 uJ", 1.2500001e-6)), ("c", Number("-", None))])
    assert to_csv(part) == 'layer,energy\n"a,b",1.2500001e-06\nc,\n'


def test_markdown_keeps_alignment_and_bars():
    part = table("T", ["layer"], ["n"], [("a|b", "1")], foot=["A foot."])
    document = Document("Good.", (part, Note("b"), Figure("p.png", "a curve")))
    assert to_markdown(document) == (
        "Good.\n\n## T\n\n| layer | n |\n| --- | ---: |\n| a\\|b | 1 |\n\nA foot.\n\nNote: b\n\n![a curve](p.png)\n"
    )


def test_a_row_that_does_not_fit_its_columns_is_refused():
    with pytest.raises(ValueError, match="T: expected 2 cells in a row; got 1"):
        Table("T", (Column("a"), Column("b")), (("1",),))
    with pytest.raises(ValueError, match="T: expected droppable columns to exist; got c"):
        table("T", ["a"], ["b"], [], drop=["c"])
