"""The site builds without a warning, runs its tutorials, asks for nothing from outside, and is the same bytes again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.houses import ROOT

BUILT_WITH = ("sphinx", "furo", "myst_nb", "sphinx_click", "torch", "spikingjelly", "mlxtend")
MISSING = [package for package in BUILT_WITH if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed (extras docs, export, train): {MISSING}")
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset", "video": "src"}
DATE = re.compile(r"\b20\d\d-[01]\d-[0-3]\d[T ]\d\d:|\bLast updated\b|\b[012]\d:[0-5]\d:[0-5]\d\b")


STRICT = ("-W", "--keep-going", "-n")  # warnings are errors, links that lead nowhere too


def built(place: Path, *options: str) -> Path:
    """A site."""
    command = [sys.executable, "-m", "sphinx", "-q", *options, "-d", f"{place}-trees"]
    paths = [str(ROOT / "simulator"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
           "PYTHONPATH": os.pathsep.join(path for path in paths if path), "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run([*command, str(ROOT / "docs"), str(place)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built(tmp_path_factory.mktemp("site") / "html", *STRICT)


def pages(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))
    }


class Fetched(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == FETCHED.get(tag)]


def from_outside(text: str) -> list[str]:
    return [url for url in Fetched(text).found if re.match(r"(\w+:)?//", url)]


def told(text: str) -> list[str]:
    """What a page says of the machine that built it, or of the day."""
    places = [str(ROOT), str(Path.home()), str(Path(sys.prefix)), os.uname().nodename]
    return [place for place in places if len(place) > 5 and place in text] + DATE.findall(text)


def test_every_page_of_the_sources_is_in_the_site(site):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert sources <= set(pages(site))
    assert len(sources) > 30


def test_no_page_fetches_anything_from_outside(site):
    assert {name: found for name, text in pages(site).items() if (found := from_outside(text))} == {}
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\s)]*", sheet.read_text(encoding="utf-8")) == []


def test_no_page_names_the_machine_or_the_day(site):
    assert {name: found for name, text in pages(site).items() if (found := told(text))} == {}


def test_tutorials_show_what_their_cells_computed(site):
    for name in ("spikingjelly", "machine", "sweep", "paper"):
        text = pages(site)[f"tutorials/{name}.html"]
        assert text.count("cell_output") >= 3, name
        assert "Traceback" not in text
    assert "all values agree" in pages(site)["tutorials/spikingjelly.html"]


def test_another_build_gives_the_same_bytes(site, tmp_path):
    """But for what tutorials compute: they run once, and their results are tested to be the same elsewhere."""
    again = built(tmp_path / "html", "-D", "nb_execution_mode=off")
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (site, again))
    of_cells = ("tutorials", "jupyter_execute", "searchindex.js")  # the last one has their words
    computed = {name for name in {*first, *second} if set(of_cells) & set(name.parts)}
    computed |= {name for name in first if name.parts[0] == "_images" and name.suffix == ".png"}
    assert set(first) - computed == set(second) - computed
    assert [name for name in set(first) - computed if first[name] != second[name]] == []
    assert len(set(first) - computed) > 30


@pytest.mark.skipif(find_spec("jupytext") is None, reason="jupytext is not installed (extra docs)")
def test_jupytext_makes_a_notebook_of_every_tutorial():
    import jupytext

    for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        if path.stem != "index":
            kinds = [cell.cell_type for cell in jupytext.read(path).cells]
            assert kinds.count("code") > 3
            assert "markdown" in kinds


def test_the_committed_pictures_are_what_their_script_draws():
    sys.path.insert(0, str(ROOT / "docs" / "pictures"))
    try:
        import step
    finally:
        sys.path.pop(0)
    for name, svg in step.pictures().items():
        assert (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8") == svg, "python docs/pictures/step.py"


# --- that the checks can fail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://cdn.example/x.js", "//cdn.example/x.js"])
def test_a_script_from_outside_is_noticed(url):
    assert from_outside(f'<a href="https://fine"></a><script src="{url}"></script>') == [url]


@pytest.mark.parametrize("text", [str(ROOT), "2026-01-31T10:", "Last updated", "at 23:59:01"])
def test_a_path_or_a_time_is_noticed(text):
    assert told(f"<p>{text}</p>")
