"""Cautions: each is told where a number would mislead and nowhere else, and counting for it costs no read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import h2sim
from h2sim.arch import load_arch, with_mode
from h2sim.cautions import cautions, machine_cautions, table_cautions, trace_cautions
from h2sim.energy import EnergyTable, load_energy_table
from h2sim.energy.load import load_sram_part, part_names
from h2sim.energy.plausible import SHIPPED, implausible, macro_quantities, quantities
from h2sim.errors import EnergyTableError
from h2sim.io import library
from h2sim.io.fields import with_fields
from h2sim.trace import Trace, write_trace
from tests.helpers.tiny import binary_layers, tiny_layers

ARCH, TABLE = load_arch("h2learn"), load_energy_table("28nm")
NEURON = {"threshold": 0.5, "decay": 0.5, "window": [0.0, 1.0]}
Arrays = dict[str, np.ndarray]


def made(tmp_path: Path, layers: list[dict[str, Any]], change: Callable[[Arrays, dict[str, Any]], None]) -> Trace:
    """A trace of 2 timesteps and 2 samples with about half of all bits set, after `change(arrays, meta)`."""
    rng = np.random.default_rng(0)
    image = {"input.analog": rng.random((1, 2, 1, 6, 6), np.float32)}
    arrays: Arrays = image if layers[0]["kind"] == "encode" else {"input.spikes": packed(rng, 36)}
    for layer in layers:
        neurons = layer["out_features"] if layer["kind"] == "fc" else math.prod(layer["out_shape"])
        kinds = ("spikes", "window", "grad") if layer.get("spiking", True) else ("grad",)
        arrays |= {f"{layer['name']}.{kind}": packed(rng, neurons) for kind in kinds}
    meta = {
        "format": "h2sim-trace", "version": 1, "network": "tiny", "dataset": "halves", "timesteps": 2, "batch": 2,
        "phases": ["forward", "backward", "weight_update"], "neuron": NEURON, "source": {"kind": "training"},
        "layers": layers,
    }  # fmt: skip
    change(arrays, meta)
    obey(arrays, meta)
    write_trace(tmp_path / "made.npz", meta, arrays)
    return h2sim.load_trace(tmp_path / "made.npz")


def obey(arrays: Arrays, meta: dict[str, Any]) -> None:
    """Leaves the gradients that training could have: none in inference, none behind the last open window."""
    for name in [name for name in arrays if name.endswith(".grad")]:
        window = arrays.get(name.replace(".grad", ".window"))
        if "backward" not in meta["phases"]:
            del arrays[name]
        elif window is not None:
            arrays[name] = arrays[name] & np.bitwise_or.accumulate(window[::-1], axis=0)[::-1]


def packed(rng: np.random.Generator, neurons: int) -> np.ndarray:
    bits = rng.random((2, 2, neurons)) < 0.5
    bits[..., :2] = [False, True]  # neither empty nor full
    return np.packbits(bits, axis=-1)


def as_it_is(_arrays: Arrays, _meta: dict[str, Any]) -> None:
    pass


def silent(*names: str) -> Callable[[Arrays, Any], None]:
    return lambda arrays, _: arrays.update({f"{n}.spikes": np.zeros_like(arrays[f"{n}.spikes"]) for n in names})


def wide(**neurons: int) -> Callable[[Arrays, Any], None]:
    """Window masks that are all ones."""

    def change(arrays: Arrays, _meta: dict[str, Any]) -> None:
        for name, count in neurons.items():
            arrays[f"{name}.window"] = np.packbits(np.ones((2, 2, count), bool), axis=-1)

    return change


def analog(values: np.ndarray) -> Callable[[Arrays, Any], None]:
    return lambda arrays, _: arrays.update({"input.analog": values.astype(np.float32).reshape(1, 2, 1, 6, 6)})


@pytest.mark.parametrize("name", ["mnist-digits", "mnist-table34", "mnist-table34-fp16"])
def test_shipped_traces_on_the_shipped_machine_need_no_caution(name):
    assert cautions(ARCH, h2sim.load_trace(name), TABLE) == ()


@pytest.mark.parametrize("layers", [binary_layers(), tiny_layers()])
def test_a_trace_with_bits_of_both_kinds_needs_no_caution(tmp_path, layers):
    assert trace_cautions(made(tmp_path, layers, as_it_is)) == ()


def test_a_layer_without_a_spike_is_named(tmp_path):
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), silent("down")))
    assert said == "layer down without a single spike: what reads it has next to nothing to do"
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), silent("down", "join")))
    assert said.startswith("layers join, down without a single spike")


def test_a_trace_in_which_nothing_spikes_is_one_sentence(tmp_path):
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), silent("encode", "join", "down", "shrink")))
    assert said == "no layer of the trace spikes even once: times and energies are those of an idle network"


def test_an_input_without_a_spike_is_told(tmp_path):
    (said,) = trace_cautions(made(tmp_path, binary_layers(), silent("input")))
    assert said.startswith("the network's input holds no spike")


def test_a_window_that_excludes_nothing_is_told_with_what_to_do(tmp_path):
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), wide(join=108)))
    assert said.startswith("every window bit of layer join is set")
    assert "window_threshold above 0" in said
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), wide(encode=108, join=108, down=36, shrink=4)))
    assert said.startswith("every window bit of every layer is set")


def test_one_bit_outside_the_window_is_enough_to_say_nothing(tmp_path):
    def change(arrays: Arrays, meta: dict[str, Any]) -> None:
        wide(join=108)(arrays, meta)
        arrays["join.window"][1, 1, 13] &= 0xEF

    assert trace_cautions(made(tmp_path, tiny_layers(), change)) == ()


@pytest.mark.parametrize(("mode", "told"), [("dual", 1), ("output_only", 1), ("input_only", 0), ("dense", 0)])
def test_windows_mislead_only_where_the_backward_engine_uses_them(tmp_path, mode, told):
    trace = made(tmp_path, tiny_layers(), wide(join=108))
    assert len(cautions(with_mode(ARCH, mode), trace, TABLE)) == told


def test_windows_of_inference_mislead_nobody(tmp_path):
    def change(arrays: Arrays, meta: dict[str, Any]) -> None:
        wide(join=108)(arrays, meta)
        meta["phases"] = ["forward"]

    assert trace_cautions(made(tmp_path, tiny_layers(), change)) == ()


BITS = np.arange(72) % 3 == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (BITS, "100 % of the analog input's values are 0 or 1: "),
        (np.where(BITS, 2.5, -0.5), "100 % of the analog input's values are -0.5 or 2.5: "),
        (np.where(np.arange(72) == 5, 0.5, BITS), None),  # 1 of 72 is more than 1 %
        (np.zeros(72), None),
        (np.linspace(0, 1, 72), None),
    ],
)
def test_a_binary_input_stored_as_analog_is_told(tmp_path, values, said):
    found = trace_cautions(made(tmp_path, tiny_layers(), analog(values)))
    assert len(found) == (said is not None)
    assert all(line.startswith(str(said)) for line in found)


def test_a_few_odd_values_leave_a_binary_input_binary_but_sparse_counts_are_not(tmp_path):
    def change(values: np.ndarray) -> Callable[[Arrays, Any], None]:
        def apply(arrays: Arrays, meta: dict[str, Any]) -> None:
            meta["layers"] = [{**tiny_layers()[0], "in_shape": [1, 60, 60], "out_shape": [3, 60, 60]}]
            arrays.clear()
            arrays["input.analog"] = values.astype(np.float32).reshape(1, 2, 1, 60, 60)
            rng = np.random.default_rng(1)
            arrays |= {f"encode.{kind}": packed(rng, 3 * 3600) for kind in ("spikes", "window", "grad")}

        return apply

    bits = (np.arange(7200) % 3 == 0).astype(float)
    bits[:60] = 0.5
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), change(bits)))
    assert said.startswith("99.17 % of the analog input's values are 0 or 1")
    counts = np.where(np.arange(7200) % 200 == 0, 1 + np.arange(7200) // 200 % 5, 0)
    assert trace_cautions(made(tmp_path, tiny_layers(), change(counts))) == ()


def test_batch_norm_is_told(tmp_path):
    (said,) = trace_cautions(made(tmp_path, tiny_layers(), lambda _, meta: meta["source"].update(batch_norm=True)))
    assert said.startswith("the network has batch norm: its arithmetic is not modelled")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("clock_hz", 800, "machine h2learn: clock_hz is 800 Hz, below 1 MHz: was 800 MHz meant?"),
        ("clock_hz", 999_999, "machine h2learn: clock_hz is 999999 Hz, below 1 MHz: was 999999 MHz meant?"),
        ("clock_hz", 10**6, None),
        (
            "memory.bandwidth_bytes_per_s",
            128,
            "machine h2learn: memory.bandwidth_bytes_per_s is 128 B/s, below 1 MB/s: was 128 GB/s meant?",
        ),
        (
            "interconnect.link_bytes_per_s",
            25,
            "machine h2learn: interconnect.link_bytes_per_s is 25 B/s, below 1 MB/s: was 25 GB/s meant?",
        ),
        ("memory.bandwidth_bytes_per_s", 10**6, None),
        ("interconnect", None, None),
    ],
)
def test_a_speed_without_its_unit_is_told(field, value, said):
    assert machine_cautions(ARCH.with_({field: value})) == ((said,) if said else ())


def changed(**fields: object) -> EnergyTable:
    paths = {path.replace("__", "."): value for path, value in fields.items()}
    return with_fields(TABLE, paths, "28nm", EnergyTableError)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("entry", [e for e in SHIPPED if e.startswith(("actions.", "offchip."))])
def test_a_price_in_another_unit_is_named_with_the_shipped_range(entry, factor):
    value = quantities(TABLE)[entry] * factor
    holder, _, field = entry.rpartition(".")
    unit = field.removeprefix("energy_")
    ends = {f"{holder}.{end}_{unit}": None for end in ("low", "high")} if unit != field else {}
    table = with_fields(TABLE, {**ends, entry: value}, "28nm", EnergyTableError)
    (said,) = table_cautions(table)
    low, high = SHIPPED[entry]
    assert said.startswith("energy table 28nm: 1 price is more than 100 times below or above")
    assert said.endswith(f": {entry} is {value:.4g} (shipped tables: {low:.4g} to {high:.4g})")


def test_luts_and_macros_in_another_unit_are_told():
    luts = [lut.model_dump() | {"read_pj": lut.read_pj * 1e3, "high_pj": None} for lut in TABLE.luts]
    macros = [
        macro._replace(write_pj=macro.write_pj / 1e3, area_um2=macro.area_um2 / 1e6) for macro in TABLE.sram.macros
    ]
    found = implausible(changed(luts=luts, sram__macros=macros))
    expected = ["luts.read_pj per entry", "sram.write_pj per bit and root of bytes", "sram.area_um2 per byte"]
    assert [outlier.entry for outlier in found] == expected


def test_a_table_all_in_another_unit_is_one_sentence_that_names_the_first_few():
    actions = {
        f"actions.{name}.{field}": value and value * 1e3
        for name, price in TABLE.actions.model_dump().items()
        for field, value in price.items()
        if field in ("energy_pj", "low_pj", "high_pj", "leakage_uw")
    }
    (said,) = table_cautions(with_fields(TABLE, actions, "28nm", EnergyTableError))
    assert said.startswith("energy table 28nm: 12 prices are more than 100 times")
    assert said.count("shipped tables:") == 6
    assert said.endswith("; and 6 more")


def test_a_price_of_nothing_or_a_hundred_times_off_is_left_alone():
    free = changed(actions__fp16_add__energy_pj=0.0, actions__fp16_add__low_pj=None)
    dear = changed(offchip__energy_pj_per_bit=390.0, offchip__high_pj_per_bit=None)
    assert table_cautions(free) == table_cautions(dear) == ()


@pytest.mark.parametrize("name", library.names("energy table"))
def test_shipped_tables_need_no_caution(name):
    assert table_cautions(load_energy_table(name)) == ()


def test_the_shipped_range_is_that_of_the_shipped_tables():
    tables = [load_energy_table(name) for name in library.names("energy table")]
    found = [quantities(table) for table in tables if table.kind != "calibrated"]
    found += [macro_quantities(load_sram_part(name).macros) for name in part_names()]
    assert set(found[0]) == set(SHIPPED)
    for entry, (low, high) in SHIPPED.items():
        values = [one[entry] for one in found if entry in one]
        assert (low, high) == (pytest.approx(min(values), rel=5e-3), pytest.approx(max(values), rel=5e-3)), entry


def test_cautions_come_in_a_fixed_order_machine_trace_table(tmp_path):
    def change(arrays: Arrays, meta: dict[str, Any]) -> None:
        silent("down")(arrays, meta)
        wide(join=108)(arrays, meta)
        analog(BITS)(arrays, meta)
        meta["source"]["batch_norm"] = True

    trace = made(tmp_path, tiny_layers(), change)
    found = cautions(ARCH.with_({"clock_hz": 1}), trace, changed(actions__fp16_multiply__leakage_uw=1e6))
    starts = ["machine", "layer down", "every window", "100 % of", "the network has", "energy table"]
    assert [line.startswith(start) for line, start in zip(found, starts, strict=True)] == [True] * 6
    assert all(line.isprintable() for line in found)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The members that any trace reads from its file from here on."""
    found: list[str] = []
    read = Trace._read
    monkeypatch.setattr(Trace, "_read", lambda self, name: found.append(name) or read(self, name))
    return found


