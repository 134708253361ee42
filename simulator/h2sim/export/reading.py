"""Makes a step of what was recorded of one forward pass: how time is laid out, what each module reads, the layers."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from h2sim.errors import ExportError, NetworkError, at
from h2sim.export import dynamics
from h2sim.export.graph import Leaves, behind, tensors_in
from h2sim.export.hooks import Recorded, Recorder
from h2sim.export.layout import ORDERS, Extent, TimeAxis, check_values, extent_of
from h2sim.export.live import Live, is_live, live_of
from h2sim.export.obstacles import Obstacles, refusal
from h2sim.export.step import Replay, Step, Tensors, check_reads, check_spikes, network_input
from h2sim.export.structure import INPUT, Node, Piece, assemble
from h2sim.export.walk import HOLE, Walker
from h2sim.export.weights import fold_of, gives
from h2sim.trace import check_layers
from h2sim.trace.network import input_entry

InputKind = Literal["spikes", "analog", "counts"]
KNOWN = "known are SpikingJelly's, snnTorch's, Norse's and sinabs's, and modules with a method h2sim_neuron"
MOST_COUNT = 65535


@dataclass(frozen=True)
class Reading:
    """A step, its maps computed again, its layers, its norms of the step by path, and what its network input is.

    most: the largest count of an input of counts: 1 less than a power of 2, so that sub-batches agree.
    """

    step: Step
    replay: Replay
    pieces: tuple[Piece, ...]
    live: Mapping[str, Live]
    input_kind: InputKind
    most: int | None


def read_step(
    recorder: Recorder,
    leaves: Leaves,
    obstacles: Obstacles,
    timesteps: int | None = None,
    batch: int | None = None,
    targets: Any = None,
    noted: Container[str] = (),
    outputs: Any = None,
) -> Reading | None:
    """What was recorded of a forward pass; None if there are obstacles, which are noted.

    batch: how many samples to keep; targets: whose first sizes hold the samples; noted: operations of which an obstacle
    has been noted; outputs: what the model returned. Raises ExportError for what makes all else pointless: no neurons,
    values that are not finite, a wrong argument.
    """
    modules = recorder.modules
    neurons = [found for found in modules.values() if found.role.neuron and not found.role.reason]
    if not neurons:
        obstacles.check()
        raise ExportError(at("model", "neurons", f"at least one that is called ({KNOWN})", "none"))
    check_values(modules.values())
    extent, membranes = _laid_out(neurons, modules, timesteps, batch, targets, obstacles)
    tensors = Tensors(modules, extent, batch or extent.samples)
    left_out = _drop_unread_calls(modules, extent.timesteps, outputs)
    layers = {path: found for path, found in modules.items() if _is_node(found)}
    with obstacles.noted():
        check_spikes(tensors, obstacles)
        walker = Walker(
            leaves,
            recorder.marks,
            recorder.tags,
            modules,
            extent,
            lambda path: tensors.sample(path, "sent"),
            obstacles,
            noted,
        )
        sources = {path: walker.source_of(found) for path, found in layers.items()}
        if obstacles or HOLE in sources.values():
            return None
        inputs = network_input(tensors, sources, walker.inputs)
        step = Step(tensors, sources, walker.maps, inputs, membranes, notes=left_out)
        replay = Replay(step)
        check_reads(step, replay, obstacles)
        _check_first(step, obstacles)
        if obstacles:
            return None
        return _assembled(step, replay, recorder, obstacles)
    return None


def _drop_unread_calls(modules: Mapping[str, Recorded], timesteps: int, outputs: Any) -> tuple[str, ...]:
    """Leaves calls out that the model's output does not depend on, as of a layer run once more to see a shape.

    Returns a note for each module of which calls were left out.
    """
    more = [found for found in modules.values() if len(found.sends) > timesteps and not found.role.neuron]
    roots = [tensor.grad_fn for tensor in tensors_in(outputs) if tensor.grad_fn is not None]
    if not more or not roots:
        return ()
    reached = behind(roots, stop=lambda node: False)
    notes = []
    for found in more:
        kept = [n for n, edge in enumerate(found.sends) if edge.node in reached]
        if kept and len(kept) < len(found.sends):
            notes.append(
                f"{found.path}: {len(found.sends) - len(kept)} of its calls left out: nothing reads what it sent"
            )
            found.reads, found.sends = ([edges[n] for n in kept] for edges in (found.reads, found.sends))
    return tuple(notes)


def _check_first(step: Step, obstacles: Obstacles) -> None:
    """Notes weights that read the network input and compute more than their class.

    Their input has no gradient, so that autograd's graph does not show what lies between it and what they sent.
    """
    for path, source in step.sources.items():
        found = step.modules[path]
        if source != INPUT or found.reads[0].node is not None or not found.module.weight.is_leaf:
            continue
        if not gives(found.module, step.tensors.read(path), step.tensors.sent(path)):
            kind = type(found.module).__name__
            got = "other values (a hook, an adapter or another forward)"
            obstacles.add(refusal(path, kind, f"what a {kind} computes, and nothing else", got))


def _is_node(found: Recorded) -> bool:
    """Whether a module is a layer or part of one: an integrator that holds no weights is not."""
    if found.role.reason:
        return False
    return found.role.readout is None or found.role.readout.weight is not None


def _assembled(step: Step, replay: Replay, recorder: Recorder, obstacles: Obstacles) -> Reading | None:
    kind, most = _kind_of(step.inputs)
    live = {
        path: live_of(step.tensors, path)
        for path in step.sources
        if step.modules[path].role.name == "norm" and is_live(step.modules[path])
    }
    nodes = {name: _node(step, name, live) for name in step.names()}
    pieces = assemble(nodes, kind == "analog", obstacles)
    if not obstacles:
        _check_pieces(pieces, kind, most, obstacles)
    if obstacles:
        return None
    used = {name for piece in pieces for name in _parts(piece)}
    unread = [path for path in recorder.unread if not any(_is_of(name, path) for name in used)]
    notes = [f"{path}: behind the last layer: read-out, not a layer" for path in unread]
    return Reading(replace(step, notes=(*step.notes, *notes)), replay, pieces, live, kind, most)


def _check_pieces(pieces: Sequence[Piece], kind: InputKind, most: int | None, obstacles: Obstacles) -> None:
    """Notes layers that the format does not know: extents, windows, operands that no machine here takes."""
    layers = [piece.entry() for piece in pieces]
    try:
        check_layers(layers, "export", input_entry(layers, kind, most))
    except NetworkError as error:
        for line in error.args:
            obstacles.add(ExportError(str(line).removeprefix("export: ").removeprefix("layers.")))


def _is_of(name: str, path: str) -> bool:
    return name == path or (name.startswith(f"{path}-") and name[len(path) + 1 :].isdigit())


def _parts(piece: Piece) -> Sequence[str]:
    return [*piece.folded, *piece.behind, *piece.then, *piece.norms, piece.map or "", piece.last, *piece.reads]


def _node(step: Step, name: str, live: Mapping[str, Live]) -> Node:
    node = step.node(name)
    if node.role != "norm":
        return node
    if name in live:
        return replace(node, norm=live[name].entry)
    fold = fold_of([step.modules[name].module])
    return replace(node, rising=fold is not None and bool((fold.scale > 0).all()))


def _kind_of(inputs: torch.Tensor) -> tuple[InputKind, int | None]:
    """What a network input (T or 1, N, ...) holds. Whole numbers that stand still are an image's values."""
    if not bool(((inputs != 0) & (inputs != 1)).any()):
        return "spikes", None
    whole = inputs.shape[0] > 1 and bool(((inputs >= 0) & (inputs == inputs.round())).all())
    largest = float(inputs.max())
    if not whole or largest > MOST_COUNT:
        return "analog", None
    return "counts", (1 << math.ceil(math.log2(largest + 1))) - 1


