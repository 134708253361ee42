"""The RTL beside the co-simulation: its fixed point, what it refuses, the Verilog it becomes."""

from __future__ import annotations

import os
import shutil
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import load_arch
from h2sim.arch.schema import Arch
from h2sim.cli import main
from h2sim.errors import ArchError
from h2sim.reference import neuron as reference
from h2sim.rtl import design, fixed
from h2sim.rtl.bench import has_verilator
from h2sim.rtl.fixed import FixedNeuron
from h2sim.rtl.parameters import (
    EMPTY_WINDOW_CYCLES,
    FINDER_CYCLES,
    TILE_SYNC_CYCLES,
    Widths,
    backward_parameters,
    forward_parameters,
    of_engine,
)

H2LEARN = load_arch("h2learn")
WIDTHS = Widths(operand_bits=8, sum_bits=16, fraction_bits=8, most_samples=4)


def changed(**numbers) -> Arch:
    """h2learn with small arrays and other numbers: 'engines__forward__rows=2'."""
    data = H2LEARN.model_dump()
    for engine in data["engines"].values():
        engine |= {"rows": 2, "columns": 2, "parallelism": 2}
    data["tile"] = {"height": 2, "width": 2}
    data["engines"]["weight_update"]["buffers"]["weight_gradients"] |= {"bytes": 4096, "banks": 4}
    for path, value in numbers.items():
        *outer, last = path.split("__")
        inner = data
        for key in outer:
            inner = inner[key]
        inner[last] = value
    return Arch(**data)


def test_the_default_machine_has_the_constants_of_the_rtl():
    engine = H2LEARN.engines.backward
    assert engine.tile_sync_cycles == TILE_SYNC_CYCLES
    assert engine.empty_window_cycles == EMPTY_WINDOW_CYCLES
    assert H2LEARN.latency.finder == FINDER_CYCLES


@pytest.mark.parametrize(
    ("build", "path", "value"),
    [
        (backward_parameters, "engines__backward__tile_sync_cycles", 3),
        (backward_parameters, "engines__backward__empty_window_cycles", 0),
        (backward_parameters, "latency__finder", 1),
        (backward_parameters, "latency__grad", 0),
        (forward_parameters, "engines__forward__lut", False),
        (forward_parameters, "latency__fp16_add", 3),
        (forward_parameters, "latency__lut_read", 0),
    ],
)
def test_what_the_rtl_does_not_build_is_refused_by_name(build, path, value):
    arguments = (WIDTHS, (3, 3)) if build is backward_parameters else (WIDTHS,)
    with pytest.raises(ArchError, match=f"h2learn: {path.replace('__', '.')}: expected .*; got {str(value).lower()}"):
        build(changed(**{path: value}), *arguments)


@settings(max_examples=60)
@given(st.integers(1, 5), st.booleans(), st.integers(0, 2**31))
def test_fixed_point_neurons_equal_the_reference_where_nothing_is_rounded(steps, detach, seed):
    rng = np.random.default_rng(seed)
    neuron = FixedNeuron(
        fraction_bits=8, threshold=640, window=(-200, 1300), decay=64, surrogate_scale=16, detach_reset=detach
    )  # threshold 2.5, decay 1/2, surrogate 1
    x = rng.integers(-6, 7, (steps, 9))
    spikes, membrane, window = fixed.soma(x, neuron)
    expected = reference.soma(x, 2.5, 0.5, (-200 / 256, 1300 / 256), "zero")
    assert np.array_equal(spikes, expected[0])
    assert np.array_equal(membrane / 256, expected[1])
    assert np.array_equal(window, expected[2])
    if not detach:
        membrane = membrane >> 8 << 8  # whole numbers: the product with dm then has no more digits than dm
    spatial = rng.integers(-3, 4, x.shape)
    dm = fixed.grad(spatial, membrane, spikes, window, neuron)
    floats = reference.grad(spatial, membrane / 256, spikes, window, 0.5, 1.0, "zero", detach)
    assert np.array_equal(dm / 256, floats)


def test_emit_writes_the_same_verilog_twice(tmp_path):
    arch = tmp_path / "small.yaml"
    import yaml

    arch.write_text(yaml.safe_dump(changed().model_dump()))
    texts = []
    for name in ("a", "b"):
        done = CliRunner().invoke(
            main, ["rtl", "emit", str(arch), "-o", str(tmp_path / name), "--engine", "weight_update"]
        )
        assert done.exit_code == 0, done.output
        texts.append({p.name: p.read_text() for p in (tmp_path / name).iterdir()})
    assert texts[0] == texts[1]
    assert set(texts[0]) == {"weight_update_engine.v", "weight_update_column.v", "weight_update_lut_pe.v"}
    assert texts[0]["weight_update_engine.v"].count("weight_update_lut_pe ") == 4


@pytest.mark.skipif(not has_verilator(), reason="no Verilator here")
def test_an_engine_too_wide_for_ports_gets_its_buffers_as_black_boxes(tmp_path, monkeypatch):
    parameters = of_engine(changed(), "backward", WIDTHS, (3, 3))
    monkeypatch.setattr(design, "MOST_PORT_BITS", 10)
    modules = design.verilog_modules(parameters)
    assert "backward_engine_gradients_1_buffer_4" in modules["backward_engine_buffers"]
    (tmp_path / "all.v").write_text("\n".join(modules.values()))
    lint = ["verilator", "--lint-only", "-Wno-fatal", "-Wno-lint", "--top-module", "backward_engine", "all.v"]
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_prints_a_table_and_writes_a_record(tmp_path):
    record = tmp_path / "record.md"
    arguments = ["rtl", "check", "--simulator", "amaranth", "--machines", "2", "--cases", "2", "--jobs", "1"]
    done = CliRunner().invoke(main, [*arguments, "--record", str(record)])
    assert done.exit_code == 0, done.output
    assert "4 cases, 0 disagree" in done.output
    assert "**4 cases, 0 disagreements**" in record.read_text()


