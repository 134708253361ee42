"""Numbers in files: each spelling is read as what a person means by it, or refused by file and field."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from h2sim.arch import arch_sha256, load_arch
from h2sim.energy import load_energy_table
from h2sim.errors import ArchError, EnergyTableError, H2SimError, NetworkError
from h2sim.io import library
from h2sim.io.faults import describe, show
from h2sim.io.fields import parse_setting, with_fields
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_file, read_value
from h2sim.rivals.loihi.schema import load_loihi
from h2sim.rivals.spinalflow.schema import load_spinalflow
from h2sim.trace import load_network

H2LEARN = library.find("arch", "h2learn").read_text(encoding="utf-8")
CLOCK, LINK, SPIKES = "800000000 ", "128000000000 ", "{bytes: 65536,"
EXACT = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Numbers(Strict):
    """A field of each kind."""

    clock_hz: int = 1
    link_bytes_per_s: int = 1
    bytes: int = 1
    rate_bytes_per_s: float | None = None
    count: Annotated[int, Field(strict=True)] | None = None
    shape: tuple[int, int] = (1, 1)
    points: tuple[tuple[int, float], ...] = ()
    loose: int | str = 0


def machine(tmp_path, old: str, new: str):
    assert old in H2LEARN
    path = tmp_path / "mine.yaml"
    path.write_text(H2LEARN.replace(old, new, 1), encoding="utf-8")
    return load_arch(path)


@pytest.mark.parametrize(
    ("old", "spellings"),
    [
        (CLOCK, ["800 MHz", "800MHz", "0.8 GHz", "800000 kHz", "8e8", "8.0e8", "8e+8", "800000000.0", "'800 MHz'"]),
        (LINK, ["128 GB/s", "0.128 TB/s", "128e9", "128000 MB/s", "125000000 KiB/s"]),
        (SPIKES, ["{bytes: 64 KiB,", "{bytes: 65536 B,", "{bytes: 0.0625 MiB,", "{bytes: 65536.0,"]),
        ("tile: {height: 8, width: 8}", ["tile: [8, 8]", "tile: [8.0, 8e0]"]),
        ("version: 1\n", ["", "version: 1.0\n"]),
    ],
)
def test_the_same_machine_in_another_spelling_has_the_same_hash(tmp_path, old, spellings):
    for spelling in spellings:
        assert arch_sha256(machine(tmp_path, old, f"{spelling} " if old.endswith(" ") else spelling)) == arch_sha256(
            load_arch("h2learn")
        ), spelling


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("h2learn", "acb33094a6e80e3e1b84f71e3144f22c4c091feb1ee404d919453609830ef103"),
    ],
)
def test_a_shipped_machine_keeps_the_hash_that_its_results_carry(name, sha256):
    assert arch_sha256(load_arch(name)) == sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (CLOCK, "128 GB/s ", "clock_hz: expected a frequency in Hz, kHz, MHz, GHz or THz; got '128 GB/s'"),
        (CLOCK, "800 mhz ", "clock_hz: expected a frequency in Hz, kHz, MHz, GHz or THz; got '800 mhz'"),
        (CLOCK, "1.5 Hz ", "clock_hz: expected a whole number of Hz; got '1.5 Hz'"),
        (CLOCK, "fast ", "clock_hz: expected a valid integer; got 'fast'"),
        (CLOCK, "'800000000' ", "clock_hz: expected a valid integer; got '800000000'"),
        (CLOCK, "800000000.5 ", "clock_hz: expected a valid integer; got 800000000.5"),
        (CLOCK, "-1 MHz ", "clock_hz: expected greater than or equal to 1; got -1000000"),
        (CLOCK, "1e400 ", "clock_hz: expected a valid integer; got inf"),
        (LINK, "128 GB ", "memory.bandwidth_bytes_per_s: expected bytes per second in B/s, kB/s, MB/s, "),
        (LINK, "128 Gb/s ", "memory.bandwidth_bytes_per_s: expected bytes per second in B/s, kB/s, MB/s, "),
        (
            SPIKES,
            "{bytes: 64 KB,",
            "engines.forward.buffers.spikes.bytes: expected a size in B, KiB, MiB, GiB or TiB; got",
        ),
        ("rows: 64 ", "rows: true ", "engines.forward.rows: expected a valid integer; got True"),
        ("rows: 64 ", "rows: 64 MHz ", "engines.forward.rows: expected a valid integer; got '64 MHz'"),
        ("version: 1", "version: 2", "version: expected 1, the version of files that this h2sim reads; got 2"),
        ("version: 1", "version: one", "version: expected a valid integer; got 'one'"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_by_field(tmp_path, old, new, said):
    with pytest.raises(ArchError, match=rf"mine\.yaml: {re.escape(said)}"):
        machine(tmp_path, old, new)


@pytest.mark.parametrize("number", ["010", "0x40", "0b11", "1_000", "1:30", "-1:30.5", "00", "+07", "1_0.5"])
def test_a_number_that_yaml_would_read_otherwise_is_refused_with_file_line_and_field(tmp_path, number):
    line = H2LEARN[: H2LEARN.index("rows: 64 ")].count("\n") + 1
    said = f"engines.forward.rows: expected a plain decimal number, or text in quotes; got {number}"
    with pytest.raises(ArchError, match=rf"mine\.yaml: line {line}: {re.escape(said)}$"):
        machine(tmp_path, "rows: 64 ", f"rows: {number} ")
    with pytest.raises(H2SimError, match=rf"^--set: rows: expected a plain decimal .*; got {re.escape(number)}$"):
        parse_setting(f"rows={number}")


@given(st.from_regex(r"[-+]?[0-9._:xXbBoOeE+\-]{1,12}", fullmatch=True))
def test_a_plain_scalar_is_its_decimal_number_or_text_or_refused(text):
    try:
        value = read_value(text, "x", H2SimError)
    except H2SimError:
        return
    if isinstance(value, int | float):
        assert value == type(value)(Decimal(text) if isinstance(value, int) else text)


@given(st.integers(-(10**18), 10**18))
def test_every_integer_is_read_as_itself(number):
    assert read_value(str(number), "x", H2SimError) == number


@given(st.decimals(0, 10**6, allow_nan=False, places=9), st.sampled_from(["", "k", "M", "G", "T"]), st.booleans())
def test_a_quantity_is_exact_or_refused(amount, prefix, spaced):
    text = f"{amount:f}{' ' if spaced else ''}{prefix}Hz"
    exact = Fraction(amount) * EXACT.get(prefix, 1)
    if exact.denominator == 1:
        assert Numbers(clock_hz=text).clock_hz == exact  # type: ignore[arg-type]
    else:
        with pytest.raises(ValidationError, match="expected a whole number of Hz; got"):
            Numbers(clock_hz=text)  # type: ignore[arg-type]


@given(st.integers(0, 10**6), st.sampled_from(sorted(EXACT)))
def test_a_size_or_bandwidth_counts_bytes_exactly(amount, prefix):
    data: dict[str, Any] = {"link_bytes_per_s": f"{amount} {prefix}B/s", "rate_bytes_per_s": f"{amount} {prefix}B/s"}
    made = Numbers(**data)
    assert made.link_bytes_per_s == amount * EXACT[prefix]
    assert made.rate_bytes_per_s == float(amount * EXACT[prefix])
    if prefix.endswith("i"):
        assert Numbers.model_validate({"bytes": f"{amount} {prefix}B"}).bytes == amount * EXACT[prefix]


@given(st.floats())
def test_a_float_is_taken_as_an_integer_only_where_it_stands_for_that_one_alone(number):
    if number == number and abs(number) <= 2**53 and number == int(number):
        assert Numbers.model_validate({"count": number}).count == number
        assert type(Numbers.model_validate({"count": number}).count) is int
    else:
        with pytest.raises(ValidationError, match="valid integer"):
            Numbers.model_validate({"count": number})


@pytest.mark.parametrize("field", ["clock_hz", "count", "rate_bytes_per_s", "bytes"])
def test_a_boolean_is_never_a_number(field):
    with pytest.raises(ValidationError, match=r"expected a valid (integer|number); got True"):
        Numbers.model_validate({field: True})


def test_numbers_inside_tuples_are_read_alike_and_other_types_stay():
    made = Numbers.model_validate({"shape": [2.0, 3], "points": [[1.0, 2], [2, 2.5]], "loose": "5 GHz"})
    assert (made.shape, made.points, made.loose) == ((2, 3), ((1, 2.0), (2, 2.5)), "5 GHz")
    with pytest.raises(ValidationError, match="expected a valid integer; got False"):
        Numbers.model_validate({"shape": [1, False]})


def test_tables_networks_and_rivals_take_whole_floats_and_units(tmp_path):
    (tmp_path / "t.yaml").write_text("extends: 28nm\nname: mine\nluts: [{entries: 8.0, method: x, leakage_uw: 1}]\n")
    assert next(lut for lut in load_energy_table(tmp_path / "t.yaml").luts if lut.entries == 8).leakage_uw == 1
    (tmp_path / "n.yaml").write_text(
        "name: n\ninput: {shape: [2.0, 8, 8], kind: spikes}\ntimesteps: 1e1\nlayers: 8C3-10FC\n"
    )
    network = load_network(str(tmp_path / "n.yaml"))
    assert (network.timesteps, network.input_shape) == (10, (2, 8, 8))
    text = library.find("arch", "spinalflow").read_text(encoding="utf-8").replace("200000000", "200 MHz", 1)
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    assert load_spinalflow(tmp_path / "s.yaml") == load_spinalflow()
    (tmp_path / "n2.yaml").write_text("timesteps: 010\n")
    with pytest.raises(NetworkError, match=r"n2\.yaml: line 1: timesteps: expected a plain decimal number.*; got 010$"):
        load_network(str(tmp_path / "n2.yaml"))


def test_a_macro_of_a_table_takes_whole_floats():
    table = load_energy_table("28nm")
    macro = [float(value) for value in table.sram.macros[0]]
    changed = with_fields(table, {"sram.macros.0": macro}, "28nm", EnergyTableError)
    assert changed.sha256 == table.sha256


@pytest.mark.parametrize("load", [load_spinalflow, load_loihi])
def test_a_rivals_file_of_another_version_is_refused(tmp_path, load):
    text = library.find("arch", load().name.lower()).read_text(encoding="utf-8")
    assert text.count("version: 1\n") == 1
    (tmp_path / "x.yaml").write_text(text.replace("version: 1\n", ""), encoding="utf-8")
    assert load(tmp_path / "x.yaml") == load()
    (tmp_path / "x.yaml").write_text(text.replace("version: 1\n", "version: 3\n"), encoding="utf-8")
    with pytest.raises(H2SimError, match=r"x\.yaml: version: expected 1, the version of files .*; got 3$"):
        load(tmp_path / "x.yaml")


class Inner(Strict):
    rows: int


class Renamed(Strict):
    """Like a file whose `array.lines` and `speed` got other names."""

    RENAMED: ClassVar = {"array.lines": "array.rows", "speed": "clock_hz", "stages.lines": "stages.rows"}
    array: Inner
    clock_hz: int
    stages: tuple[Inner, ...] = ()


def test_a_renamed_key_is_answered_with_the_new_name_and_not_called_missing_too():
    with pytest.raises(ValidationError) as caught:
        Renamed.model_validate({"array": {"lines": 4}, "speed": 1, "clock": 2, "stages": [{"lines": 1}]})
    assert describe(caught.value, Renamed, "x.yaml") == [
        "x.yaml: array.lines: unknown field; it is now 'array.rows'",
        "x.yaml: stages.0.lines: unknown field; it is now 'stages.rows'",
        "x.yaml: speed: unknown field; it is now 'clock_hz'",
        "x.yaml: clock: unknown field; did you mean 'clock_hz'?",
    ]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{f'*{old}, ' * 9}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


def test_a_file_that_names_its_own_parts_many_times_over_is_refused_in_short_lines(tmp_path):
    (tmp_path / "bomb.yaml").write_text(BOMB + "name: *j\nclock_hz: *j\n")
    with pytest.raises(ArchError) as caught:
        load_arch(tmp_path / "bomb.yaml")
    lines = [line for line in str(caught.value).splitlines() if re.search(r"yaml: (name|clock_hz): ", line)]
    assert len(lines) == 2
    assert all(len(line) < len(str(tmp_path)) + 160 for line in lines)


def test_a_table_that_extends_such_a_value_is_refused_in_a_short_line(tmp_path):
    (tmp_path / "bomb.yaml").write_text(BOMB + "name: x\nextends: *j\n")
    with pytest.raises(EnergyTableError, match=r"extends: expected the name or file of an energy table; got \[\["):
        load_energy_table(tmp_path / "bomb.yaml")


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_shown_value_is_short_and_one_line(value):
    assert len(show(value)) <= 60
    assert "\n" not in show(value)


def test_what_is_shown_of_short_values_is_their_repr():
    for value in ("a'b", 1.5, [1, 2], {"a": None}, True, 10**20):
        assert show(value) == repr(value)
    assert show(10**5000) == "a huge int"


def test_every_shipped_yaml_file_reads_as_plain_yaml_does():
    for path in sorted(library.data_root().glob("*/**/*.yaml")):
        if path.relative_to(library.data_root()).parts[0] in ("archconfigs", "energy_tables", "workloads"):
            assert read_file(path, H2SimError) == yaml.safe_load(path.read_text(encoding="utf-8")), path
