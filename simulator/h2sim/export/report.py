"""Whether a trace can hold a model, before any loss: every obstacle at once, or the layers that it would have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from h2sim.document import Column, Document, Note, Table, to_text
from h2sim.export.forward import Forward, Inputs, Pass, as_written
from h2sim.export.graph import tensors_in
from h2sim.export.notes import reading_notes
from h2sim.export.obstacles import Obstacle
from h2sim.export.reading import Reading
from h2sim.export.state import as_found
from h2sim.trace import check_layers
from h2sim.trace.network import input_entry
from h2sim.trace.operands import Operand, operands_of

WIDTH = 120  # characters, of a report as text


@dataclass(frozen=True)
class Report:
    """What `check` found. str() of it is a verdict and a table.

    obstacles: all that stands in the way; empty if `trace` can export the model. layers: the layers of the trace, as
    its metadata have them. reads: {layer with weights: what it reads}, such as `counts 0..4, 3 planes`. notes: what the
    reader of an export should know.
    """

    network: str
    obstacles: tuple[Obstacle, ...]
    layers: tuple[dict[str, Any], ...]
    reads: dict[str, str]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether `trace` can export the model."""
        return not self.obstacles

    def __str__(self) -> str:
        return to_text(self._layers() if self.ok else self._obstacles(), WIDTH)

    def _obstacles(self) -> Document:
        number = len(self.obstacles)
        verdict = f"{self.network}: cannot be exported: {number} obstacle{'' if number == 1 else 's'}"
        columns = (Column("where"), Column("why", prose=True), Column("what would do", prose=True))
        rows = tuple((each.module, each.why, each.rewrite) for each in self.obstacles)
        return Document(verdict, (Table("obstacles", columns, rows),))

    def _layers(self) -> Document:
        kinds = Counter(layer["kind"] for layer in self.layers)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        verdict = f"{self.network}: can be exported: {len(self.layers)} layers ({listed})"
        columns = (Column("layer"), Column("kind"), Column("inputs"), Column("fires"), Column("weights read"))
        rows = tuple(
            (
                layer["name"],
                layer["kind"],
                ", ".join(layer["inputs"]),
                "yes" if _fires(layer) else "",
                self.reads.get(layer["name"], ""),
            )
            for layer in self.layers
        )
        return Document(verdict, (Table("layers", columns, rows), *map(Note, self.notes)))


def _fires(layer: dict[str, Any]) -> bool:
    return bool(layer.get("spiking", layer["kind"] not in ("gate", "concat", "upsample", "relu", "norm")))


def check(
    model: nn.Module,
    inputs: Inputs,
    *,
    forward: Forward | None = None,
    timesteps: int | None = None,
    network: str | None = None,
) -> Report:
    """Runs a model forward once and reports every obstacle to its export, or the layers that its trace would have.

    Arguments are those of `trace`, which also needs a loss: what only a loss shows (weights that it uses, gradients) is
    not seen here. The model is left as it was found. Raises ExportError for what makes an answer pointless: no neurons,
    values that are not finite, inputs that are not the model's.

    >>> import torch
    >>> import h2sim.export
    >>> from spikingjelly.activation_based import functional, layer, neuron
    >>> model = torch.nn.Sequential(layer.Linear(8, 6), neuron.LIFNode(), layer.Linear(6, 4))
    >>> functional.set_step_mode(model, "m")
    >>> report = h2sim.export.check(model, torch.ones(3, 2, 8))
    >>> report.ok, report.reads
    (True, {'0': 'spikes', '2': 'spikes'})
    """
    model = as_written(model)
    with as_found(model), Pass.of(model, inputs, forward, None) as passed:
        reading = passed.reading(timesteps, None, None)
        sent = [tensor for tensor in tensors_in(passed.output) if tensor.requires_grad]
        accounts = passed.accounts()
        if sent and not passed.obstacles:
            with passed.obstacles.noted():
                accounts.check_uses(sent, of_loss=False)
        if not passed.obstacles:
            passed.check_products()
        return _report(passed, reading, network or type(model).__name__)


def _report(passed: Pass, reading: Reading | None, name: str) -> Report:
    if passed.obstacles or reading is None:
        return Report(name, passed.obstacles.found, (), {}, ())
    layers = [piece.entry() for piece in reading.pieces]
    return Report(name, (), tuple(layers), _reads(reading, layers), tuple(reading_notes(reading)))


def _reads(reading: Reading, layers: list[dict[str, Any]]) -> dict[str, str]:
    """What every layer with weights reads, in words."""
    meta = check_layers(layers, "layers", input_entry(layers, reading.input_kind, reading.most))
    operands = operands_of(meta)
    return {layer.name: _words(operands[layer.inputs[0]]) for layer in meta.layers if layer.has_weights}


def _words(operand: Operand) -> str:
    if operand.kind == "counts":
        return f"counts 0..{operand.most}, {operand.planes} planes"
    return operand.kind
