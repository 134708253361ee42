"""The committed pages are those of today's simulator, but for versions and commits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages.conftest import run

PAGES = Path(__file__).parents[2] / "reports" / "pages"
TRACES = ("mnist-digits", "mnist-table34", "mnist-table34-fp16")


def body(text: str) -> str:
    """What a page says: its main part, without what names a version or a commit."""
    main = text[text.index("<main") : text.index("</main>")]
    return re.sub(r"<dt>(commit|versions)</dt><dd>.*?</dd>", "", main)


@pytest.mark.parametrize("trace", TRACES)
def test_pages_of_the_shipped_traces_are_current(trace, tmp_path):
    run("run", "h2learn", trace, "--html", str(tmp_path / "page.html"))
    committed = (PAGES / f"h2learn-{trace}.html").read_text(encoding="utf-8")
    assert body((tmp_path / "page.html").read_text(encoding="utf-8")) == body(committed)


def test_the_rivals_page_is_current(tmp_path):
    run("run", "spinalflow", "mnist-digits", "--html", str(tmp_path / "page.html"))
    committed = (PAGES / "spinalflow-mnist-digits.html").read_text(encoding="utf-8")
    assert body((tmp_path / "page.html").read_text(encoding="utf-8")) == body(committed)


def test_every_page_is_in_the_index():
    index = (PAGES.parent / "README.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.html"):
        assert f"pages/{page.name}" in index, page.name


def test_no_page_names_a_place_of_ours():
    for page in [*PAGES.glob("*.html"), PAGES.parent / "h2learn" / "index.html"]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(/tmp/|/home/|/root/|/work/)", text), page.name
