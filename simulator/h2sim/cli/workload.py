"""`h2sim workload`: networks, data sets and traces to work with."""

from __future__ import annotations

import json
from pathlib import Path

import click

from h2sim.cli.names import NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import Commands, IntsType, emit, find_network
from h2sim.cli.support import show as show_document
from h2sim.io import library


@click.group(cls=Commands)
def workload() -> None:
    """Networks, data sets and traces: what there is, and what a network is made of.

    \b
    Examples:
      h2sim workload list
      h2sim workload show cifar10
      h2sim workload show 32C3-AP2-10FC --input-shape 1,28,28
    """


@workload.command("list")
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Look for data sets' files here.")
def list_(data: Path | None) -> None:
    """Shipped networks and traces, and the data sets that `h2sim train` reads.

    \b
    Examples:
      h2sim workload list
      H2SIM_DATA=~/data h2sim workload list
    """
    from h2sim import datasets
    from h2sim.report.workloads import workloads_document
    from h2sim.trace import load_network, load_trace

    networks = [load_network(name) for name in library.names("network")]
    data_sets = [(datasets.describe(name), datasets.find(name, data)) for name in datasets.names()]
    show_document(workloads_document(networks, data_sets, [load_trace(name) for name in library.names("trace")]))


@workload.command()
@click.argument("network", type=NETWORK)
@click.option("--input-shape", type=IntsType("C,H,W"), help="Of the network input; needed with a notation.")
@click.option("--json", "json_file", metavar="FILE", help="Write the network with its sizes ('-': stdout).")
def show(network: str, input_shape: tuple[int, int, int] | None, json_file: str | None) -> None:
    """The layers of NETWORK: a shipped one, a network file, a NIR graph (.nir) or the notation itself.

    \b
    Examples:
      h2sim workload show resnet20
      h2sim workload show 64C3S2-128C3S2-256FC-10FC --input-shape 1,28,28
      h2sim workload show model.nir --json model.json
    """
    from h2sim.report.workloads import network_dict, network_document

    check_outputs(json_file, reads=(network,))
    described = find_network(network, input_shape)
    show_document(network_document(described), err=json_file == "-")
    if json_file:
        emit(json_file, json.dumps(network_dict(described), indent=1) + "\n")
