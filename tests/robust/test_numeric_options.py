"""Every option of every command that takes a number, given what is none, or too large, or odd: a line, or an answer."""

from __future__ import annotations

from importlib.util import find_spec

import click
import pytest

from h2sim import sweep
from h2sim.cli import main
from h2sim.cli.support import DEFAULT_COLUMNS, terminal_width
from tests.fuzz.trial import _command, _timed
from tests.helpers.gpu_made import cuda_step
from tests.helpers.traces import tiny_trace

ODD = [
    "nan", "inf", "-inf", "-1", "0", "1" + 30 * "0", "1e400", "", " ", "0x10", "\u0661\u0662", "\u00b2", "1_0", "1e3",
    "1.5", "9" * 5000, "1e-320", "=1", "true",
]  # fmt: skip
PAIRS = [
    *ODD,
    "1,nan",
    "nan,1",
    "-1,1",
    "1,",
    ",",
    "1,2,3,4,5",
    "0,0",
    "1,1e400",
    "9" * 5000 + ",1",
    "1," + "9" * 5000 + ",1",
    "last," + "9" * 5000,
]
SHORT = ["--epochs", "1", "--batch", "8", "--train-samples", "16", "--test-samples", "10", "--timesteps", "2"]
# a whole line of each command that takes numbers; those of PARSED only have their words read
BASES = {
    "run": ["h2learn", "TINY"],
    "compare": ["RESULT", "--machine", "spinalflow"],
    "reproduce": ["clock"],
    "trace plot": ["TINY", "-o", "OUT/plots"],
    "trace compare": ["TINY", "--twins", "independent"],
    "trace synth": ["4C3-AP2-10FC", "--sparsity", "0.5", "--input-shape", "2,8,8", "-o", "OUT/s.npz"],
    "table scale": ["45nm", "--to", "28", "--sram", "sram-28nm-itrs-hp-300k", "-o", "OUT/t.yaml"],
    "workload show": ["4C3-AP2-10FC", "--input-shape", "2,8,8"],
    "gpu import": ["PROFILE", "--network", "mnist-small", "--batch", "4", "-o", "OUT/g.json"],
    "gpu check": ["v100-mnist"],
    "gpu record": ["4C3-AP2-10FC", "--input-shape", "1,6,6", "--device", "cpu", "-o", "OUT/r.json"],
    "measure": ["my_model.py:step", "-o", "OUT/m.npz"],
    "rtl emit": ["unit", "-o", "OUT/v.v"],
    "rtl check": [],
    "rtl area": [],
    "sweep SPEC": ["-o", "OUT/sweep"],
    "sweep table": ["SWEPT"],
    "sweep plot": ["SWEPT", "-o", "OUT/pictures", "--plot-format", "png"],
    "attack": ["RUN", "mnist-5k"],
    "certify": ["RUN", "mnist-5k"],
    "evolve": ["RUN", "mnist-5k", "-o", "OUT/evolved"],
    "convert": ["4C3S2(Encoding)-10FC", "mnist-5k", "--ann", "RUN"],
    "train": ["4C3S2-AP2-10FC", "mnist-5k", *SHORT, "-o", "RUN"],
}
PARSED = ("attack", "compare", "certify", "convert", "evolve", "gpu record", "measure", "rtl emit", "rtl check",
          "rtl area")  # fmt: skip
NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
LISTS = ("IntsType", "PairType", "EpochsType", "SparsityType", "StructureType")
FIELDS = ["clock_hz", "memory.bandwidth_bytes_per_s", "memory.burst_bytes", "memory.first_access_cycles",
          "engines.backward.rows", "engines.forward.sub_lut_size", "tile.height", "sub_batch"]  # fmt: skip


def numeric(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.is_flag and parameter.nargs == 1 and (
        isinstance(parameter.type, NUMBERS) or type(parameter.type).__name__ in LISTS
    )  # fmt: skip


def options(command: click.Command = main, path: str = ""):
    """(command, option, values) of every option that takes a number, or several."""
    for name, part in getattr(command, "commands", {}).items():
        yield from options(part, f"{path} {name}".strip())
    for parameter in command.params:
        if numeric(parameter):
            yield path, max(parameter.opts, key=len), ODD if isinstance(parameter.type, NUMBERS) else PAIRS


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    (folder / "out").mkdir()
    swept = folder / "one.yaml"
    swept.write_text("traces: [mnist-digits]\nparameters: {engines.backward.rows: [8, 16]}\n")
    sweep(swept, folder / "swept", workers=0)
    return {
        "TINY": str(tiny_trace(folder)),
        "PROFILE": str(cuda_step().write(folder / "p.json")),
        "OUT": str(folder / "out"),
        "SPEC": str(swept),
        "SWEPT": str(folder / "swept"),
    }


def outcome(words, number, places):
    """What a line does, under the fuzzer's limits of time and warnings; words in capitals are places."""
    places = {**places, "RUN": f"{places['OUT']}/run{number}"}
    found = []
    for word in words:
        for name, place in places.items():
            word = word.replace(name, place) if word.startswith(name) else word
        found.append(word)
    return _timed(lambda: _command(found))


@pytest.mark.parametrize(
    ("path", "option", "values"), list(options()), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_an_odd_number_is_a_line_or_an_answer(path, option, values, places):
    if path == "train" and not (find_spec("torch") and find_spec("mlxtend")):
        pytest.skip("needs torch and mlxtend")
    faults = {}
    for number, value in enumerate(values):
        words = [*path.split(), *BASES[path], f"{option}={value}"]
        if path in PARSED:
            words.append("--help")
            words.insert(len(path.split()), words.pop(-2))
        found = outcome(words, f"{option}{number}", places)
        if found.outcome not in ("accepted", "refused") or "Warning" in found.detail:
            faults[value[:40]] = (found.outcome, found.detail[-600:])
    assert faults == {}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("option", ["--set", "--what-if"])
def test_an_odd_number_of_a_field_is_a_line_or_an_answer(option, field, places):
    faults = {}
    for number, value in enumerate(ODD):
        found = outcome(["run", "h2learn", "TINY", option, f"{field}={value}"], number, places)
        if found.outcome not in ("accepted", "refused"):
            faults[value[:40]] = (found.outcome, found.detail[-600:])
        elif found.outcome == "refused" and len(found.detail.splitlines()) != 1:
            faults[value[:40]] = ("more than a line", found.detail[-600:])
    assert faults == {}


def test_plain_numbers_are_answered(places):
    """The lines themselves are good, so that what is refused is the number."""
    for number, (path, words) in enumerate(BASES.items()):
        if path in PARSED or (path == "train" and not (find_spec("torch") and find_spec("mlxtend"))):
            continue
        assert outcome([*path.split(), *words], f"good{number}", places).outcome == "accepted", path


def test_a_terminal_of_too_many_columns_has_the_usual_ones(monkeypatch):
    class Terminal:
        isatty = staticmethod(lambda: True)

        def fileno(self):
            raise OSError

    monkeypatch.setenv("COLUMNS", "9" * 5000)
    assert terminal_width(Terminal()) == DEFAULT_COLUMNS