def test_units_within_units_are_counted():
    from h2sim.rtl.design import verilog_units

    units = verilog_units(of_engine(changed(), "backward", WIDTHS, (3, 3)))
    counts = {name.removeprefix("backward_"): count for name, (count, _) in units.items()}
    assert counts == {"column": 2, "group": 4, "group_pe": 8, "output_finder": 2}


def test_more_wide_machines_than_the_arch_has_are_refused():
    done = CliRunner().invoke(main, ["rtl", "check", "--wide", "4"])
    assert done.exit_code == 2
    assert done.output == "h2sim: --wide: expected at most 3 (h2learn: 4x16x4, 8x32x4, 16x64x4); got 4\n"


def test_wide_machines_without_the_backward_engine_are_refused():
    done = CliRunner().invoke(main, ["rtl", "check", "--wide", "1", "--engine", "forward"])
    assert done.exit_code == 2
    assert done.output == "h2sim: --wide: expected --engine backward with it, or no --engine; got forward\n"


def test_wide_machines_are_not_run_on_amaranths_simulator():
    done = CliRunner().invoke(main, ["rtl", "check", "--wide", "1", "--simulator", "amaranth"])
    assert done.exit_code == 2
    assert done.output == "h2sim: --wide: expected Verilator; got Amaranth's simulator\n"


@pytest.mark.skipif(not shutil.which("yosys"), reason="no Yosys here")
def test_yosys_leaves_the_units_within_a_unit_out():
    from h2sim.rtl.area import unit_areas

    rows = {row.module: row for row in unit_areas(of_engine(changed(), "backward", WIDTHS, (3, 3)), None)}
    assert rows["backward_group"].flip_flops == 1  # its idle flag
    assert rows["backward_group_pe"].flip_flops > 100


@pytest.mark.skipif(not shutil.which("yosys"), reason="no Yosys here")
def test_yosys_counts_the_cells_of_every_unit(tmp_path):
    from h2sim.rtl.area import unit_areas

    rows = list(unit_areas(of_engine(changed(), "forward", WIDTHS, (3, 3)), None))
    assert [(row.module, row.instances) for row in rows] == [("forward_column", 2), ("forward_lut_pe", 4)]
    lut_bits = 3 * 8 * WIDTHS.sum_bits
    assert all(row.cells > row.flip_flops for row in rows)
    assert rows[1].flip_flops >= lut_bits  # three sub-LUTs of eight entries


LIBERTY = """library(test) {
  cell(BUF) { area: 2; pin(A) { direction: input; } pin(Y) { direction: output; function: "A"; } }
  cell(INV) { area: 1; pin(A) { direction: input; } pin(Y) { direction: output; function: "A'"; } }
  cell(NAND2) { area: 2; pin(A) { direction: input; } pin(B) { direction: input; }
    pin(Y) { direction: output; function: "(A*B)'"; } }
  cell(DFF) { area: 8; ff(IQ, IQN) { clocked_on: C; next_state: D; }
    pin(C) { direction: input; clock: true; } pin(D) { direction: input; }
    pin(Q) { direction: output; function: "IQ"; } }
}
"""


@pytest.mark.skipif(not shutil.which("yosys"), reason="no Yosys here")
def test_a_liberty_file_gives_areas(tmp_path):
    from h2sim.rtl.area import unit_areas

    (tmp_path / "cells.lib").write_text(LIBERTY)
    rows = list(unit_areas(of_engine(changed(), "forward", WIDTHS, (3, 3)), tmp_path / "cells.lib"))
    pe = rows[1]
    assert pe.flip_flops >= 3 * 8 * WIDTHS.sum_bits
    combinational = pe.cells - pe.flip_flops
    assert 8 * pe.flip_flops + combinational <= pe.area_um2 <= 8 * pe.flip_flops + 2 * combinational


@pytest.mark.skipif(not shutil.which("yosys"), reason="no Yosys here")
def test_a_file_without_cells_is_no_liberty_file(tmp_path):
    (tmp_path / "empty.lib").write_text("library (nothing) {}\n")
    done = CliRunner().invoke(main, ["rtl", "area", "h2learn", "--liberty", str(tmp_path / "empty.lib")])
    assert done.exit_code == 2
    assert done.output.endswith("empty.lib: expected a Liberty file with cells; got none in it\n")
    assert len(done.output.splitlines()) == 1


@pytest.mark.skipif(not has_verilator(), reason="no Verilator here")
def test_a_tool_that_fails_is_one_line(tmp_path, monkeypatch):
    fake = tmp_path / "verilator"
    fake.write_text("#!/bin/sh\necho 'some talk'\necho '%Error: no such option' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = CliRunner().invoke(main, ["rtl", "check", "--machines", "1", "--cases", "1", "--jobs", "1"])
    assert done.exit_code == 2
    assert done.output == "h2sim: verilator: forward_engine: expected a program; got %Error: no such option\n"
