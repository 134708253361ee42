"""Completion: a shell offers the names of what ships wherever a command takes one, and files beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from h2sim import datasets
from h2sim.cli import main
from h2sim.cli.implementations import IMPLEMENTATIONS
from h2sim.cli.names import NamesType
from h2sim.energy.load import part_names
from h2sim.io import library
from h2sim.rivals.registry import BASELINES, MODULES
from tests.cli.test_help import ALL

ARCHS, TRACES, TABLES = library.names("arch"), library.names("trace"), library.names("energy table")
SWEEPS = library.names("sweep")
NETWORKS, GPU_TRACES, PARTS = library.names("network"), library.names("GPU trace"), part_names()

# what is typed before the name, and the names
NAMED = [
    ("run", ARCHS),
    ("run h2learn", TRACES),
    ("run h2learn mnist-digits --energy-table", TABLES),
    ("verify", ARCHS),
    ("verify h2learn", TRACES),
    ("compare ours.json --machine", ARCHS),
    ("compare ours.json --gpu", GPU_TRACES),
    ("compare ours.json --workload", TRACES),
    ("compare ours.json --energy-table", TABLES),
    ("estimate", TRACES),
    ("estimate mnist-digits --arch", ARCHS),
    ("estimate mnist-digits --energy-table", TABLES),
    ("baseline run loihi", TRACES),
    ("baseline run loihi mnist-digits --energy-table", TABLES),
    ("trace info", TRACES),
    ("trace upgrade", TRACES),
    ("trace check", TRACES),
    ("trace plot", TRACES),
    ("trace diff", TRACES),
    ("trace diff mnist-digits", TRACES),
    ("trace compare", TRACES),
    ("trace compare mnist-digits", TRACES),
    ("trace compare --arch", ARCHS),
    ("trace compare --energy-table", TABLES),
    ("trace synth", NETWORKS),
    ("trace synth --like", TRACES),
    ("workload show", NETWORKS),
    ("train", NETWORKS),
    ("convert", NETWORKS),
    ("attack run mnist-5k --network", NETWORKS),
    ("certify run mnist-5k --network", NETWORKS),
    ("evolve run mnist-5k --network", NETWORKS),
    ("evolve run mnist-5k --arch", ARCHS),
    ("evolve run mnist-5k --energy-table", TABLES),
    ("rtl emit", ARCHS),
    ("rtl check --arch", ARCHS),
    ("rtl area", ARCHS),
    ("rtl area h2learn --energy-table", TABLES),
    ("gpu record", NETWORKS),
    ("gpu import profile.json --network", NETWORKS),
    ("gpu show", GPU_TRACES),
    ("gpu check", GPU_TRACES),
    ("gpu check mine.json --network", NETWORKS),
    ("table show", TABLES),
    ("table check", TABLES),
    ("table check 28nm", TABLES),
    ("table scale", TABLES),
    ("table scale 45nm --sram", PARTS),
    ("sweep SPEC", SWEEPS),
    ("arch show", ARCHS),
    ("arch check", ARCHS),
    ("arch check h2learn", ARCHS),
]
ONLY_NAMES = [
    ("train mnist-small", sorted(datasets.names())),
    ("train --recipe", ["ann", "bptt", "certified", "diet", "hire"]),
    ("convert mnist-small", sorted(datasets.names())),
    ("attack run", sorted(datasets.names())),
    ("certify run", sorted(datasets.names())),
    ("evolve run", sorted(datasets.names())),
    ("baseline run", sorted(BASELINES)),
    ("arch schema --machine", sorted(["h2learn", *MODULES])),
]


def offered(typed: str, begun: str = "") -> tuple[list[str], list[str]]:
    """The names, and the kinds of other things, that a shell is given behind `h2sim typed begun`."""
    found = ShellComplete(main, {}, "h2sim", "_H2SIM_COMPLETE").get_completions(typed.split(), begun)
    return [item.value for item in found if item.type == "plain"], [i.type for i in found if i.type != "plain"]


@pytest.mark.parametrize(("typed", "names"), NAMED, ids=[typed for typed, _ in NAMED])
def test_shipped_names_and_files_are_offered(typed, names):
    assert names
    assert offered(typed) == (names, ["file"])


@pytest.mark.parametrize(("typed", "names"), ONLY_NAMES, ids=[typed for typed, _ in ONLY_NAMES])
def test_names_alone_are_offered_where_no_file_will_do(typed, names):
    assert offered(typed) == (names, [])


def test_an_implementation_is_offered_behind_each_comma():
    assert offered("gpu record mnist --implementation") == (list(IMPLEMENTATIONS), [])
    assert offered("gpu record mnist --implementation", "graph,ch") == (["graph,checkpoint", "graph,chapter4"], [])


def test_published_rows_and_rivals_are_offered_to_compare_with():
    names, _ = offered("compare ours.json --baseline")
    assert set(BASELINES) < set(names)


def test_every_word_is_offered_to_explain():
    assert {"steady_cycles", "engines.backward.rows", "rows"} <= set(offered("explain")[0])


def test_results_are_files():
    assert offered("compare") == ([], ["file"])


def test_only_names_that_begin_as_typed_are_offered():
    assert offered("run", "h2")[0] == [name for name in ARCHS if name.startswith("h2")] != ARCHS
    assert offered("run", "no-machine") == ([], ["file"])


def test_every_parameter_that_offers_names_is_tried_above():
    """Parameters by command path; an argument counts once for each word it can take."""
    given = {
        (path[1:], parameter.name)
        for path, command in ALL
        for parameter in command.params
        if isinstance(parameter.type, NamesType)
    }
    tried = set()
    files = ["compare", "report", "measure", "compare ours.json --baseline", "explain"]
    for typed in [*files, *(typed for typed, _ in NAMED + ONLY_NAMES)]:
        tried.add(parameter_of(typed.split()))
    assert given == tried


def parameter_of(words: list[str]) -> tuple[tuple[str, ...], str | None]:
    """The command's path and the parameter that the next word belongs to."""
    command: click.Command = main
    path: tuple[str, ...] = ()
    while isinstance(command, click.Group):
        path, command, words = (*path, words[0]), command.commands[words[0]], words[1:]
    if words and words[-1].startswith("--"):
        return path, next(p.name for p in command.params if words[-1] in p.opts)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    return path, arguments[min(len(words), len(arguments) - 1)].name


