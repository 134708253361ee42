"""Where the modules of a model stand in its trace: the layer that the work of each belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from h2sim.errors import ExportError
from h2sim.export.forward import Forward, Inputs, Pass, as_written
from h2sim.export.hooks import Recorded, Recorder
from h2sim.export.layout import Extent
from h2sim.export.obstacles import Obstacles
from h2sim.export.roles import Role
from h2sim.export.structure import Piece

_AGAIN = re.compile(r"-\d+$")  # of the second and later places of one module


@dataclass(frozen=True)
class Place:
    """A module that has a role. layers: of the trace, one for each place at which it is called; none: it is in none."""

    path: str
    module: nn.Module
    role: Role
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """All modules of a model that have a role. layers: of its trace, in their order.

    timesteps, samples: as the neurons' calls say. refused: why the model has no trace, a line each; the layers are then
    the modules' paths, and nothing is known of timesteps and samples.
    """

    places: tuple[Place, ...]
    layers: tuple[str, ...]
    timesteps: int | None = None
    samples: int | None = None
    refused: tuple[str, ...] = ()


def places_of(model: nn.Module, inputs: Inputs, forward: Forward | None = None) -> Places:
    """The places of a model's modules, by one forward pass, as `check` runs it; the caller restores the model.

    Whatever the model itself raises is raised.
    """
    model = as_written(model)
    try:
        with Pass.of(model, inputs, forward, None) as passed:
            reading = passed.reading(None, None, None)
            passed.obstacles.check()
            assert reading is not None  # there is no obstacle
            return _read(passed.recorder.found, reading.pieces, reading.step.extent)
    except ExportError as error:
        return _unread(Recorder(model, Obstacles()).found, error.lines)


def _unread(found: Sequence[Recorded], refused: tuple[str, ...]) -> Places:
    layers = tuple(each.path for each in found)
    places = tuple(Place(each.path, each.module, each.role, (each.path,)) for each in found)
    return Places(places, layers, refused=refused)


def _read(found: Sequence[Recorded], pieces: Sequence[Piece], extent: Extent) -> Places:
    paths = {each.path for each in found}
    layers: dict[str, dict[str, None]] = {path: {} for path in paths}
    for piece in pieces:
        for node in _nodes(piece):
            path = node if node in paths else _AGAIN.sub("", node)
            if path in paths:
                layers[path].setdefault(piece.name)
    places = tuple(Place(each.path, each.module, each.role, tuple(layers[each.path])) for each in found)
    return Places(places, tuple(piece.name for piece in pieces), extent.timesteps, extent.samples)


def _nodes(piece: Piece) -> list[str]:
    """The modules and maps that a layer is made of."""
    own = [piece.weights, piece.map, *piece.folded, *piece.behind, *piece.norms, *piece.then, piece.neuron]
    return [node for node in own if node is not None]
