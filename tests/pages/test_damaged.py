"""Stored results with one wrong value: a page, or a clean refusal; never another error."""

from __future__ import annotations

import copy
import json
import random

import pytest

from h2sim.document import to_text
from h2sim.document.page import page_document
from h2sim.document.shell import page_html
from h2sim.errors import ComparisonError
from h2sim.pages.result import result_page
from tests.pages.conftest import run

ODD = (None, "x", -1, 0, 1.5, [], {}, [1], {"a": 1}, True, 10**30)
TRIED = 2  # odd values a place; another seed tries others


def places(value, path=()):
    """Every place of a document; of a list its first entry's."""
    yield path
    entries = value.items() if isinstance(value, dict) else [(0, value[0])] if isinstance(value, list) and value else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def damaged(document, path, value):
    """A copy with another value at a place; without the place where the value is Ellipsis."""
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


@pytest.mark.parametrize("machine", ["h2learn", "sata", "loihi"])
def test_a_damaged_result_is_a_page_or_a_line(machine, tmp_path):
    run("run", machine, "mnist-digits", "--json", str(tmp_path / "r.json"))
    document, draw = json.loads((tmp_path / "r.json").read_text()), random.Random(0)
    shown = refused = 0
    for path in list(places(document))[1:]:
        for value in (..., *draw.sample(ODD, TRIED)):
            try:
                page = result_page(damaged(document, path, value))
            except ComparisonError:
                refused += 1
                continue
            page_html(page)
            to_text(page_document(page, ["bound", "layers", "energy", "area"]))
            shown += 1
    assert shown > 50
    assert refused > 50
