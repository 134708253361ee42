"""What the maker of a trace should know although the trace is right: sentences for its `notes`, and the warnings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from h2sim.export.hooks import Recorded
from h2sim.export.step import Step
from h2sim.export.weights import depends_on_batch, is_plain

MOST_NAMED = 4
LIVE_NORM = (
    "its arithmetic is not modelled, and the gradient masks are those of the membrane's gradient dm, not of what the "
    "norm sends on, which is dense: the Backward Engine looks better than it would be"
)


def warn(message: str) -> None:
    """A line on standard error, as the command line's warnings."""
    print(f"h2sim: warning: export.trace: {message}", file=sys.stderr)


def live_norms(step: Step) -> list[str]:
    """Norms that compute mean and variance of what they read."""
    norms = [(path, found) for path, found in step.modules.items() if found.role.name == "norm"]
    return [path for path, found in norms if depends_on_batch(found.module) or _spreads(found)]


def _spreads(found: Recorded) -> bool:
    """Whether a norm with a forward of its own passes the gradient of one value to others: it only looks fixed."""
    if is_plain(found.module):
        return False
    with torch.enable_grad():
        x = found.reads[0].value.detach().requires_grad_(True)
        (dx,) = torch.autograd.grad(found.module(x).flatten()[0], x)
    return int((dx != 0).sum()) > 1


def norm_warning(step: Step, paths: Sequence[str]) -> str | None:
    """The sentence on norms of `live_norms`; None if there is none."""
    if not paths:
        return None
    batch = all(isinstance(step.modules[path].module, nn.modules.batchnorm._BatchNorm) for path in paths)
    what = (
        "batch norm by the statistics of the batch, as in training"
        if batch
        else "a norm by the statistics of what it reads"
    )
    return f"{_listed(paths)}: {what}: {LIVE_NORM}"


def counts_warning(given: torch.Tensor) -> str | None:
    """The sentence on an input (T or 1, N, ...) that holds event counts; None for spikes and for anything else."""
    if given.shape[0] == 1 or not bool(((given >= 0) & (given == given.round())).all()) or float(given.max()) <= 1:
        return None
    share = 100 * float((given == 0).float().mean())
    return (
        f"the network input holds whole numbers from 0 to {float(given.max()):g}, as event counts do, {share:.0f} % of "
        "them 0: they are kept as analog values, so that the layer that reads them multiplies each one, zeros too; an "
        "input of spikes has only 0 and 1"
    )


def step_notes(step: Step) -> Iterator[str]:
    """Layers that training would not change, modules that the loss does not depend on, arithmetic that is no layer."""
    yield from step.notes
    for path, found in step.modules.items():
        weight = getattr(found.module, "weight", None)
        if found.role.name in ("conv", "linear") and isinstance(weight, torch.Tensor) and not weight.requires_grad:
            yield f"{path}: frozen (requires_grad is False): its weight update is recorded and counted all the same"
        if not _has_gradient(found):
            yield f"{path}: the loss does not depend on what it sends: its gradient is 0"
    if step.penalised:
        yield "the loss adds a penalty of weights: it is in loss_value, but in no weight_grad"


def _has_gradient(found: Recorded) -> bool:
    return any(edge.grad is not None for edge in (*found.sends, *found.reads))


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