def _laid_out(
    neurons: list[Recorded],
    modules: Mapping[str, Recorded],
    timesteps: int | None,
    batch: int | None,
    targets: Any,
    obstacles: Obstacles,
) -> tuple[Extent, dict[str, torch.Tensor]]:
    """The extent, by the axis of time under which the spikes of all neurons follow their equation, and membranes."""
    found: list[tuple[Extent, dict[str, torch.Tensor], Obstacles]] = []
    first: ExportError | None = None
    for time_axis in _time_axes(neurons):
        try:
            extent = extent_of(neurons, timesteps, time_axis)
        except ExportError as error:
            first = first or error
            continue
        if batch is not None and not 1 <= batch <= extent.samples:
            wanted = f"1 to {extent.samples}, the samples of the inputs"
            first = first or ExportError(at("export", "batch", wanted, batch))
            continue
        own = Obstacles()
        membranes = _membranes(Tensors(modules, extent, batch or extent.samples), neurons, own)
        found.append((extent, membranes, own))
        if not own and _fits(targets, extent):
            break
    if not found:
        assert first is not None
        raise first
    follow = [each for each in found if not each[2]]
    fit = [each for each in follow if _fits(targets, each[0])]
    extent, membranes, own = (fit or follow or found)[0]
    for obstacle in own.found:
        obstacles.add(ExportError(str(obstacle)))
    if follow and not fit:
        got = f"shape {tuple(targets.shape)}"
        wanted = f"{extent.samples} as the inputs, which the neurons read as {ORDERS[extent.time_axis]}"
        raise ExportError(at("targets", "samples", wanted, got))
    return extent, membranes


def _time_axes(neurons: list[Recorded]) -> Sequence[TimeAxis]:
    specs = [found.role.neuron for found in neurons]
    said: set[TimeAxis] = {spec.time_axis for spec in specs if spec and spec.multi_step and spec.time_axis is not None}
    if len(said) > 1:
        got = " and ".join(ORDERS[axis] for axis in sorted(said))
        raise ExportError(at("model", "time", "one order of axes in all neurons", got))
    if said:
        return tuple(said)
    return (0, 1, -1) if any(spec and spec.multi_step for spec in specs) else (0,)


def _membranes(tensors: Tensors, neurons: list[Recorded], obstacles: Obstacles) -> dict[str, torch.Tensor]:
    found = {}
    for neuron in neurons:
        spec, path = neuron.role.neuron, neuron.path
        assert spec is not None
        with obstacles.noted():
            eps = torch.finfo(neuron.reads[0].value.dtype).eps
            found[path] = dynamics.membrane_of(spec, tensors.read(path), tensors.sent(path), eps, path)
    return found


def _fits(targets: Any, extent: Extent) -> bool:
    return not torch.is_tensor(targets) or not targets.dim() or extent.samples in tuple(targets.shape[:2])
