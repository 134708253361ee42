"""Every command that prints, at 60, 80, 100 and 200 columns and in a pipe: nothing is cut, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from h2sim.document import Document, Table, table, to_text
from h2sim.io import library
from h2sim.report.keys import KEYS
from h2sim.report.rtl import area_document, check_document
from h2sim.rtl.area import UnitArea
from tests.helpers.look import RESIDUAL
from tests.helpers.operands import draw
from tests.helpers.printed import WIDTHS, commands, faults, names_of, printed
from tests.helpers.traces import tiny_trace

NO_TABLE = {
    ("arch", "show"): "prints a file as it stands",
    ("arch", "schema"): "prints JSON",
    ("table", "show"): "prints a file as it stands",
    ("table", "scale"): "prints YAML",
    ("train",): "trains; its lines are sentences (tests/cli/test_train_cli.py)",
    ("convert",): "needs a run; its document is tested in tests/algorithms/test_convert.py",
    ("evolve",): "needs a run; its document is tested in tests/evolve/test_evolve_command.py",
    ("certify",): "needs a run; its document is tested in tests/certify/test_recipe.py",
    ("attack",): "needs a run; its document is tested in tests/attacks/test_attack_command.py",
    ("gpu", "record"): "measures; its line is a sentence (tests/cli/test_gpu_cli.py)",
    ("measure",): "measures; its lines are sentences (tests/cli/test_measure_cli.py)",
    ("gpu", "import"): "needs a profile; its line is a sentence (tests/cli/test_gpu_cli.py)",
    ("sweep", "SPEC"): "simulates a space; its documents are tested in tests/sweeps/test_report.py",
    ("sweep", "status"): "needs a sweep's folder, as the next ones",
    ("sweep", "table"): "tested in tests/sweeps/test_report.py",
    ("sweep", "show"): "prints an arch file",
    ("sweep", "plot"): "draws",
    ("sweep", "export"): "writes a file",
    ("sweep", "report"): "writes a page",
    ("completion",): "prints a script",
    ("rtl", "emit"): "needs Amaranth; its lines are sentences",
    ("rtl", "check"): "needs Amaranth; its document is built below",
    ("rtl", "area"): "needs Yosys; its document is built below",
}
VERDICTS = r"\S+: (ok|well formed|synthetic)|the same: |they DIFFER: |steady_cycles: "
LINES = {
    "run": ("run", "h2learn", "mnist-digits"),
    "run with chips": ("run", "h2learn", "mnist-digits", "--chips", "5", "--layer", "conv1"),
    "run synthetic": ("run", "h2learn", "TINY"),
    "run spinalflow": ("run", "spinalflow", "mnist-digits"),
    "run loihi": ("run", "loihi", "mnist-digits"),
    "run sata": ("run", "sata", "mnist-digits"),
    "run prosperity": ("run", "prosperity", "mnist-digits"),
    "run ptb": ("run", "ptb", "mnist-digits"),
    "run sato": ("run", "sato", "mnist-digits"),
    "run loas": ("run", "loas", "mnist-digits"),
    "run dense-array": ("run", "dense-array", "mnist-digits"),
    "compare training machines": ("compare", "DUAL", "--machine", "sata", "--machine", "dense-array", "--same-memory"),
    "verify": ("verify", "h2learn", str(RESIDUAL)),
    "report": ("report", "DUAL"),
    "compare": ("compare", "DUAL", "DENSE", "--spinalflow", "--loihi"),
    "estimate": ("estimate", "mnist-digits"),
    "reproduce": ("reproduce", "peak", "fe-adders"),
    "reproduce list": ("reproduce", "--list"),
    "arch list": ("arch", "list"),
    "arch check": ("arch", "check", "h2learn"),
    "table list": ("table", "list"),
    "table list parts": ("table", "list", "--parts"),
    "table check": ("table", "check", "28nm"),
    "trace list": ("trace", "list"),
    "trace info": ("trace", "info", "mnist-digits"),
    "trace info of maps": ("trace", "info", "MAPS"),
    "trace check": ("trace", "check", "mnist-digits"),
    "trace plot": ("trace", "plot", "TINY", "-o", "FOLDER/plots"),
    "trace diff": ("trace", "diff", "TINY", "mnist-digits"),
    "trace diff same": ("trace", "diff", "mnist-digits", "mnist-digits"),
    "trace compare": ("trace", "compare", "TINY", "--twins", "both"),
    "trace synth": ("trace", "synth", "--like", "TINY", "-o", "FOLDER/twin.npz"),
    "trace upgrade": ("trace", "upgrade", "TINY", "FOLDER/new.npz"),
    "workload list": ("workload", "list"),
    "workload show": ("workload", "show", "resnet20"),
    "baseline list": ("baseline", "list"),
    "baseline run": ("baseline", "run", "spinalflow", "mnist-digits"),
    "gpu list": ("gpu", "list"),
    "gpu show": ("gpu", "show", "v100-cifar10"),
    "gpu check": ("gpu", "check", "v100-cifar10"),
    "explain": ("explain",),
    "explain one": ("explain", "steady_cycles"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where commands read and write: a tiny synthetic trace, and results of two machines."""
    place = tmp_path_factory.mktemp("printed")
    tiny_trace(place)
    draw(5).trace(place)
    with pytest.MonkeyPatch.context() as patch:
        for mode in ("dual", "dense"):
            result, _ = printed(
                ["run", "h2learn", "mnist-digits", "--mode", mode, "--json", place / f"{mode}.json"], patch
            )
            assert result.exit_code == 0, result.output
    return place


