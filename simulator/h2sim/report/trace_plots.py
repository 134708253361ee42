"""Traces as pictures: rates per layer, by timestep and by sample, and where in a layer the set bits are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from h2sim.document.pictures import save_png
from h2sim.errors import TraceError, at
from h2sim.io.names import in_file_name, in_picture
from h2sim.io.progress import Progress
from h2sim.report.count_plots import draw_counts
from h2sim.trace.members import BITS
from h2sim.trace.model import Layer
from h2sim.trace.read import Trace
from h2sim.trace.summary import LayerCounts, LayerMaps, layer_maps, trace_counts

RATES = {
    "spike rate": ("spikes", "#3b6ea5"),
    "output sparsity": ("window", "#edae49"),
    "input sparsity": ("grad", "#d1495b"),
}
KEPT = {"kept": ("kept", "#66a182")}  # of gates
MAPS = {"spikes": "spikes", "window": "inside the window", "grad": "dm not 0", "kept": "kept"}
NEVER = {"spikes": "never spike", "window": "never above 0", "grad": "without gradient", "kept": "never kept"}
SHARES = {"spikes": "spike rate", "window": "share above 0", "grad": "share of dm not 0", "kept": "share kept"}
NO_MASK, MARKED = "#dddddd", "#d1495b"
MOST_INCHES = 80  # matplotlib draws at most 65,536 pixels a side
MOST_TICKS = 200
ROW_FEATURES = 32


def draw_trace(
    trace: Trace,
    folder: str,
    *,
    layers: Sequence[str] = (),
    sample: int | None = None,
    timestep: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes rates.png, timesteps.png, samples.png and a layer-NAME.png per asked layer; returns their paths.

    An input of counts has an input.png.

    The layers' pictures show one sample or the mean over samples, one timestep or their sum. The folder is made if
    missing. One mask at a time is in memory. Raises TraceError for a layer, sample or timestep that the trace
    does not have, OutputError where the pictures cannot be written.
    """
    asked = check_choice(trace, layers, sample, timestep)
    rows, place = trace_counts(trace, progress), Path(folder)
    place.mkdir(exist_ok=True)
    makers: dict[str, Callable[[], Figure]] = {
        "rates.png": lambda: _rates(trace, rows),
        "timesteps.png": lambda: _timesteps(trace, rows),
        "samples.png": lambda: _samples(trace, rows),
    }
    if trace.has("input.counts"):
        makers["input.png"] = lambda: _counts(trace)
    for layer in asked:
        makers[f"layer-{in_file_name(layer.name)}.png"] = lambda layer=layer: _layer(trace, layer, sample, timestep)  # type: ignore[misc]
    for done, (name, make) in enumerate(makers.items()):
        if progress:
            progress(name, done, len(makers))
        save_png(make(), place / name)
    return [place / name for name in makers]


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
    for name, (kind, _) in _drawn(rows).items():
        shares = [row.share(kind, axis) for row in rows]
        values = np.stack([empty if share is None else share for share in shares])
        result[name] = values if kind in ("spikes", "kept") else 1 - values
    return result


def _drawn(rows: Sequence[LayerCounts]) -> dict[str, tuple[str, str]]:
    """Kind of mask and colour of each rate."""
    return RATES | (KEPT if any("kept" in row.set_bits for row in rows) else {})


