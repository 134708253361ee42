"""What a by-value test of an exported model asserts: which rows were checked, and that nothing was silent."""

from __future__ import annotations

import numpy as np

from h2sim.export import Export
from h2sim.trace import Trace
from h2sim.verify import VerifyReport
from tests.helpers.models import quantities

FORWARD = {"spikes", "window", "membrane"}
MASK, NORM_MASK = "grad is dm != 0", "grad is dL/dx != 0"
HIDDEN = FORWARD | {MASK, "grad_membrane", "grad", "weight_grad"}  # weights and neurons, read by others
LAST = FORWARD | {MASK, "weight_grad"}  # weights and neurons that the loss alone reads
SMOOTH = LAST  # neurons whose surrogate is no rectangle: their dm follows no rule that verify knows
CURRENT = {"current", MASK, "grad_membrane", "weight_grad"}  # weights, read by other layers
READ_OUT = {"current", MASK, "weight_grad"}  # weights that the loss alone reads
OF_NORM = {"current", NORM_MASK, "grad_current"}


def normed(rows: set[str]) -> set[str]:
    """The rows of a layer with a norm of the step: its mask is that of dL/dx, which has a row of its own."""
    return (rows - {MASK, "grad"}) | OF_NORM


def pooled(rows: set[str]) -> set[str]:
    """The rows of a layer that has neurons or passes on, and no weights."""
    return rows - {"weight_grad"}


def assert_lively(made: Export, trace: Trace, silent: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Every layer's neurons spike, not all at all times, and every layer's gradient is not all 0."""
    for layer in trace.meta.layers:
        members, name = made.members, layer.name
        if name in silent:
            continue
        if layer.spiking:
            n = int(np.prod(layer.out_chw))
            spikes = np.unpackbits(members[f"{name}.spikes"], axis=2)[..., :n]
            assert 0 < spikes.mean() < 1, (name, spikes.mean())
        if f"{name}.grad" in members:
            assert members[f"{name}.grad"].any(), name
        for values in ("grad_membrane", "grad_current", "weight_grad"):
            if f"{name}.{values}" in members:
                assert (members[f"{name}.{values}"] != 0).any(), (name, values)


def layers_of(made: Export) -> dict[str, tuple[str, tuple[str, ...]]]:
    """{layer: (kind, inputs)}; a silent layer's kind has a ~ behind it, a pool's mode stands in front of it."""
    found = {}
    for layer in made.meta["layers"]:
        kind = layer["kind"]
        if layer.get("op", layer.get("mode")):
            kind = f"{layer.get('op', layer.get('mode'))} {kind}"
        found[layer["name"]] = (kind + ("~" if not layer.get("spiking", True) else ""), tuple(layer["inputs"]))
    return found


def rows_of(report: VerifyReport) -> dict[str, set[str]]:
    """{layer: the quantities that verify compared}, of layers that have any."""
    return quantities(report)
