"""Traces as pictures: rates per layer, by timestep and by sample, and where in a layer the set bits are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from h2sim.document.drawing import bars_mm, few, folded, grouped, legend, name_rows, panels, swatch, whole
from h2sim.document.pictures import PNG, Make, Plots, draw_picture
from h2sim.document.style import FAINT, GRADIENT, MARKED, WIDE_MM
from h2sim.document.style import RATES as LOOKS
from h2sim.errors import TraceError, at
from h2sim.io.names import in_file_name, in_picture
from h2sim.io.progress import Progress
from h2sim.report.count_plots import draw_counts
from h2sim.trace.members import BITS
from h2sim.trace.model import Layer
from h2sim.trace.read import Trace
from h2sim.trace.summary import LayerCounts, LayerMaps, layer_maps, trace_counts

RATES = {"spike rate": "spikes", "output sparsity": "window", "input sparsity": "grad"}
KEPT = {"kept": "kept"}  # of gates
MAPS = {"spikes": "spikes", "window": "inside the window", "grad": "dm not 0", "kept": "kept"}
NEVER = {"spikes": "never spike", "window": "never above 0", "grad": "without gradient", "kept": "never kept"}
SHARES = {"spikes": "spike rate", "window": "share above 0", "grad": "share of dm not 0", "kept": "share kept"}
HEAT_ROW_MM = 2.8  # of a layer in a picture of colours
ROW_FEATURES = 32
MOST_LETTERS = 28  # of a layer's name beside its row


def draw_trace(
    trace: Trace,
    folder: str,
    *,
    layers: Sequence[str] = (),
    sample: int | None = None,
    timestep: int | None = None,
    plots: Plots = PNG,
    progress: Progress | None = None,
) -> list[Path]:
    """Draws rates, timesteps, samples, the input where it is counts, and layer-NAME per asked layer.

    Returns the files' paths.
    The layers' pictures show one sample or the mean over samples, one timestep or their sum. The folder is made if
    missing. One mask at a time is in memory. Raises TraceError for a layer, sample or timestep that the trace
    does not have, OutputError where the pictures cannot be written.
    """
    asked = check_choice(trace, layers, sample, timestep)
    rows, place = trace_counts(trace, progress), Path(folder)
    place.mkdir(exist_ok=True)
    makers: dict[str, tuple[str, Make]] = {
        "rates": ("Rates per layer", lambda width: _rates(trace, rows, width)),
        "timesteps": ("Rates by timestep", lambda width: _timesteps(trace, rows, width)),
        "samples": ("Input sparsity by sample", lambda width: _samples(trace, rows, width)),
    }
    if trace.has("input.counts"):
        makers["input"] = ("Counts of the input", lambda width: _counts(trace, width))
    for layer in asked:
        makers[f"layer-{in_file_name(layer.name)}"] = _of_layer(trace, layer, sample, timestep)
    paths = []
    for done, (name, (what, make)) in enumerate(makers.items()):
        if progress:
            progress(name, done, len(makers))
        paths += draw_picture(make, place / name, plots, title=_title(trace, what))
    return paths


def _of_layer(trace: Trace, layer: Layer, sample: int | None, timestep: int | None) -> tuple[str, Make]:
    """The title of a layer's picture, and what draws it."""
    meta = trace.meta
    of = f"mean of {meta.batch} samples" if sample is None else f"sample {sample}"
    at_time = f"{meta.timesteps} timesteps" if timestep is None else f"timestep {timestep}"
    title = f"{in_picture(layer.name)}, {of}, {at_time}"
    return title, lambda width: _layer(trace, layer, sample, timestep, width)


def check_choice(trace: Trace, layers: Sequence[str], sample: int | None, timestep: int | None) -> list[Layer]:
    """The asked layers, each once; TraceError for a layer without masks, or what the trace does not have."""
    meta, where = trace.meta, str(trace.path)
    for name, value, count in (("--sample", sample, meta.batch), ("--timestep", timestep, meta.timesteps)):
        if value is not None and not 0 <= value < count:
            raise TraceError(at(where, name, f"0 to {count - 1}", value))
    known = {layer.name: layer for layer in meta.layers}
    for name in layers:
        if name not in known:
            raise TraceError(at(where, "--layer", f"one of {', '.join(known)}", repr(name)))
        if not _kinds(trace, known[name]):
            raise TraceError(at(where, "--layer", "a layer that has masks", f"{name!r}, which has none"))
    return [known[name] for name in dict.fromkeys(layers)]


