"""`h2sim rtl`: the engines as Verilog, and the co-simulation against them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2sim.cli.names import ARCH, TABLE
from h2sim.cli.outputs import check_name, check_outputs
from h2sim.cli.support import NO, Commands, emit, extra, fail, progress, say, show

if TYPE_CHECKING:
    from h2sim.rtl.layers import Hardware

ENGINE_NAMES = ("forward", "weight_update", "backward")


def _needs_amaranth() -> None:
    with extra("rtl"):
        import amaranth  # noqa: F401


def _sizes(machines: Sequence[Hardware]) -> str:
    """The arrays of Backward Engines, as in '4x16x4, 8x32x4'."""
    arrays = [each.arch.engines.backward for each in machines]
    return ", ".join(f"{a.rows}x{a.columns}x{a.parallelism}" for a in arrays) or "no more than 20 PE groups"


@click.group(cls=Commands)
def rtl() -> None:
    """The engines as synthesisable RTL, and the proof that the simulator counts the same cycles.

    \b
    Examples:
      h2sim rtl emit h2learn -o verilog
      h2sim rtl check --machines 6 --cases 100
    """


@rtl.command("emit")
@click.argument("arch", type=ARCH)
@click.option("-o", "--output", "folder", required=True, metavar="DIR", help="Where the .v files go.")
@click.option("--engine", type=click.Choice(ENGINE_NAMES), multiple=True, help="Only this engine (may be repeated).")
@click.option("--operand-bits", default=16, show_default=True, type=click.IntRange(2, 32), help="Integer operands.")
@click.option("--sum-bits", default=24, show_default=True, type=click.IntRange(4, 40), help="LUT entries and sums.")
@click.option("--kernel", default=3, show_default=True, type=click.IntRange(1, 11), help="Largest kernel of BE.")
def emit_verilog(
    arch: str, folder: str, engine: tuple[str, ...], operand_bits: int, sum_bits: int, kernel: int
) -> None:
    """Write the engines of ARCH as Verilog: DIR/ENGINE_engine.v and one file per unit.

    The data path is integer, pipelined as the arch file's latencies say. LUT engines take counts of up to 8 bit planes;
    B planes need B - 1 or B more sum bits. Memories for partial sums and neuron states are inferred. Engines with more
    port bits than a top module can have get their operand buffers as black boxes.

    \b
    Examples:
      h2sim rtl emit h2learn -o verilog
      h2sim rtl emit mine.yaml -o verilog --engine backward --operand-bits 8
    """
    import h2sim
    from h2sim.io.files import write_text

    check_name(folder)
    _needs_amaranth()
    from h2sim.rtl.design import verilog_modules
    from h2sim.rtl.parameters import Widths, of_engine

    machine, widths = h2sim.load_arch(arch), Widths(operand_bits, sum_bits)
    parameters = [of_engine(machine, name, widths, (kernel, kernel)) for name in engine or ENGINE_NAMES]
    Path(folder).mkdir(parents=True, exist_ok=True)
    say(f"{machine.name}'s engines as Verilog: {', '.join(engine or ENGINE_NAMES)}.")
    with progress("emitting") as report:
        for done, each in enumerate(parameters):

            def module_begun(module: str, done: int = done) -> None:
                report(module, done, len(parameters))

            for name, text in verilog_modules(each, module_begun).items():
                write_text(Path(folder) / f"{name}.v", text)
                say(f"{Path(folder) / name}.v  {text.count(chr(10)):,} lines")


@rtl.command("check")
@click.option(
    "--arch", type=ARCH, default="h2learn", show_default=True, help="What is not drawn at random comes from it."
)
@click.option("--machines", default=6, show_default=True, type=click.IntRange(1, 10_000), help="Random small machines.")
@click.option("--cases", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Layers per machine.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of machines and layers.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="processors", type=click.IntRange(1, 256))
@click.option("--simulator", type=click.Choice(["verilator", "amaranth"]), help="Default: Verilator where it is.")
@click.option(
    "--wide", default=0, show_default=True, type=click.IntRange(0), help="Wide Backward Engines, up to the arch's own."
)
@click.option(
    "--planes", default=1, show_default=True, type=click.IntRange(1, 4), help="Most bit planes of LUT engines' counts."
)
@click.option("--engine", type=click.Choice(ENGINE_NAMES), multiple=True, help="Only this engine (may be repeated).")
@click.option("--mutations", is_flag=True, help="Then change the simulator and see that the check notices.")
@click.option(
    "--mutation-cases",
    default=1500,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Layers a mutation is shown.",
)
@click.option("--record", metavar="FILE", help="Write a Markdown record ('-': stdout).")
def check(
    arch: str,
    machines: int,
    cases: int,
    seed: int,
    jobs: int,
    simulator: str | None,
    wide: int,
    planes: int,
    engine: tuple[str, ...],
    mutations: bool,
    mutation_cases: int,
    record: str | None,
) -> None:
    """Run random layers on the RTL and compare cycles, fill and every value with the simulator's engines.

    Each machine is one engine of random size and pipeline depths; layers have random shapes, strides, edge tiles,
    sparsities from 0 to 1, adversarial patterns and modes. Exit status 1 if anything differs.

    --wide N adds N Backward Engines, 120 layers each, from the smallest wide one (more than 20 PE groups): the last has
    the arch's own array, each before it half the rows and columns. h2learn has three: 4x16x4, 8x32x4, 16x64x4.

    --planes N gives the layers of Forward and Weight Update Engines counts of 1 to N bit planes in place of spikes.

    \b
    Examples:
      h2sim rtl check
      h2sim rtl check --planes 4 --engine forward --cases 60
      h2sim rtl check --machines 45 --cases 400 --wide 3 --mutations --record rtl-record.md
      h2sim rtl check --planes 4 --engine forward --engine weight_update
      h2sim rtl check --simulator amaranth --machines 3 --cases 4
    """
    import h2sim

    check_outputs(record)
    _needs_amaranth()
    from h2sim.report.rtl import check_document
    from h2sim.rtl import campaign
    from h2sim.rtl.bench import has_verilator
    from h2sim.rtl.check import wide_machines

    machine = h2sim.load_arch(arch)

    if simulator == "verilator" and not has_verilator():
        fail("verilator: expected verilator, g++ and make on the PATH; got none (or: --simulator amaranth)")
    compiled = simulator != "amaranth" and has_verilator()
    if mutations and not compiled:
        fail("--mutations: expected Verilator; got Amaranth's simulator")
    widest = wide_machines(machine)
    if wide > len(widest):
        fail(f"--wide: expected at most {len(widest)} ({machine.name}: {_sizes(widest)}); got {wide}")
    if wide and not compiled:
        fail("--wide: expected Verilator; got Amaranth's simulator")
    if not compiled:
        click.echo("h2sim: Amaranth's simulator: about a second a case", err=True)
    if wide and engine and "backward" not in engine:
        fail("--wide: expected --engine backward with it, or no --engine; got " + ", ".join(engine))
    engines = tuple(name for name in ENGINE_NAMES if name in engine or not engine)
    simulator = "verilator" if compiled else "amaranth"
    plan = campaign.Plan(machines, cases, seed, jobs, simulator, wide, planes, engines, mutation_cases)
    with progress("checking") as report:
        found = campaign.run(machine, plan, mutations, report)
    show(check_document(campaign.by_kind(found), found.total.cycles, found.mutations), err=record == "-")
    if record:
        emit(record, campaign.markdown(found, machine))
    for line in found.problems[:20]:
        click.echo(f"h2sim: {line}", err=True)
    if found.problems:
        sys.exit(NO)


@rtl.command("area")
@click.argument("arch", type=ARCH)
@click.option("--engine", type=click.Choice(ENGINE_NAMES), multiple=True, help="Only this engine (may be repeated).")
@click.option("--liberty", type=click.Path(exists=True, dir_okay=False), help="Cells to map to; else generic gates.")
@click.option("--operand-bits", default=16, show_default=True, type=click.IntRange(2, 32))
@click.option("--sum-bits", default=16, show_default=True, type=click.IntRange(4, 40))
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="What a unit is charged."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the rows ('-': stdout).")
def area(
    arch: str,
    engine: tuple[str, ...],
    liberty: str | None,
    operand_bits: int,
    sum_bits: int,
    energy_table: str,
    json_file: str | None,
) -> None:
    """Synthesise the units of ARCH with Yosys: cells of each, and um2 where a Liberty file is named.

    Beside them stands what the energy table charges for such a unit, in floating point.

    \b
    Examples:
      h2sim rtl area h2learn
      h2sim rtl area h2learn --engine backward --liberty cells.lib
    """
    import json
    from dataclasses import asdict

    import h2sim

    check_outputs(json_file, reads=(arch, energy_table, *([liberty] if liberty else [])))
    _needs_amaranth()
    from h2sim.energy.area import unit_um2
    from h2sim.report.rtl import area_document
    from h2sim.rtl.area import UnitArea, unit_areas
    from h2sim.rtl.parameters import Widths, of_engine

    machine, widths = h2sim.load_arch(arch), Widths(operand_bits, sum_bits)
    charged = unit_um2(machine, h2sim.load_energy_table(energy_table))
    rows: list[UnitArea] = []
    names = engine or ENGINE_NAMES
    with progress("synthesising") as report:
        for done, name in enumerate(names):
            report(name, done, len(names))
            rows += unit_areas(of_engine(machine, name, widths, (3, 3)), Path(liberty) if liberty else None)
    show(area_document(rows, charged), err=json_file == "-")
    if json_file:
        table = [{**asdict(row), "table_um2": charged.get(row.module)} for row in rows]
        emit(json_file, json.dumps(table, indent=1) + "\n")
