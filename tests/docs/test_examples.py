"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.helpers.houses import ROOT

PACKAGE = ROOT / "simulator"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("h2sim/**/*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
SHOWN = ("facade", "trace.read", "trace.write", "result", "sweeps.run", "arch.load", "compare.stored", "export.report")


def failures(text: str) -> int:
    """How many examples of a text give something else."""
    test = doctest.DocTestParser().get_doctest(text, {}, "text", None, None)
    return doctest.DocTestRunner(verbose=False).run(test, out=lambda line: None).failed


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name):
    if name.startswith("h2sim.export"):
        pytest.importorskip("torch")
        pytest.importorskip("spikingjelly")
    module = import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert not found.failed


def test_the_main_functions_have_examples():
    assert {f"h2sim.{name}" for name in SHOWN} <= set(MODULES)


def test_a_wrong_example_is_noticed():
    assert failures(">>> 1 + 1\n2\n") == 0
    assert failures(">>> 1 + 1\n3\n") == 1
