"""Pages as files: the same bytes again, small enough, nothing from outside, names that cannot act."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from h2sim.document.shell import page_html
from h2sim.errors import ComparisonError
from h2sim.pages.result import result_page
from tests.pages.conftest import run

KINDS = ("result", "rival", "loihi", "stored", "compare", "sweep", "reproduce")
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">'\"<b>&amp;${1}\u202e"
PRINTS = HOSTILE.replace("\u202e", "")  # a name that no reader of files refuses


class _Reader(HTMLParser):
    """Every element's attributes; open elements that are not closed are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "hr", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_well_formed_and_names_nothing_outside_itself(pages, kind):
    text = pages[kind].read_text(encoding="utf-8")
    reader = read(text)
    for tag, attributes in reader.found:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith(("#", "data:")) or (kind == "reproduce" and re.fullmatch(r"[\w.-]+", value)), (
                    tag,
                    value,
                )
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "style" not in attributes, (tag, attributes)
    ids = [attributes["id"] for _, attributes in reader.found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    policy = next(a["content"] for t, a in reader.found if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


@pytest.mark.parametrize("kind", KINDS)
def test_every_link_within_a_page_leads_somewhere(pages, kind):
    reader = read(pages[kind].read_text(encoding="utf-8"))
    ids = {attributes.get("id") for _, attributes in reader.found}
    assert {a["href"][1:] for _, a in reader.found if (a.get("href") or "").startswith("#")} <= ids


def test_the_same_run_writes_the_same_bytes_wherever_they_go(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("run", "h2learn", "mnist-digits", "--html", "another-name.html")
    assert Path("another-name.html").read_bytes() == pages["result"].read_bytes()
    assert str(tmp_path) not in Path("another-name.html").read_text(encoding="utf-8")


def test_a_stored_result_is_shown_again_in_the_same_bytes(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = pages["result"].parent / "ours.json"
    Path("copy.json").write_bytes(stored.read_bytes())
    run("report", "copy.json", "--html")
    assert Path("copy.html").read_bytes() == pages["stored"].read_bytes()


def test_standard_output_takes_a_page():
    assert "<!doctype html>" in run("run", "h2learn", "mnist-digits", "--html", "-")


@pytest.mark.parametrize(
    ("network", "most"), [("cifar10", 400_000), ("imagenet", 1_000_000)], ids=["cifar10", "imagenet"]
)
def test_pages_stay_small(network, most, tmp_path):
    trace, page = tmp_path / "t.npz", tmp_path / "p.html"
    run("trace", "synth", network, "--sparsity", "table-3.2", "-o", str(trace))
    run("run", "h2learn", str(trace), "--html", str(page))
    assert page.stat().st_size < most
    assert "SYNTHETIC masks" in page.read_text(encoding="utf-8")


def hostile_page(stored: Path) -> str:
    """A page of a result in which every name would act if it could."""
    document = json.loads(stored.read_text())
    for row in document["layers"]:
        row["layer"] = row["layer"].replace("conv2", PRINTS)
    for row in document["memories"]:
        row["layer"] = row["layer"].replace("conv2", PRINTS)
    for line in document["bill"]:
        line["source"] = HOSTILE
    document["workload"].update(network=PRINTS, dataset=HOSTILE)
    document["arch"]["parameters"]["description"] = HOSTILE
    document["provenance"]["command"] = HOSTILE
    document["notes"] = document["warnings"] = [HOSTILE]
    return page_html(result_page(document))


def test_names_of_a_file_cannot_act(pages):
    text = hostile_page(pages["result"].parent / "ours.json")
    reader = read(text)
    assert [attributes for tag, attributes in reader.found if tag == "img"] == []
    assert sum(tag == "script" for tag, _ in reader.found) == 2
    assert not any(name.startswith("on") for _, attributes in reader.found for name in attributes)
    assert "\u202e" not in text


def test_a_file_that_is_no_result_is_refused_by_its_name(tmp_path):
    from click.testing import CliRunner

    from h2sim.cli import main

    bad = tmp_path / "bad.json"
    bad.write_text('{"schema": "other"}')
    found = CliRunner().invoke(main, ["report", str(bad), "--html", str(tmp_path / "p.html")])
    assert found.exit_code == 2
    assert "bad.json" in found.output
    assert not (tmp_path / "p.html").exists()
    with pytest.raises(ComparisonError, match="result"):
        result_page({"schema": "other"})


@pytest.mark.parametrize("kind", ["result", "stored", "compare", "sweep"])
def test_figures_of_the_page_are_those_of_the_document(pages, kind):
    """The step's cycles and every row's stand in the page as `run --json` has them."""
    text = pages[kind].read_text(encoding="utf-8")
    if kind in ("result", "stored"):
        document = json.loads((pages["result"].parent / "ours.json").read_text())
        assert f"{document['step']['steady_cycles']:,} cycles" in text
        for row in document["layers"]:
            assert f"{row['end_cycle'] - row['start_cycle']:,}</td>" in text
    else:
        assert re.search(r'<p class="verdict">[^<]{40,}', text)


def test_a_sweep_of_two_thousand_machines_stays_small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("trace", "synth", "4C3-AP2-10FC", "--input-shape", "2,8,8", "--sparsity", "0.8", "-o", "t.npz")
    axes = "\n".join(
        f"  engines.{engine}.{field}: {{log2: [{low}, {high}]}}"
        for engine, field, low, high in (
            ("forward", "rows", 16, 128), ("forward", "columns", 8, 64), ("weight_update", "columns", 32, 256),
            ("weight_update", "parallelism", 2, 8), ("backward", "rows", 8, 32), ("backward", "columns", 32, 128),
        )
    )  # fmt: skip
    sizes = "  memory.bandwidth_bytes_per_s: [64 GB/s, 128 GB/s, 256 GB/s]\n  buffers: [keep, 0.5, fit]"
    goals = "objectives: {seconds: minimize, energy_j: minimize, area_mm2: minimize}"
    spec = f"traces: [t.npz]\nmethod: random\nseed: 1\nbudget: 2000\nparameters:\n{axes}\n{sizes}\n{goals}\n"
    Path("space.yaml").write_text(spec)
    run("sweep", "space.yaml", "-o", "space", "--workers", "0")
    run("sweep", "report", "space")
    assert "2,000 machines" in Path("space/report.html").read_text(encoding="utf-8")
    assert Path("space/report.html").stat().st_size < 250_000
