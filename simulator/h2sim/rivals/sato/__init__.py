"""SATO (DAC 2022): potentials of all timesteps add up side by side, and a search tree makes the spikes of a neuron."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from h2sim.arrays import Ints
from h2sim.energy.table import EnergyTable
from h2sim.kernels.dispatch import loads
from h2sim.memory.traffic import Traffic
from h2sim.rivals.clocked import Counted, Work
from h2sim.rivals.im2col import input_bits, input_rows, map_size, ones
from h2sim.rivals.maps import shape_of
from h2sim.rivals.prices import Count, PriceBook, price_book, price_of
from h2sim.rivals.sato.schema import Sato
from h2sim.rivals.spiking import Spiking
from h2sim.rivals.tiles import inputs_of, result_bytes, spread, tile_traffic
from h2sim.shapes import ConvShape, ceil_div
from h2sim.trace import Layer, Trace

READINGS = ("rows", "spread")  # of a fully connected layer


class SatoKind(Spiking[Sato]):
    """The machine as h2sim runs it."""

    what = "SATO (DAC 2022), forward pass: rows dealt to 128 PEs, search trees; prices of the energy table"
    schema = Sato

    def counted(self, machine: Sato, trace: Trace, layer: Layer) -> Counted:
        """One layer with weights: its rows are dealt to the PEs, for one output channel after another."""
        shape, bits, a = shape_of(trace.meta, layer), input_bits(trace, layer), machine.array
        work = [_work(input_rows(bits, shape, n), shape, a.dispatch == "sorted") for n in range(shape.batch)]
        cycles, adds = _by_rows(work, shape, a.pes), sum(int(w.sum()) for w in work) * shape.out_channels
        counts: tuple[Count, ...] = (Count("pes", "add", adds), Count("pes", "weight_read", adds))
        if layer.kind == "fc":
            readings = dict(zip(READINGS, (cycles, _spread_out(work, shape, a.pes)), strict=True))
            counts += tuple(Count("pes", f"cycles_fc_{name}", int(each.sum())) for name, each in readings.items())
            cycles = readings[a.fc]
        fill = layer.spiking * a.lif_cycles * depth(shape.timesteps)
        return Counted(cycles[:, :, None], fill, _traffic(machine, shape, layer.spiking, adds), counts)

    def neuron_event(self, machine: Sato, neurons: int, timesteps: int) -> Count:
        return Count("tree", "comparison", neurons * depth(timesteps))

    def neuron_lanes(self, machine: Sato, timesteps: int) -> int:
        return machine.array.lif_units * timesteps

    def prices(self, machine: Sato, table: EnergyTable) -> PriceBook:
        """An addition is an add, a read and a write of a PE's register [A]."""
        add, register, pes = machine.units.add, table.actions.register_access, machine.array.pes
        other = "cycles of one reading of a fully connected layer"
        return price_book(
            machine, machine.buffers, table,
            prices={("pes", "add"): price_of((add, 1), (register, 2))},
            units={"pes": (pes, ((add, 1), (register, 1)))},
            beside={
                ("pes", "weight_read"): "its bytes are the weight buffer's",
                **{("pes", f"cycles_fc_{name}"): other for name in READINGS},
            },
            unpriced={("tree", "comparison"): "no source prices the search tree; the published power holds it"},
        )  # fmt: skip

    def lanes(self, machine: Sato) -> int:
        return machine.array.pes

    def notes(self, machine: Sato) -> tuple[str, ...]:
        rows = "by timestep, then position" if machine.array.dispatch == "arrival" else "those of most spikes first"
        return (
            f"one output channel at a time; rows go to the least loaded of {machine.array.pes} PEs, {rows}",
            "sorting of rows takes no time and no energy; a search tree finishes a neuron a cycle behind the adds",
            "sizes of buffers and memory are assumed; area and node of the original are not published",
            self.told(machine),
        )

    def remarks(self, machine: Sato, works: Sequence[Work]) -> tuple[str, ...]:
        """Both readings of fully connected layers."""
        rows, dealt = (sum(work.count(f"cycles_fc_{name}") for work in works) for name in READINGS)
        if not rows:
            return ()
        return (
            f"compute cycles of fully connected layers: {rows:,} where a PE takes a row (fc: rows, the public model: "
            f"no more PEs work than there are timesteps), {dealt:,} where all outputs' rows are dealt out (fc: "
            f"spread); here {machine.array.fc}",
        )


def depth(timesteps: int) -> int:
    """Comparisons of a neuron, levels of its search tree: ceil(log2 T) + 1."""
    return (timesteps - 1).bit_length() + 1


def _work(rows: np.ndarray, shape: ConvShape, longest_first: bool) -> Ints:
    """Spikes of each row of a sample, in the order in which rows are dealt."""
    work = np.ascontiguousarray(ones(rows).reshape(-1, shape.timesteps).T).ravel()
    return np.sort(work)[::-1] if longest_first else work


def _by_rows(work: list[Ints], shape: ConvShape, pes: int) -> Ints:
    """int64 (output channels, samples): cycles until the most loaded PE is done, for each channel anew."""
    return np.tile([int(loads(each, pes).max()) for each in work], (shape.out_channels, 1))


def _spread_out(work: list[Ints], shape: ConvShape, pes: int) -> Ints:
    """The same where the rows of all channels, channel by channel, are dealt at once; in equal parts over channels."""
    most = [int(loads(np.tile(each, shape.out_channels), pes).max()) for each in work]
    return np.stack([spread(load, shape.out_channels) for load in most], axis=1)


def _traffic(machine: Sato, shape: ConvShape, spiking: bool, adds: int) -> Traffic:
    """A channel's weights by the common rule; a sample's spikes once if half of their buffer holds them, else with
    every channel; what a channel's neurons give at all timesteps."""
    m, channels, positions = machine, shape.out_channels, shape.out_height * shape.out_width
    weights = np.full((channels, 1), inputs_of(shape) * m.weight_bytes, np.int64)
    sample = ceil_div(shape.timesteps * map_size(shape), 8)
    spikes = np.full((channels, shape.batch, 1), sample, np.int64)
    if sample <= m.buffers.spikes.half_bytes:
        spikes[1:] = 0
    results = result_bytes(np.full((channels, shape.batch), positions * shape.timesteps, np.int64), spiking)
    streamed = ceil_div(shape.samples * positions * inputs_of(shape), 8) * channels
    return tile_traffic(m.memories, weights, spikes, results, read=(streamed, adds * m.weight_bytes))


RIVAL = SatoKind()