def folded(features: np.ndarray) -> np.ndarray:
    """Values of an fc layer's features as an image: one row up to 32, else about square, NaN behind the last."""
    if features.size <= ROW_FEATURES:
        return features.reshape(1, -1)
    columns = 2 ** math.ceil(math.log2(features.size) / 2)
    image = np.full(-(-features.size // columns) * columns, np.nan)
    image[: features.size] = features
    return image.reshape(-1, columns)


def _kinds(trace: Trace, layer: Layer) -> list[str]:
    return [kind for kind in BITS if trace.has(f"{layer.name}.{kind}")]


def _title(figure: Figure, trace: Trace, what: str) -> None:
    meta = trace.meta
    synthetic = "  (SYNTHETIC masks)" if meta.source.get("kind") == "synthetic" else ""
    text = f"{what}: {in_picture(meta.network)} on {in_picture(meta.dataset)}{synthetic}"
    figure.suptitle(text, x=0.02, ha="left", fontsize=11)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, np.ndarray]:
    size = (width, min(height, MOST_INCHES))
    return plt.subplots(1, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")


def _name_layers(axis: Axes, rows: Sequence[LayerCounts]) -> None:
    every = -(-len(rows) // MOST_TICKS)
    ticks = range(0, len(rows), every)
    axis.set_yticks(ticks, [in_picture(rows[i].layer.name) for i in ticks], fontsize=8)


def _whole(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _colours(name: str = "viridis", **marks: str) -> Colormap:
    return matplotlib.colormaps[name].with_extremes(bad=NO_MASK, **marks)


def _rates(trace: Trace, rows: Sequence[LayerCounts]) -> Figure:
    """A bar per layer and rate; a mask that a layer does not have leaves its bar out."""
    figure, axes = _figure(8, 0.45 * len(rows) + 1.5)
    axis, places, drawn = axes[0, 0], np.arange(len(rows)), _drawn(rows)
    apart, middle = 0.81 / len(drawn), (len(drawn) - 1) / 2
    for offset, (name, values) in enumerate(rates_by_layer(trace, rows, (0, 1)).items()):
        height, colour = 0.75 / len(drawn), drawn[name][1]
        axis.barh(places + apart * (offset - middle), values, height=height, color=colour, label=name)
    _name_layers(axis, rows)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of neurons (output sparsity: outside the window; input sparsity: dm = 0)")
    axis.legend(fontsize=8, ncols=len(drawn), loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    _title(figure, trace, "Rates per layer")
    return figure


def _timesteps(trace: Trace, rows: Sequence[LayerCounts]) -> Figure:
    """Layer x timestep, one panel per rate."""
    figure, axes = _figure(11, 0.25 * len(rows) + 2, columns=len(_drawn(rows)))
    image = None
    for axis, (name, values) in zip(axes[0], rates_by_layer(trace, rows, 1).items(), strict=True):
        image = axis.imshow(values, aspect="auto", cmap=_colours(), vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_xlabel("timestep")
        _whole(axis)
    _name_layers(axes[0, 0], rows)
    assert image is not None  # there are rates
    figure.colorbar(image, ax=list(axes[0]), label="share of neurons (grey: no such mask)")
    _title(figure, trace, "Rates by timestep")
    return figure


def _samples(trace: Trace, rows: Sequence[LayerCounts]) -> Figure:
    """Layer x sample: the share of dm = 0; a layer and sample without any gradient has a colour of its own."""
    values = rates_by_layer(trace, rows, 0)["input sparsity"]
    figure, axes = _figure(max(6.0, min(14.0, 0.3 * trace.meta.batch + 3)), 0.25 * len(rows) + 2)
    axis = axes[0, 0]
    image = axis.imshow(
        values, aspect="auto", cmap=_colours(over=MARKED), vmin=0, vmax=np.nextafter(1, 0), interpolation="nearest"
    )
    axis.set_xlabel("sample")
    _whole(axis)
    _name_layers(axis, rows)
    figure.colorbar(image, ax=axis, extend="max", label="share of dm = 0 (red: all, grey: no mask)")
    _title(figure, trace, "Input sparsity by sample")
    return figure


def _counts(trace: Trace) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    assert trace.meta.input is not None
    draw_counts((axes[0], axes[1]), trace.input_counts(), trace.meta.input.most or 0)
    _title(figure, trace, "Counts of the input")
    return figure


def _layer(trace: Trace, layer: Layer, sample: int | None, timestep: int | None) -> Figure:
    """The layer's masks by position, and its channels by timestep: spikes, or else the first mask that it has."""
    meta, kinds = trace.meta, _kinds(trace, layer)
    samples = range(meta.batch) if sample is None else [sample]
    steps = range(meta.timesteps) if timestep is None else [timestep]
    size = 3.2 * (len(kinds) + 1), min(10.0, max(4.0, layer.out_chw[0] / 64))
    figure, axes = plt.subplots(1, len(kinds) + 1, figsize=size, squeeze=False, layout="constrained")
    for axis, kind in zip(axes[0], kinds, strict=False):
        mask = trace.mask(layer.name, kind)
        at_all_times = np.broadcast_to(mask, (meta.timesteps, *mask.shape[1:]))
        maps = layer_maps(at_all_times, layer, samples, steps)
        _positions(figure, axis, layer, kind, maps, len(samples))
        if kind == kinds[0]:
            _channels(figure, axes[0, -1], layer, kind, maps, len(samples), steps)
    of = f"mean of {meta.batch} samples" if sample is None else f"sample {sample}"
    at_time = f"{meta.timesteps} timesteps" if timestep is None else f"timestep {timestep}"
    _title(figure, trace, f"{in_picture(layer.name)}, {of}, {at_time}")
    return figure


def _positions(figure: Figure, axis: Axes, layer: Layer, kind: str, maps: LayerMaps, n_samples: int) -> None:
    fc = layer.kind == "fc"
    counts = folded(maps.channels.sum(axis=1) / n_samples) if fc else maps.positions / n_samples
    image = axis.imshow(counts, cmap=_colours(), vmin=0, vmax=max(1.0, float(np.nanmax(counts))))
    axis.set_title("x above 0" if layer.kind == "relu" else MAPS[kind], fontsize=9, loc="left")
    axis.set_xlabel(f"{layer.neurons} features, folded" if fc else "summed over channels")
    axis.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=axis, location="bottom", label="per sample")


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
    axis.set_title(f"{int(dead.sum())} of {channels} {what} {NEVER[kind]} (red)", fontsize=9, loc="left")
    axis.set(xlabel="timestep", ylabel=what.removesuffix("s"))
    if len(steps) == 1:
        axis.set_xticks(steps)
    else:
        _whole(axis)
    figure.colorbar(image, ax=axis, location="bottom", label=SHARES[kind])