def filled(arguments: tuple[str, ...], folder: Path) -> list[str]:
    places = {
        "TINY": folder / "tiny.npz",
        "MAPS": folder / "t.npz",
        "DUAL": folder / "dual.json",
        "DENSE": folder / "dense.json",
    }
    return [str(places.get(word, word.replace("FOLDER", str(folder)))) for word in arguments]


@pytest.fixture(scope="module")
def shown(folder) -> dict[str, tuple[str, list[Document]]]:
    """Standard output and documents of every line, run once each."""
    found = {}
    for name, arguments in LINES.items():
        with pytest.MonkeyPatch.context() as patch:
            result, documents = printed(filled(arguments, folder), patch)
        assert result.exit_code == (1 if name == "trace diff" else 0), result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        found[name] = (result.stdout, documents)
    return found


def test_every_command_is_here_or_prints_no_table():
    run = {path for path in commands() for line in LINES.values() if line[: len(path)] == path}
    assert run | set(NO_TABLE) == set(commands())
    assert not run & set(NO_TABLE)


@pytest.mark.parametrize("name", LINES)
def test_a_pipe_gets_the_whole_document_and_nothing_beside_it(shown, name):
    text, documents = shown[name]
    assert documents
    assert text == "".join(to_text(document) for document in documents)
    assert "\x1b" not in text
    assert "\u2026" not in text


@pytest.mark.parametrize("name", LINES)
def test_a_sentence_stands_first(shown, name):
    first = shown[name][0].splitlines()[0]
    assert len(first.split()) > 2
    assert first[-1] in ".:" or re.match(VERDICTS, first)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LINES)
def test_no_word_or_number_is_cut_or_lost_at_any_width(shown, name, width):
    for document in shown[name][1]:
        assert faults(document, width) == []


@pytest.mark.parametrize("name", LINES)
def test_no_ratio_or_amount_is_written_with_an_exponent_where_digits_do(shown, name):
    assert re.findall(r"\S*\de[+]\d\S*", shown[name][0]) == []


def test_documents_of_commands_that_need_other_programs():
    area = [UnitArea("forward_column", 1536, 12345, 678, 9876.5), UnitArea("x", 1, 2, 3, None)]
    mutations = {"backward": {"unchanged": 0, "one tile late": 17}}
    documents = [
        area_document(area, {"forward_column": 8000.0}),
        check_document([("forward", "conv", 1200, 0), ("backward", "fc", 3, 1)], 1234567, mutations),
    ]
    assert documents[0].verdict == "2 kinds of units, 18,961,922 cells in all, 15.170 mm2."
    assert documents[1].verdict.startswith("1,203 cases, 1 disagree; 1,234,567 RTL cycles. 1 of 1 mutations")
    for document in documents:
        for width in WIDTHS:
            assert faults(document, width) == []
    assert names_of(documents) <= set(KEYS)


def test_explain_knows_every_word_that_the_terminal_prints(shown):
    unknown = {name: names_of(documents) - set(KEYS) for name, (_, documents) in shown.items()}
    assert {name: words for name, words in unknown.items() if words} == {}


# --- that the checks can fail ----------------------------------------------------------------------------------------


NUMBERS = table("T", ["layer"], ["compute", "fill"], [("conv1", "38,016", "32"), ("conv2", "1,234", "9")])


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda text: text.replace("38,016", "38,0\u2026"), "an ellipsis"),
        (lambda text: text.replace("38,016", "38,01"), "1 times '38,01', expected 0"),
        (lambda text: text.replace("38,016", ""), "0 times '38,016', expected 1"),
        (lambda text: text.replace("conv1", "conv1" + " " * 60), "wide: conv1"),
    ],
)
def test_a_cut_a_loss_and_an_overlong_line_are_noticed(harm, fault):
    document = Document("Good.", (NUMBERS,))
    assert faults(document, 60) == []
    assert any(fault in found for found in faults(document, 60, harm(to_text(document, 60))))


def test_a_column_that_goes_without_being_named_is_noticed():
    document = Document("Good.", (NUMBERS,))
    less = Table("T", NUMBERS.columns[:2], tuple(row[:2] for row in NUMBERS.rows))
    assert "0 times 'fill', expected 1" in faults(document, 60, to_text(Document("Good.", (less,)), 60))


# --- a real terminal -------------------------------------------------------------------------------------------------


def in_terminal(columns: int, arguments: list[str], **environment: str) -> str:
    """What a command writes to a terminal of so many columns, without styles."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    code = "from h2sim.cli import main; main()"
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        env={**kept, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:  # Linux says EIO where the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_real_terminal_gets_the_document_at_its_width(shown, columns):
    text = in_terminal(columns, list(LINES["run"]))
    assert text == to_text(shown["run"][1][0], columns)
    assert max(map(len, text.splitlines())) <= columns


def test_columns_in_the_environment_win_over_the_terminal(shown):
    assert in_terminal(200, list(LINES["run"]), COLUMNS="72") == to_text(shown["run"][1][0], 72)


def test_names_are_bold_in_a_terminal_only():
    code = "from h2sim.cli import main; main()"
    piped = subprocess.run([sys.executable, "-c", code, "gpu", "list"], capture_output=True, text=True)
    assert "\x1b" not in piped.stdout
    assert piped.stdout.count("GPU traces\n") == 1
    assert len(library.names("GPU trace")) == len(piped.stdout.splitlines()) - 4


def test_results_and_documents_name_the_same_numbers(folder, shown):
    step = json.loads((folder / "dual.json").read_text())["step"]
    assert f"{step['steady_cycles']:,} cycles per sub-batch" in shown["run"][0]
    assert f"{step['samples_per_second']:,.0f} samples/s" in shown["run"][0]
