"""The sparsities that the source reports for its networks (table 3.2), as what `synthesise` takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError

from h2sim.errors import TraceError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_mapping
from h2sim.trace.model import VERSION
from h2sim.trace.network import Network, check_layers
from h2sim.trace.synth import Sparsity

TABLE = "table-3.2"
Share = Annotated[float, Field(ge=0, le=1)]


class _Row(Strict):
    window: list[Share]
    grad: list[Share]


class _Table(Strict):
    spikes: Share
    rows: Annotated[dict[str, _Row], Field(alias=TABLE)]


def reported_sparsity(network: Network) -> tuple[Sparsity, dict[str, Sparsity]]:
    """The sparsities that table 3.2 gives for a network: one for the layers that it does not name, and those by layer.

    workloads/sparsity.yaml says how the table's columns are dealt to layers. Raises TraceError for a network that the
    table does not have, or one with another number of convolutions.
    """
    table = _table()
    row = table.rows.get(network.name)
    if row is None:
        raise TraceError(at(TABLE, "network", f"one of {', '.join(table.rows)}", repr(network.name)))
    convolutions = [layer["name"] for layer in network.layers if layer["kind"] in ("conv", "encode")]
    if len(convolutions) != len(row.window) + 1:
        raise TraceError(at(TABLE, "convolutions", f"{len(row.window) + 1} for {network.name}", len(convolutions)))
    rest = Sparsity(table.spikes, _mean(row.window), _mean(row.grad))
    window = dict(zip(convolutions[:-1], row.window, strict=True))
    grad = dict(zip(convolutions[1:], row.grad, strict=True))
    layers, before = {}, rest
    meta = check_layers(list(network.layers), network.name)
    for layer in meta.layers:
        name = layer.name
        if layer.kind in ("conv", "encode"):
            before = Sparsity(table.spikes, window.get(name, rest.window), grad.get(name, rest.grad))
        if layer.kind != "fc" and (meta.version == VERSION or not layer.is_map):
            layers[name] = before
    return rest, layers


def reported_spikes() -> float:
    """The share of zeros among spikes that is assumed where no trace gives it [A] (workloads/sparsity.yaml)."""
    return _table().spikes


def _table() -> _Table:
    data, path = read_mapping("sparsity", "sparsity", TraceError)
    try:
        return _Table.model_validate(data)
    except ValidationError as error:
        raise TraceError(*describe(error, _Table, str(path))) from None


def _mean(shares: list[float]) -> float:
    return sum(shares) / len(shares)