def test_a_name_type_hands_on_what_was_typed():
    assert NamesType("arch").convert("./a b.yaml", None, None) == "./a b.yaml"


COMPLETE = {**os.environ, "_H2SIM_COMPLETE": "bash_complete", "COMP_WORDS": "h2sim run h2", "COMP_CWORD": "2"}


def test_the_command_answers_a_shell():
    done = subprocess.run([sys.executable, "-m", "h2sim"], env=COMPLETE, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["file,h2", *(f"plain,{name}" for name in ARCHS if name.startswith("h2"))]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_keeps_the_names_that_it_is_given(tmp_path: Path):
    """Through the function that bash calls on TAB; `compopt` works only there, so its complaint is left out."""
    script = tmp_path / "h2sim"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m h2sim "$@"\n')
    script.chmod(0o755)
    typed = (
        'eval "$(_H2SIM_COMPLETE=bash_source h2sim)" && COMP_WORDS=(h2sim run h2learn mnist-t) COMP_CWORD=3 '
        '&& _h2sim_completion h2sim 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", typed], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [name for name in TRACES if name.startswith("mnist-t")] != []


def test_a_sweep_is_a_command_of_the_group_or_a_spec():
    names, others = offered("sweep")
    assert {"status", "table", "show", *SWEEPS} <= set(names)
    assert "SPEC" not in names
    assert others == ["file"]
