"""`h2sim table`: energy tables."""

from __future__ import annotations

import click

from h2sim.cli.names import SRAM_PART, TABLE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import Commands, emit, say
from h2sim.cli.support import show as show_document
from h2sim.io import library

KIND: library.Kind = "energy table"


@click.group(cls=Commands)
def table() -> None:
    """List, show, check and scale energy tables.

    \b
    Examples:
      h2sim table list
      h2sim table show 28nm-calibrated
      h2sim table check prices.yaml
      h2sim table scale 45nm --to 28 --sram sram-28nm-itrs-hp-360k -o scaled.yaml
    """


@table.command("list")
@click.option("--parts", is_flag=True, help="The SRAM parts that a table may name, instead.")
def list_(parts: bool) -> None:
    """Shipped energy tables, a line each: kind, node, SRAM flavour, prices.

    \b
    Examples:
      h2sim table list
      h2sim table list --parts
    """
    from h2sim.document import Document, Line
    from h2sim.energy import load_energy_table
    from h2sim.energy.load import part_names
    from h2sim.report.table import tables_document

    if parts:
        names = part_names()
        show_document(Document(f"{len(names)} SRAM parts that a table may name:", tuple(map(Line, names))))
    else:
        show_document(tables_document([load_energy_table(name) for name in library.names(KIND)]))


@table.command()
@click.argument("name", type=TABLE)
@click.option("--resolved", is_flag=True, help="What it comes to, without `extends`, `part` and `scale`.")
def show(name: str, resolved: bool) -> None:
    """Print an energy table as it stands, sources and comments included, or as it is priced.

    \b
    Examples:
      h2sim table show 28nm > prices.yaml
      h2sim table show 28nm-calibrated --resolved
    """
    from h2sim.energy import load_energy_table
    from h2sim.report.table import table_yaml

    loaded = load_energy_table(name)
    text = table_yaml(loaded) if resolved else library.find(KIND, name).read_text(encoding="utf-8")
    click.echo(text, nl=False)


@table.command()
@click.argument("files", type=TABLE, nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check energy tables; exit status 2 and every fault in a line if one is wrong.

    \b
    Example:
      h2sim table check prices.yaml 28nm
    """
    from h2sim.energy import load_energy_table
    from h2sim.errors import EnergyTableError

    faults: list[str] = []
    for file in files:
        try:
            loaded = load_energy_table(file)
            sram = f"SRAM {loaded.sram.flavour} at {loaded.sram.temperature_k:g} K"
            say(f"{file}: ok: {loaded.name}, {loaded.kind}, {loaded.node_nm:g} nm, {sram}")
        except EnergyTableError as error:
            faults.extend(error.lines)
    if faults:
        raise EnergyTableError(*faults)


@table.command()
@click.argument("name", type=TABLE)
@click.option("--to", "to_nm", type=float, metavar="NM", required=True, help="Node to scale the logic to.")
@click.option(
    "--sram", type=SRAM_PART, metavar="PART|FILE", required=True, help="Macros of that node: SRAM is not scaled."
)
@click.option("--name", "new_name", metavar="NAME", help="The new table's name [default: NAME-to-NMnm].")
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write it [default: standard output].")
def scale(name: str, to_nm: float, sram: str, new_name: str | None, output: str) -> None:
    """Write a table of another node: logic by published factors, native SRAM macros, off-chip memory as it is.

    Each entry's method says by what it was multiplied; its range widens by the factor's. The factors and their sources
    stand in energy_tables/parts/scaling.yaml. The voltage stays.

    \b
    Examples:
      h2sim table scale 45nm --to 28 --sram sram-28nm-itrs-lstp-360k
      h2sim table scale 45nm --to 28 --sram sram-28nm-itrs-hp-300k --name cool -o cool.yaml
    """
    from h2sim.energy import load_energy_table
    from h2sim.energy.load import part_names
    from h2sim.energy.scaling import scale_table
    from h2sim.report.table import table_yaml

    check_outputs(output, reads=(name, sram))
    scaled = scale_table(load_energy_table(name), to_nm, sram, name=new_name or "")
    emit(output, table_yaml(scaled, sram if sram in part_names() else None))