def test_after_a_run_cautions_read_spikes_alone_and_each_member_once(reads):
    trace = h2sim.load_trace("mnist-digits")
    h2sim.simulate(ARCH, trace, TABLE)
    before = len(reads)
    cautions(ARCH, trace, TABLE)
    assert {name.rpartition(".")[2] for name in reads[before:]} <= {"spikes"}
    assert len(reads) == len(set(reads))


def test_another_machine_on_the_same_trace_reads_and_counts_nothing(reads, monkeypatch):
    trace = h2sim.load_trace("mnist-table34")
    cautions(ARCH, trace, TABLE)
    assert reads.count("input.analog") == 1
    reads.clear()
    monkeypatch.setattr("h2sim.trace.maps.popcount", None)  # a call would raise
    cautions(ARCH.with_({"clock_hz": 10**9}), trace, TABLE)
    assert reads == []


def test_window_counts_taken_from_tiles_are_those_of_the_mask():
    counted, tiled = h2sim.load_trace("mnist-digits").maps, h2sim.load_trace("mnist-digits").maps
    for name in ("conv1", "pool2", "fc1"):
        tiled.in_tiles(name, "window", (8, 8))
        assert tiled.set_bits(name, "window") == counted.set_bits(name, "window") > 0
        assert tiled.set_bits(name, "spikes") == counted.set_bits(name, "spikes")
