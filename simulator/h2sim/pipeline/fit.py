"""Sizes of all global buffers of a machine by one rule: twice what the dataflow needs (`buffers: fit` of a sweep).

"Twice" is the source's ping-pong [G]; what a half holds follows from its dataflow: the operands of a grid iteration,
the weights of a column group, the partial sums, results and state of a block, and dw of a column group. The builders
of jobs know these bytes and are asked for them alone, without a trace's masks. Assumed [A]:

* Membranes, which are compressed to the window, are all inside it: a machine must run other traces too.
* Of a fully connected layer a block is enough, as its weights pass once anyway: the operands of a row group, and of its
  weight gradient the operands and dw of a block of input features. All operands of it count where one bank holds them.
* What Soma or Grad do alone, element by element, needs of a tile a block as wide as the array: layers without weights,
  and the gradient of an output layer, which comes from the loss.
* What of a buffer has no work, as in inference, keeps one word a half.
* Banks are the fewest that are no larger than those of the given machine, so that they stay macros of the same class.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from h2sim.activity import ENGINES, Engine
from h2sim.arch.schema import Arch, Buffer
from h2sim.arrays import Ints
from h2sim.errors import ArchError, at
from h2sim.memory.traffic import bank_bytes, most
from h2sim.pipeline.analog_jobs import multiplied
from h2sim.pipeline.backward_jobs import backward_needs
from h2sim.pipeline.forward_jobs import forward_needs
from h2sim.pipeline.geometry import tile_areas
from h2sim.pipeline.update_jobs import update_needs
from h2sim.trace.graph import Graph

LEAST_BYTES = 64  # of a buffer
MOST_KEPT = 4096  # engines whose needs are kept


class AllSet:
    """Counts of the masks of a graph in which every bit is set (geometry.SetBits)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def in_tiles(self, layer: str, kind: str, tile: tuple[int, int]) -> Ints:
        """T*N bits a neuron, whatever the kind of mask: int64 (C, tiles)."""
        channels, height, width = self._graph.chw(layer)
        area = tile_areas(height, width, tile)
        counts: Ints = np.broadcast_to(self._graph.samples * area, (channels, len(area)))
        return counts

    def pairs(self, name: str) -> int:
        """None: they are work, which no buffer holds."""
        return 0


class Fit:
    """Sizes buffers for the traces of some graphs, machine after machine; engines that are alike are looked at once."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = [(graph, AllSet(graph)) for graph in graphs]
        self._needs: dict[Hashable, dict[str, int]] = {}

    def changes(self, arch: Arch, scale: float = 1.0) -> dict[str, int]:
        """The bytes and banks of every buffer, by dotted path, as `Arch.with_` takes them; see `fitted`."""
        if not 0 < scale < math.inf:
            raise ArchError(at("fit", "scale", "a number above 0", scale))
        exact, found = Fraction(scale), {}
        for engine in ENGINES:
            buffers = getattr(arch.engines, engine).buffers
            needs = self._of_engine(arch, engine)
            for name in type(buffers).model_fields:
                buffer = getattr(buffers, name)
                n_bytes, banks = sized(buffer, math.ceil(needs.get(name, 0) * exact))
                found[f"engines.{engine}.buffers.{name}.bytes"] = n_bytes
                found[f"engines.{engine}.buffers.{name}.banks"] = banks
        return found

    def _of_engine(self, arch: Arch, engine: Engine) -> dict[str, int]:
        """Bytes that a half of each buffer of an engine must hold, by the buffer's name."""
        key = _hangs_on(arch, engine)
        if key not in self._needs:
            while len(self._needs) >= MOST_KEPT:
                self._needs.pop(next(iter(self._needs)), None)
            self._needs[key] = most(self._every(arch, engine))
        return self._needs[key]

    def _every(self, arch: Arch, engine: Engine) -> Iterator[tuple[str, int]]:
        """What each job on an engine asks of its buffers."""
        for graph, masks in self._graphs:
            for layer in graph.meta.layers:
                on_macs = layer.has_weights and multiplied(arch, graph, layer)
                for phase in graph.meta.phases:
                    if ("backward" if on_macs else phase) != engine:
                        continue
                    if phase == "weight_update":
                        yield from update_needs(arch, graph, layer).items()
                    else:
                        needs = forward_needs if phase == "forward" else backward_needs
                        yield from needs(arch, graph, masks, layer).items()


def fitted(arch: Arch, graphs: Sequence[Graph], scale: float = 1.0) -> dict[str, int]:
    """Changes, as `Arch.with_` takes them, that size every buffer of a machine for the traces of these graphs.

    With them no grid iteration of any array falls into pieces, no partial sums spill, and a convolution loads the
    weights of a column group once. In blocks pass a weight gradient of a fully connected layer, of input features, and
    what Soma or Grad do without an array, of channels.
    scale: part of that need which a half holds. Bytes are whole words, as many in every bank. A machine whose buffers
    would be beyond the limits of an arch file is refused by `with_`. Raises ArchError for a scale that is not above 0.
    Many machines are sized faster by one `Fit`.
    """
    return Fit(graphs).changes(arch, scale)


def sized(buffer: Buffer, half_bytes: int) -> tuple[int, int]:
    """(bytes, banks) of a buffer like this one whose halves hold so many bytes each: at least a word, 64 B in all."""
    word = buffer.word_bits // 8
    words = max(2 * max(1, -(-half_bytes // word)), -(-LEAST_BYTES // word))
    banks = -(-words * word // bank_bytes(buffer))
    return -(-words // banks) * banks * word, banks


def _hangs_on(arch: Arch, engine: Engine) -> Hashable:
    """All of a machine that the needs of an engine's buffers depend on."""
    e = arch.engines
    limits, norm = e.forward.most_planes, arch.normalisation.model
    shared = engine, *arch.tile.size, limits.conv, limits.fc, norm
    if engine == "forward":
        f = e.forward
        return *shared, f.rows, f.columns, f.sub_luts, f.sub_lut_size, bank_bytes(f.buffers.spikes)
    if engine == "weight_update":
        w = e.weight_update
        return *shared, w.columns, w.parallelism, bank_bytes(w.buffers.spikes)
    b = e.backward
    return *shared, b.rows, b.columns, b.encode_once, b.encode_gradient_once, bank_bytes(b.buffers.gradients)
