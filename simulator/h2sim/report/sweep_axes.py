"""What stands at the axes of a sweep's pictures: results with a unit that fits, parameters by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from h2sim.document.drawing import STEPS, few, logarithmic
from h2sim.io.names import in_picture
from h2sim.report.sweep_words import parameter_text, short_names
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.metrics import METRICS

Numbers = NDArray[np.float64]
NAMES = {"seconds": "time of a sub-batch", "energy_j": "energy of a sub-batch", "area_mm2": "area"}
UNITS = {"seconds": "s", "_js": "J s", "_j": "J", "_w": "W", "_mm2": "mm\u00b2", "_utilization": "%"}
PARAMETER_UNITS = {"_bytes_per_s": "B/s", "_hz": "Hz", "bytes": "B"}
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "\u00b5"), (1e-9, "n"),
            (1e-12, "p"))  # fmt: skip
PREFIXED = {"s", "J", "J s", "W", "B/s", "Hz", "B"}
MOST_DISCRETE = 16  # values that stand at equal distances; more are numbers on a scale
MOST_LABELS = 8
MOST_BINS, LEAST_IN_BIN = 12, 4  # of a parameter of more values: with equally many machines each
WIDE = 20.0  # largest / smallest from which an axis is logarithmic


@dataclass(frozen=True)
class ResultAxis:
    """An objective as it is drawn: divided by `scale`, its label with the unit that then fits."""

    name: str
    label: str
    scale: float
    is_log: bool

    @classmethod
    def of(cls, name: str, values: Numbers) -> ResultAxis:
        """values: all that will be drawn."""
        result, text = name.partition("[")[0], result_name(name)
        unit = next((unit for end, unit in UNITS.items() if result.endswith(end)), "")
        unit = "" if result.endswith("per_second") else unit
        known = np.abs(values[np.isfinite(values)])
        scale, prefix = _prefix(float(np.median(known)) if known.size else 0.0) if unit in PREFIXED else (1.0, "")
        scale = 0.01 if unit == "%" else scale
        low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        return cls(name, f"{text} ({prefix}{unit})" if unit else text, scale, bool(low > 0 and high / low > WIDE))

    def shown(self, values: Numbers | float) -> Numbers:
        """Values as they are drawn."""
        return np.asarray(values, np.float64) / self.scale

    def set(self, axes: Axes, which: str) -> None:
        """Label, scale and ticks of the x or y axis."""
        axis = axes.xaxis if which == "x" else axes.yaxis
        axes.set(**{f"{which}label": self.label})
        if self.is_log:
            logarithmic(axes, which, 5)
        else:
            few(axis)


def result_name(name: str) -> str:
    """A result in words: `time of a sub-batch`."""
    result, _, trace = name.partition("[")
    text = NAMES.get(result) or METRICS[result].partition(";")[0].rpartition(", ")[0] or METRICS[result]
    return text + (f" ({in_picture(trace.removesuffix(']'))})" if trace else "")


def bar_ticks(bar: Colorbar) -> None:
    """Few ticks at a colour bar, written out where it is logarithmic too."""
    low, high = float(bar.norm.vmin or 1), float(bar.norm.vmax or 1)
    bar.minorticks_off()
    if isinstance(bar.norm, LogNorm):
        bar.locator = LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,), numticks=8)
        bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    else:
        bar.locator = MaxNLocator(4, steps=STEPS)
    bar.update_ticks()
    bar.minorticks_off()


def _prefix(value: float) -> tuple[float, str]:
    return next(((f, p) for f, p in PREFIXES if value >= f), PREFIXES[-1]) if value else (1.0, "")


@dataclass(frozen=True)
class ParameterAxis:
    """A parameter as it is drawn: of few values each at its place, 0, 1, ...; of many, numbers on a scale.

    at: the place of each row; group: its value's index, or that of its bin; centre: the place of each group, and
    text: what it is called. edges: of the groups, one more than there are groups.
    """

    path: str
    label: str
    at: Numbers
    group: NDArray[np.int64]
    centre: Numbers
    text: tuple[str, ...]
    edges: Numbers
    is_discrete: bool
    is_log: bool

    @classmethod
    def of(cls, findings: Findings, path: str, rows: Sequence[Row]) -> ParameterAxis:
        values = [findings.parameter(path)(row) for row in rows]
        different = _in_order(findings, path, values)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in different)
        label, scale = _label(findings, path, different if numbers else [])
        spec = findings.plan.spec.axes.get(path)
        is_range = spec is not None and spec.is_continuous
        if not numbers or (len(different) <= MOST_DISCRETE and not is_range):
            place = {repr(value): index for index, value in enumerate(different)}
            group = np.array([place[repr(value)] for value in values], np.int64)
            text = tuple(in_picture(parameter_text(v / scale if scale != 1 else v), 18) for v in different)
            centre = np.arange(len(different), dtype=np.float64)
            edges = np.linspace(-0.5, len(different) - 0.5, len(different) + 1)
            return cls(path, label, centre[group], group, centre, text, edges, True, False)
        at = np.array(values, np.float64) / scale
        is_log = (spec is not None and spec.log_uniform is not None) or bool(
            at.min() > 0 and at.max() / at.min() > WIDE
        )
        n_bins = min(MOST_BINS, max(2, len(at) // LEAST_IN_BIN))
        edges = np.unique(np.quantile(at, np.linspace(0, 1, n_bins + 1))).astype(np.float64)
        group = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
        middle = np.sqrt(edges[1:] * edges[:-1]) if is_log else (edges[1:] + edges[:-1]) / 2
        return cls(path, label, at, group, middle, tuple(f"{v:.3g}" for v in middle), edges, False, is_log)

    def where(self, findings: Findings, row: Row) -> float | None:
        """The place of a row that may not be among those drawn; None where it is outside."""
        value = findings.parameter(self.path)(row)
        if not self.is_discrete:
            scale = _scale_of(self.label, self.path)
            number = float(value) / scale if isinstance(value, int | float) else np.nan
            return number if self.edges[0] <= number <= self.edges[-1] else None
        scale = _scale_of(self.label, self.path)
        text = in_picture(parameter_text(value / scale if scale != 1 and isinstance(value, int | float) else value), 18)
        return float(self.text.index(text)) if text in self.text else None

    def set(self, axes: Axes, which: str, *, every: bool = False) -> None:
        """Label and ticks; of many values not every one is named, unless there is room for `every`."""
        axis = axes.xaxis if which == "x" else axes.yaxis
        axes.set(**{f"{which}label": self.label})
        if not self.is_discrete:
            if self.is_log:
                logarithmic(axes, which, 4)
            else:
                few(axis, 4)
            return
        step = 1 if every else -(-len(self.text) // MOST_LABELS)
        places = list(range(0, len(self.text), step))
        axis.set_ticks(places, [self.text[i] for i in places])
        if which == "x" and sum(len(self.text[i]) for i in places) > 26:
            axis.set_tick_params(rotation=90)
        axes.set(**{f"{which}lim": (-0.5, len(self.text) - 0.5)})


def _label(findings: Findings, path: str, numbers: Sequence[float]) -> tuple[str, float]:
    """A parameter's short name with its unit, and what values are divided by: `bandwidth (GB/s)`, 1e9."""
    name = short_names(findings.plan.machines.order)[path]
    end = next((end for end in PARAMETER_UNITS if path.endswith(end)), None)
    if end is None or not numbers:
        return in_picture(name.replace("_", " ")), 1.0
    scale, prefix = _prefix(float(np.median(np.abs(np.array(numbers, np.float64)))))
    bare = name.removesuffix(end).rstrip("_.").replace("_", " ") or name.replace("_", " ")
    return f"{in_picture(bare)} ({prefix}{PARAMETER_UNITS[end]})", scale


def parameter_name(findings: Findings, path: str) -> str:
    """A parameter's short name in words, without its unit."""
    return _label(findings, path, [1])[0].partition(" (")[0]


def _scale_of(label: str, path: str) -> float:
    """What the label's unit says that values were divided by."""
    unit = next((unit for end, unit in PARAMETER_UNITS.items() if path.endswith(end)), None)
    if unit is None or not label.endswith(f"{unit})"):
        return 1.0
    prefix = label.rpartition("(")[2].removesuffix(f"{unit})")
    return next(factor for factor, text in PREFIXES if text == prefix)


def _in_order(findings: Findings, path: str, values: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, others as the spec lists them."""
    different = list({repr(value): value for value in values}.values())
    if all(isinstance(value, int | float) for value in different):
        return sorted(different)
    axis = findings.plan.spec.axes.get(path)
    listed = [repr(value) for value in axis.choices()] if axis else []
    return sorted(different, key=lambda v: (listed.index(repr(v)) if repr(v) in listed else len(listed), repr(v)))
