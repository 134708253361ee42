"""Lines of the documents that train, or look at what was trained: run as they stand, but on few samples."""

from __future__ import annotations

import pytest

from tests.docs.lines import all_lines
from tests.docs.not_run import NOT_RUN
from tests.docs.pantry import do, open_pantry, trains

LINES = [line for line in all_lines() if line not in NOT_RUN and trains(line)]


@pytest.fixture(scope="module")
def pantry(tmp_path_factory):
    return open_pantry(tmp_path_factory.mktemp("pantry"))


def test_there_are_lines_of_every_command_that_trains():
    assert {line.split()[1] for line in LINES} == {"train", "attack", "certify", "convert", "evolve"}


@pytest.mark.parametrize("line", LINES)
def test_a_line_does_what_it_is_shown_to_do(line, pantry, tmp_path):
    do(line, pantry, tmp_path)
