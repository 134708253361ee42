"""README, CI, pre-commit and pyproject.toml say the same commands, versions and bounds."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import yaml

from h2sim import __version__
from tests.helpers.houses import ROOT
from tests.packaging.lowest import lowest, requirements


def lines(file):
    return (ROOT / file).read_text().splitlines()


def commands(readme):
    """The first command of each block of commands, in order."""
    return [after for before, after in pairwise(readme) if before == "```sh"]


def test_ci_runs_both_commands_of_the_readme_in_order_and_the_tests_last():
    main, tests, *_ = commands(lines("README.md"))
    assert tests == "sh tests/run.sh"
    script = lines(".ci/run")
    assert script[-2:] == [main, tests]


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    assert ".ci/lowest --extras" in steps


def test_pre_commit_runs_the_checkers_that_the_test_command_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    checks = [re.sub(r'"\$VENV/bin/(\w+)"', r"\1", line) for line in lines("tests/run.sh") if "/bin/" in line]
    for hook in hooks:
        assert any(check.startswith(hook["entry"]) for check in checks), hook["entry"]


def test_every_requirement_has_one_lower_bound():
    pins = lowest(requirements())
    assert {"setuptools", "numba", "torch", "pytest", "ruff", "mypy", "pyright"} <= set(pins)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["numpy"], "numpy: expected name>=version or name==version"),
        (["torch>=2.13", "torch>=2.14"], "torch: expected one lower bound; got 2.13 and 2.14"),
    ],
)
def test_a_requirement_without_one_lower_bound_is_refused(wanted, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        lowest(wanted)


@pytest.mark.parametrize("checker", ["ruff", "mypy", "pyright"])
def test_checkers_have_one_exact_version(checker):
    assert [r for r in requirements() if re.split(r"[\[=<>]", r)[0] == checker and "==" in r]


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert f"## {__version__}" in "\n".join(lines("CHANGELOG.md"))