def rates_by_layer(trace: Trace, rows: Sequence[LayerCounts], axis: int | tuple[int, ...]) -> dict[str, np.ndarray]:
    """What is drawn, by its name in RATES, and KEPT where there are gates: a row per layer, NaN without such a mask.

    axis: what is averaged, of (timesteps, samples): (0, 1) leaves (layers,), 1 (layers, T), 0 (layers, N).
    """
    result, empty = {}, np.full((trace.meta.timesteps, trace.meta.batch), np.nan).mean(axis=axis)
    for name, kind in _drawn(rows).items():
        shares = [row.share(kind, axis) for row in rows]
        values = np.stack([empty if share is None else share for share in shares])
        result[name] = values if kind in ("spikes", "kept") else 1 - values
    return result


def _drawn(rows: Sequence[LayerCounts]) -> dict[str, str]:
    """Kind of mask of each rate."""
    return RATES | (KEPT if any("kept" in row.set_bits for row in rows) else {})


def as_image(features: np.ndarray) -> np.ndarray:
    """Values of an fc layer's features as an image: one row up to 32, else about square, NaN behind the last."""
    if features.size <= ROW_FEATURES:
        return features.reshape(1, -1)
    columns = 2 ** math.ceil(math.log2(features.size) / 2)
    image = np.full(-(-features.size // columns) * columns, np.nan)
    image[: features.size] = features
    return image.reshape(-1, columns)


def _kinds(trace: Trace, layer: Layer) -> list[str]:
    return [kind for kind in BITS if trace.has(f"{layer.name}.{kind}")]


def _title(trace: Trace, what: str) -> str:
    meta = trace.meta
    synthetic = "  (SYNTHETIC masks)" if meta.source.get("kind") == "synthetic" else ""
    return f"{what}: {in_picture(meta.network)} on {in_picture(meta.dataset)}{synthetic}"


def _names(rows: Sequence[LayerCounts]) -> list[str]:
    return [in_picture(row.layer.name, MOST_LETTERS) for row in rows]


def _colours(**marks: str) -> Colormap:
    return matplotlib.colormaps[GRADIENT].with_extremes(bad=FAINT, **marks)


def _rates(trace: Trace, rows: Sequence[LayerCounts], width_mm: float) -> Figure:
    """A bar per layer and rate; a mask that a layer does not have leaves its bar out."""
    drawn = _drawn(rows)
    figure, (axis,) = panels(1, width_mm, bars_mm(len(rows), len(drawn)))
    found = rates_by_layer(trace, rows, (0, 1))
    grouped(axis, {name: (LOOKS[drawn[name]], values) for name, values in found.items()})
    name_rows(axis, _names(rows))
    axis.set_xlim(0, 1)
    label = "share of neurons (output sparsity: outside the window; input sparsity: dm = 0)"
    axis.set_xlabel(folded(label, 0.6 * width_mm))
    legend(figure, [swatch(LOOKS[kind], name) for name, kind in drawn.items()], width_mm)
    return figure


def _timesteps(trace: Trace, rows: Sequence[LayerCounts], width_mm: float) -> Figure:
    """Layer x timestep, one panel per rate."""
    found = rates_by_layer(trace, rows, 1)
    is_wide = width_mm >= WIDE_MM
    heights = [HEAT_ROW_MM * len(rows) + (26 if is_wide else 8)] * len(found)
    heights[-1] = HEAT_ROW_MM * len(rows) + 26  # with the colours' bar
    figure, axes = panels(len(found), width_mm, heights, most=len(found))
    for place, (axis, (name, values)) in enumerate(zip(axes, found.items(), strict=True)):
        axis.imshow(values, aspect="auto", cmap=_colours(), vmin=0, vmax=1, interpolation="nearest")
        name_rows(axis, _names(rows), told=not (place and is_wide))
        axis.set_title(name)
        whole(axis.xaxis)
        if is_wide or axis is axes[-1]:
            axis.set_xlabel("timestep")
    label = "share of neurons (grey: no such mask)"
    few(
        figure.colorbar(
            axes[0].images[0], ax=axes if is_wide else axes[-1], location="bottom", aspect=40, label=label
        ).ax.xaxis
    )
    return figure


def _samples(trace: Trace, rows: Sequence[LayerCounts], width_mm: float) -> Figure:
    """Layer x sample: the share of dm = 0; a layer and sample without any gradient has a colour of its own."""
    values = rates_by_layer(trace, rows, 0)["input sparsity"]
    figure, (axis,) = panels(1, width_mm, max(35.0, HEAT_ROW_MM * len(rows) + 22))
    image = axis.imshow(
        values, aspect="auto", cmap=_colours(over=MARKED), vmin=0, vmax=np.nextafter(1, 0), interpolation="nearest"
    )
    axis.set_xlabel("sample")
    whole(axis.xaxis)
    name_rows(axis, _names(rows))
    label = "share of dm = 0 (red: all, grey: no mask)"
    bar = figure.colorbar(image, ax=axis, extend="max", location="bottom", aspect=40, label=label)
    few(bar.ax.xaxis)
    return figure


def _counts(trace: Trace, width_mm: float) -> Figure:
    figure, axes = panels(2, width_mm, 50.0)
    assert trace.meta.input is not None
    draw_counts((axes[0], axes[1]), trace.input_counts(), trace.meta.input.most or 0)
    return figure


def _layer(trace: Trace, layer: Layer, sample: int | None, timestep: int | None, width_mm: float) -> Figure:
    """The layer's masks by position, and its channels by timestep: spikes, or else the first mask that it has."""
    meta, kinds = trace.meta, _kinds(trace, layer)
    samples = range(meta.batch) if sample is None else [sample]
    steps = range(meta.timesteps) if timestep is None else [timestep]
    figure, axes = panels(len(kinds) + 1, width_mm, min(120.0, max(60.0, layer.out_chw[0] / 6)), most=5, narrow=2)
    for axis, kind in zip(axes, kinds, strict=False):
        mask = trace.mask(layer.name, kind)
        at_all_times = np.broadcast_to(mask, (meta.timesteps, *mask.shape[1:]))
        maps = layer_maps(at_all_times, layer, samples, steps)
        _positions(figure, axis, layer, kind, maps, len(samples))
        if kind == kinds[0]:
            _channels(figure, axes[-1], layer, kind, maps, len(samples), steps)
    return figure


def _positions(figure: Figure, axis: Axes, layer: Layer, kind: str, maps: LayerMaps, n_samples: int) -> None:
    fc = layer.kind == "fc"
    counts = as_image(maps.channels.sum(axis=1) / n_samples) if fc else maps.positions / n_samples
    image = axis.imshow(counts, cmap=_colours(), vmin=0, vmax=max(1.0, float(np.nanmax(counts))))
    axis.set_title("x above 0" if layer.kind == "relu" else MAPS[kind])
    axis.set_xlabel(f"{layer.neurons} features,\nfolded" if fc else "summed over\nchannels")
    axis.set(xticks=[], yticks=[])
    few(figure.colorbar(image, ax=axis, location="bottom", label="per sample").ax.xaxis, 3)


def _channels(
    figure: Figure, axis: Axes, layer: Layer, kind: str, maps: LayerMaps, n_samples: int, steps: Sequence[int]
) -> None:
    """Channel x timestep; a channel without a set bit at any of the timesteps has a colour of its own."""
    channels, height, width = layer.out_chw
    rates = maps.channels / (height * width * n_samples)
    dead = maps.channels.sum(axis=1) == 0
    rates[dead] = -1
    image = axis.imshow(
        rates, aspect="auto", cmap=_colours(under=MARKED), vmin=0, vmax=max(rates.max(), 1e-9),
        interpolation="nearest", extent=(steps[0] - 0.5, steps[-1] + 0.5, channels - 0.5, -0.5),
    )  # fmt: skip
    what = "features" if layer.kind == "fc" else "channels"
    axis.set_title(f"{int(dead.sum())} of {channels} {what}\n{NEVER[kind]} (red)")
    axis.set(xlabel="timestep", ylabel=what.removesuffix("s"))
    whole(axis.yaxis)
    if len(steps) == 1:
        axis.set_xticks(steps)
    else:
        whole(axis.xaxis)
    few(figure.colorbar(image, ax=axis, location="bottom", label=SHARES[kind]).ax.xaxis, 3)
