"""Options of pictures where none are drawn are wrong use, not passed over."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from h2sim.cli import main


@pytest.mark.parametrize(
    ("line", "behind"),
    [
        (["run", "h2learn", "mnist-digits", "--plot-format", "svg"], "--plots"),
        (["run", "h2learn", "mnist-digits", "--plot-width", "89"], "--plots"),
        (["reproduce", "peak", "--plot-format", "pdf"], "--output"),
    ],
)
def test_pictures_of_nothing_are_refused(line, behind):
    found = CliRunner().invoke(main, line)
    assert found.exit_code == 2
    assert f"{line[-2]} needs {behind}" in found.output


def test_defaults_are_no_wish_for_pictures():
    assert CliRunner().invoke(main, ["run", "h2learn", "mnist-digits"]).exit_code == 0
