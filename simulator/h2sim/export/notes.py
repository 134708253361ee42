"""What the maker of a trace should know although the trace is right: sentences for its `notes`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import torch

from h2sim.export.hooks import Recorded
from h2sim.export.live import Live
from h2sim.export.reading import Reading
from h2sim.export.structure import Piece

MOST_NAMED = 4


def say(message: str) -> None:
    """A line on standard error, as the command line's notes."""
    print(f"h2sim: note: export.trace: {message}", file=sys.stderr)


def reading_notes(reading: Reading) -> Iterator[str]:
    """What a step was found to be, beside its layers."""
    step = reading.step
    yield from step.notes
    if step.extent.time_axis:
        order = {1: "(N, T, ...)", -1: "(N, ..., T)"}[step.extent.time_axis]
        yield f"the model lays out {order}: found by the neurons' own spikes"
    if reading.input_kind == "counts":
        yield counts_note(step.inputs, reading.most)
    yield from _of_norms(reading.live, reading.pieces)
    for path, found in step.modules.items():
        weight = getattr(found.module, "weight", None)
        if found.role.name in ("conv", "linear") and isinstance(weight, torch.Tensor) and not weight.requires_grad:
            yield f"{path}: frozen (requires_grad is False): its weight update is recorded and counted all the same"


def counts_note(given: torch.Tensor, most: int | None) -> str:
    """The sentence on an input (T, N, ...) that holds event counts."""
    share = 100 * float((given == 0).float().mean())
    return (
        f"the network input holds whole numbers from 0 to {float(given.max()):g}, as event counts do, {share:.0f} % of "
        f"them 0: kept as counts from 0 to {most}, one pass a bit plane; an input of spikes has only 0 and 1"
    )


def _of_norms(live: Mapping[str, Live], pieces: Sequence[Piece]) -> Iterator[str]:
    """Which norms are of the step, and where no trace can hold their values."""
    placed = {name: piece.name for piece in pieces for name in (*piece.norms, piece.map or "")}
    if live:
        yield f"{listed(list(live))}: by the statistics of the step: recorded as norms of layers"
    for path, found in live.items():
        if found.weight is None:
            yield (
                f"{placed.get(path, path)}: {path} has no one scale and offset for each channel, or is over other axes "
                "than a trace knows: the values behind it are not checked"
            )


def gradient_notes(modules: Mapping[str, Recorded], penalised: bool) -> Iterator[str]:
    """Modules that the loss does not depend on, and penalties."""
    for path, found in modules.items():
        if not any(edge.grad is not None for edge in (*found.sends, *found.reads)):
            yield f"{path}: the loss does not depend on what it sends: its gradient is 0"
    if penalised:
        yield "the loss adds a penalty of weights: it is in loss_value, but in no weight_grad"


def listed(paths: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
