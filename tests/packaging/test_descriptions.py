"""Descriptions: every field of an arch file says what it is, and carries the mark that h2learn.yaml gives its value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from h2sim.arch import Arch
from h2sim.io.faults import model_in
from h2sim.io.library import find

MARK = re.compile(r"\[([GDA])\]")


def fields(model: type[BaseModel], inside: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, description) of every field of a model and of the models in it."""
    for name, field in model.model_fields.items():
        yield f"{inside}{name}", field.description or ""
        inner = model_in(field.annotation)
        if inner:
            yield from fields(inner, f"{inside}{name}.")


def marks(text: str) -> dict[str, str]:
    """The mark that a YAML line's comment gives its key, by dotted path."""
    found, path = {}, []
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if not key:
            continue
        path = [*path[: len(key[1]) // 2], key[2]]
        mark = MARK.search(line.partition("#")[2])
        if mark:
            found[".".join(path)] = mark[1]
    return found


MARKED = marks(Path(find("arch", "h2learn")).read_text())
DESCRIBED = dict(fields(Arch))


def test_the_marks_of_the_file_are_found():
    assert MARKED["clock_hz"] == "G"
    assert MARKED["engines.forward.columns"] == "D"
    assert MARKED["engines.backward.buffers"] == "A"


@pytest.mark.parametrize("path", sorted(DESCRIBED))
def test_every_field_of_an_arch_file_has_a_description(path):
    assert len(DESCRIBED[path]) > len("[A] ..."), path


@pytest.mark.parametrize("path", sorted(MARKED))
def test_a_description_carries_the_mark_of_the_files_comment(path):
    mark = MARK.match(DESCRIBED[path])
    assert mark, DESCRIBED[path]
    assert mark[1] == MARKED[path]
