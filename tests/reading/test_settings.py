"""Fields by dotted path: any field of a file can be set, and what comes out is checked as a file is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.arch import arch_sha256, load_arch, parse_arch, with_mode
from h2sim.arch.fields import parse_setting, set_field
from h2sim.energy import load_energy_table
from h2sim.errors import ArchError, BaselineError, EnergyTableError, H2SimError
from h2sim.io.fields import with_fields
from h2sim.io.strict import Strict
from h2sim.rivals.spinalflow.schema import load_spinalflow

ARCH = load_arch("h2learn")
TABLE = load_energy_table("28nm")


def leaves(data: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that is no mapping."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


LEAVES = list(leaves(ARCH.model_dump()))


def at_path(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[part]
    return data


@given(st.sampled_from([(path, value) for path, value in LEAVES if path.endswith(("_cycles", "add", "soma", "rows"))]))
def test_a_set_field_has_its_value_and_every_other_field_keeps_its_own(leaf):
    path, value = leaf
    changed = dict(leaves(set_field(ARCH, path, value + 1).model_dump()))
    assert changed == {**dict(LEAVES), path: value + 1}


@given(st.sampled_from(LEAVES))
def test_setting_a_field_to_what_it_is_changes_nothing(leaf):
    assert arch_sha256(ARCH.with_(dict([leaf]))) == arch_sha256(ARCH)


def test_the_machine_itself_stays():
    before = arch_sha256(ARCH)
    assert ARCH.with_({"engines.backward.rows": 32}).engines.backward.rows == 32
    assert arch_sha256(ARCH) == before


def test_a_path_that_is_a_whole_mapping_takes_a_whole_mapping():
    assert ARCH.with_({"tile": {"height": 4, "width": 6}}).tile.size == (4, 6)
    with pytest.raises(ArchError, match=r"^h2learn: tile\.width: missing field$"):
        ARCH.with_({"tile": {"height": 4}})


def test_fields_that_only_fit_together_change_together():
    path = "engines.forward.buffers.spikes"
    with pytest.raises(ArchError, match=r"banks: a bank must hold one word of 256 bits; got 64 B in 4 banks"):
        ARCH.with_({f"{path}.bytes": 64})
    assert ARCH.with_({f"{path}.bytes": 64, f"{path}.banks": 1}).engines.forward.buffers.spikes.bytes == 64


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("engines.backward.row", "engines.backward.row: unknown field; did you mean 'engines.backward.rows'?"),
        ("backward.rows", "backward.rows: unknown field; did you mean 'engines.backward.rows'?"),
        ("engine.backward.rows", "engine.backward.rows: unknown field; did you mean 'engines.backward.rows'?"),
        ("tile.size", "tile.size: unknown field; known: tile.height, tile.width"),
        ("clock_hz.much", "clock_hz.much: unknown field; did you mean 'clock_hz'?"),
        ("", ": unknown field; known: machine, version, name, description,"),
        ("tile.", "tile.: unknown field; known: tile.height, tile.width"),
    ],
)
def test_an_unknown_path_is_answered_with_the_nearest(path, said):
    with pytest.raises(ArchError, match="^h2learn: " + re.escape(said)):
        ARCH.with_({path: 1})


def test_every_fault_of_the_changes_is_told_at_once():
    with pytest.raises(ArchError, match=r"^h2learn: a: unknown field.*\nh2learn: b: unknown field.*$"):
        ARCH.with_({"a": 1, "b": 2, "tile.width": 4})
    with pytest.raises(ArchError, match=r"^h2learn: tile\.height: .*; got 0\nh2learn: tile\.width: .*; got 0$"):
        ARCH.with_({"tile.height": 0, "tile.width": 0})


def test_tables_and_rivals_are_set_in_the_same_way():
    cheap = with_fields(TABLE, {"actions.fp16_add.energy_pj": 0.2, "luts.0.leakage_uw": 7.0}, "28nm", EnergyTableError)
    assert (cheap.actions.fp16_add.energy_pj, cheap.luts[0].leakage_uw) == (0.2, 7.0)
    assert cheap.luts[1:] == TABLE.luts[1:]
    assert with_fields(load_spinalflow(), {"array.pes": 64}, "spinalflow", BaselineError).array.pes == 64
    with pytest.raises(EnergyTableError, match=rf"^28nm: luts\.{len(TABLE.luts)}\.read_pj: unknown field"):
        with_fields(TABLE, {f"luts.{len(TABLE.luts)}.read_pj": 1.0}, "28nm", EnergyTableError)


def test_a_mode_is_a_field_like_another():
    assert arch_sha256(with_mode(ARCH, "dense")) == arch_sha256(ARCH.with_({"engines.backward.mode": "dense"}))
    with pytest.raises(ArchError, match=r"^h2learn: engines\.backward\.mode: expected 'dense'.*; got 'dull'$"):
        with_mode(ARCH, "dull")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("engines.backward.rows=32", ("engines.backward.rows", 32)),
        ("tile=[4, 8]", ("tile", [4, 8])),
        ("tile={height: 4, width: 8}", ("tile", {"height": 4, "width": 8})),
        ("engines.forward.lut = false", ("engines.forward.lut", False)),
        ("description=a=b", ("description", "a=b")),
        ("interconnect=null", ("interconnect", None)),
        ("memory.bandwidth_bytes_per_s=128 GB/s", ("memory.bandwidth_bytes_per_s", "128 GB/s")),
    ],
)
def test_a_setting_is_read_as_a_line_of_a_file(text, setting):
    assert parse_setting(text) == setting


@pytest.mark.parametrize(
    ("text", "value"), [("clock_hz=1.2 GHz", 1_200_000_000), ("clock_hz=1e9", 10**9), ("clock_hz=800000000", 8 * 10**8)]
)
def test_a_setting_takes_units_and_whole_floats(text, value):
    assert set_field(ARCH, *parse_setting(text)).clock_hz == value


@pytest.mark.parametrize("text", ["", "rows", "=3", "rows=", " = "])
def test_a_setting_without_field_or_value_is_refused_with_an_example(text):
    said = f"--set: setting: expected FIELD=VALUE, such as engines.backward.rows=32; got {text!r}"
    with pytest.raises(H2SimError, match=f"^{re.escape(said)}$"):
        parse_setting(text)


@pytest.mark.parametrize("value", ["[4", "{a: 1, a: 2}", "!!python/object:os.system x", "[" * 10_000, "a: b: c"])
def test_a_value_that_is_no_yaml_is_refused_in_one_line(value):
    with pytest.raises(H2SimError, match=r"^--set: tile: expected a value as in a file; got '[^\n]*$"):
        parse_setting(f"tile={value}")


def test_a_tile_is_read_from_a_pair_in_a_file_too():
    data = {**ARCH.model_dump(), "tile": [4, 6]}
    assert parse_arch(data, "x").tile.size == (4, 6)
    with pytest.raises(ArchError, match=r"^x: tile: "):
        parse_arch({**data, "tile": [4, 6, 8]}, "x")


class Inner(Strict):
    rows: int


class Renamed(Strict):
    """Like a file whose `array.lines` and `speed` got other names."""

    RENAMED: ClassVar = {"array.lines": "array.rows", "speed": "clock_hz"}
    array: Inner
    clock_hz: int = 1


def test_a_renamed_path_is_answered_with_its_new_name():
    model = Renamed.model_validate({"array": {"rows": 1}})
    with pytest.raises(ArchError, match=r"^x: array\.lines: unknown field; it is now 'array\.rows'$"):
        with_fields(model, {"array.lines": 3}, "x", ArchError)
