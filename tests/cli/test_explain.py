"""Explain: every word of a result, of the terminal and of users' files has a meaning; a wrong one gets the nearest."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.report.explain import every_word, explanation, meanings, nearest
from h2sim.report.fields import file_fields

RUNS = [
    "h2learn --chips 2", "spinalflow", "loihi", "loihi-sanafe", "sata", "dense-array", "prosperity",
    "ptb", "sato", "loas",
]  # fmt: skip
FIELDS = [(kind, path, meaning) for kind, fields in file_fields().items() for path, meaning in fields.items()]


def keys(document: object) -> Iterator[str]:
    """Every key at any depth."""
    for inner in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from keys(inner)
    if isinstance(document, dict):
        yield from document


def explain(*words: str):
    return CliRunner().invoke(main, ["explain", *words])


@pytest.fixture(scope="module", params=RUNS)
def document(request):
    machine, *options = request.param.split()
    done = CliRunner().invoke(main, ["run", machine, "mnist-digits", *options, "--json", "-"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_key_of_a_result_is_explained(document):
    found = set(keys(document))
    assert {"parameters", "versions", "numpy", "operations", "area_um2"} <= found
    assert [key for key in sorted(found) if not meanings(key)] == []


@pytest.mark.parametrize(("kind", "path", "meaning"), FIELDS, ids=[f"{kind} {path}" for kind, path, _ in FIELDS])
def test_every_field_of_a_file_is_explained_by_its_path_and_by_its_end(kind, path, meaning):
    assert len(meaning) > len("[A] x")
    assert meaning in meanings(path).values()
    assert meaning in meanings(path.rpartition(".")[2]).values()


def test_a_whole_path_is_one_sentence():
    done = explain("engines.backward.rows")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].startswith("arch file of h2learn: engines.backward.rows: [G] PE rows: ")


def test_the_end_of_a_path_gives_every_field_of_that_name():
    lines = explain("rows").stdout.splitlines()
    assert lines[0] == "rows: 6 meanings."
    paths = [f"engines.{engine}.rows" for engine in ("forward", "weight_update", "backward")]
    assert [path for path in paths if any(f"h2learn: {path} " in line for line in lines)] == paths


def test_a_part_of_a_path_is_enough():
    assert list(meanings("backward.rows")) == ["arch file of h2learn: engines.backward.rows"]


def test_a_word_of_results_that_is_a_field_too_has_both_meanings():
    assert list(meanings("tile")) == ["arch file of h2learn: tile"]
    assert "bytes moved" in meanings("bytes").values()
    assert any("ping-pong" in meaning for meaning in meanings("bytes").values())


def test_fields_that_mean_the_same_are_named_together():
    assert "energy table: actions.fp16_add.energy_pj and 5 more" in meanings("energy_pj")


@pytest.mark.parametrize("word", ["potentials_moved", "sorter", "messages_sent", "hops_east_west", "dies"])
def test_a_rivals_events_and_components_are_explained(word):
    assert explain(word).exit_code == 0


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("engines.backward.row", "engines.backward.rows"),
        ("stedy_cycles", "steady_cycles"),
        ("sub_lut", "sub_luts"),
        ("energy_pj_per_bits", "energy_pj_per_bit"),
    ],
)
def test_a_wrong_word_gets_the_nearest(typed, near):
    done = explain(typed)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"h2sim: explain: expected a key of the result or a field of a file; got '{typed}'; ")
    assert near in done.stderr
    assert nearest(typed)[0] == near


def test_a_word_that_resembles_none_is_refused():
    done = explain("qqqq")
    assert (done.exit_code, done.stderr.endswith("nearest: none\n")) == (2, True)
    assert explanation("qqqq") is None
    assert meanings("ows") == {}


def test_the_whole_list_has_a_table_for_each_kind_of_file():
    text = explain().stdout
    assert text.splitlines()[0].startswith(every_word().verdict[:60])
    for kind in ("arch file of h2learn", "arch file of spinalflow", "arch file of loihi", "energy table"):
        assert f"Fields of {kind}" in text
