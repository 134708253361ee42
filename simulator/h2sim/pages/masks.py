"""The masks of a trace: what a machine can skip, as rates and as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from h2sim.document.heat import heat
from h2sim.document.markup import Markup
from h2sim.document.numbers import percent
from h2sim.document.page import Gallery, PagePart, Prose, Section
from h2sim.document.values import Bar, Cell, Column, Number, Table
from h2sim.report.trace_operands import operand_parts
from h2sim.report.trace_plots import as_image
from h2sim.report.words import shape
from h2sim.trace.members import BITS
from h2sim.trace.summary import layer_maps, layer_table

if TYPE_CHECKING:
    from h2sim.trace import Layer, Trace

WORDS = {"spikes": "spikes", "window": "in the window", "grad": "dm not 0", "kept": "kept"}
MOST_CHANNELS, MOST_SIDE = 64, 64  # of a picture: more than that is averaged
Pictures = tuple[tuple[Markup, str], ...]


@dataclass(frozen=True)
class Masks:
    """Pictures of each layer's masks: by position, and by channel (down) and timestep (right)."""

    positions: Mapping[str, Pictures] = field(default_factory=dict)
    channels: Mapping[str, Pictures] = field(default_factory=dict)

    def of(self, layer: str) -> Pictures:
        """What the details of a layer show: its channels; its positions stand in the gallery."""
        return self.channels.get(layer, ())


def mask_pictures(trace: Trace) -> Masks:
    """Pictures of all layers that have masks, means over all samples."""
    positions: dict[str, Pictures] = {}
    channels: dict[str, Pictures] = {}
    for layer in trace.meta.layers:
        kinds = [kind for kind in BITS if trace.has(f"{layer.name}.{kind}")]
        found = [(kind, *_shares(trace, layer, kind)) for kind in kinds]
        if found:
            positions[layer.name] = tuple(_titled(layer.name, kind, at, "by position") for kind, at, _ in found)
            channels[layer.name] = tuple(
                _titled(layer.name, kind, by, "by channel and timestep") for kind, _, by in found
            )
    return Masks(positions, channels)


def _shares(trace: Trace, layer: Layer, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Shares of set bits by position, (H, W), and by channel and timestep, (C, T); both no larger than is shown."""
    meta, mask = trace.meta, trace.mask(layer.name, kind)
    at_all_times = np.broadcast_to(mask, (meta.timesteps, *mask.shape[1:]))
    maps = layer_maps(at_all_times, layer, range(meta.batch), range(meta.timesteps))
    n_channels, height, width = layer.out_chw
    at = maps.positions / (meta.batch * meta.timesteps * n_channels)
    by = maps.channels / (meta.batch * height * width)
    if height * width == 1:  # features of an fc layer: folded into a picture
        at = as_image(by.mean(axis=1))
    return _smaller(at, MOST_SIDE, MOST_SIDE), _smaller(by, MOST_CHANNELS, by.shape[1])


def _smaller(values: np.ndarray, most_rows: int, most_columns: int) -> np.ndarray:
    """Means of equal neighbours where there are more rows or columns than are shown."""
    for axis, most in ((0, most_rows), (1, most_columns)):
        size = values.shape[axis]
        if size > most:
            edges = np.linspace(0, size, most + 1).astype(int)[:-1]
            counts = np.diff([*edges, size])
            sums = np.add.reduceat(values, edges, axis=axis)
            values = sums / (counts[:, None] if axis == 0 else counts[None, :])
    return values


def _titled(layer: str, kind: str, shares: np.ndarray, how: str) -> tuple[Markup, str]:
    most, mean = float(np.nanmax(shares)), float(np.nanmean(shares))
    alt = f"{layer}, {WORDS[kind]} {how}: mean {mean:.1%}, most {most:.1%}"
    return heat(shares, alt, most), f"{WORDS[kind]} {mean:.1%}, most {most:.0%}"


def masks_section(trace: Trace, masks: Masks, keys: Mapping[str, str]) -> Section:
    """Rates of each layer, what its weights read, and where the bits are. keys: of each layer's first row."""
    rates = Table(
        "",
        (
            Column("layer"), Column("kind", drop=2), Column("shape", drop=1), Column("spikes"),
            Column("outside the window", drop=4), Column("dm = 0", drop=5),
            Column("samples without gradient", right=True, drop=3),
        ),
        tuple(_rates(trace)),
        keys=tuple(keys.get(layer.name, "") for layer in trace.meta.layers),
    )  # fmt: skip
    head = Prose(
        "The Forward and Weight Update Engine look up tables by *spikes*. The Backward Engine skips neurons *outside "
        "the window* (output sparsity) and gradients *dm* that are 0 (input sparsity)."
    )
    where = Prose("By position, means over channels, samples and timesteps; yellow is the picture's own largest share.")
    groups = tuple((keys.get(name, ""), name, pictures) for name, pictures in masks.positions.items())
    operands: tuple[PagePart, ...] = operand_parts(trace)
    return Section(
        "masks", "Masks", "Masks: what the machine can skip", (head, rates, *operands, where, Gallery(groups))
    )


def _rates(trace: Trace) -> Iterator[tuple[Cell, ...]]:
    for row in layer_table(trace):
        silent = row.samples_without_gradient
        yield (
            row.layer, row.kind, shape(row.out_shape), _rate(row.spike_rate, "compute"),
            _rate(row.output_sparsity, "write"), _rate(row.input_sparsity, "read"),
            Number("-" if silent is None else f"{silent:,}", silent),
        )  # fmt: skip


def _rate(share: float | None, meaning: str) -> Cell:
    if share is None:
        return "-"
    return Bar(percent(share, 1), share, ((meaning, share),), 1.0, percent(share, 1))
