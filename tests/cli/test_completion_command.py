"""`h2sim completion`: the scripts are those that the shells read."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from h2sim.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell):
    found = CliRunner().invoke(main, ["completion", shell])
    assert found.exit_code == 0
    assert f"_H2SIM_COMPLETE={shell}_complete" in found.output


def test_bash_reads_it_and_completes_with_it():
    if not shutil.which("bash"):
        pytest.skip("no bash")
    script = CliRunner().invoke(main, ["completion", "bash"]).output
    done = subprocess.run(["bash", "-c", f"{script}\ncomplete -p h2sim"], capture_output=True, text=True, check=True)
    assert "_h2sim_completion" in done.stdout


def test_another_shell_is_wrong_use():
    found = CliRunner().invoke(main, ["completion", "csh"])
    assert found.exit_code == 2
    assert "csh" in found.output
