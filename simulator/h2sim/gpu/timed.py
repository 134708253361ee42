"""Times a training step: often without marks, as often with them, and its energy; rows of what was measured."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from h2sim._version import __version__
from h2sim.errors import GpuTraceError, at
from h2sim.gpu.clock import Clock, Label, timed
from h2sim.gpu.energy import Timing, idle_power_w, measure_energy
from h2sim.gpu.meter import MeterError
from h2sim.gpu.targets import Target
from h2sim.gpu.trace import Conditions, Energy, Row, Step

Report = Callable[[str, int, int], None]
LONGEST_S = 86_400
ORDER = {"forward": 0, "backward": 1, "weight_update": 2, "other": 3}


def unreported(what: str, done: int, total: int) -> None:
    """A Report to nobody."""


@dataclass(frozen=True)
class Plan:
    """How often the step runs.

    warm_up: steps that are not measured. repeats: measured steps without marks, and as many more with marks.
    energy_seconds: least time over which energy is measured; half of it again checks it. Raises GpuTraceError for
    numbers out of range.
    """

    warm_up: int = 10
    repeats: int = 50
    energy_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warm_up < 0:
            raise GpuTraceError(at("record", "repeats", "at least 1, and 0 or more to warm up", self.repeats))
        if not 0 < self.energy_seconds <= LONGEST_S:
            raise GpuTraceError(at("record", "energy_seconds", f"above 0, at most {LONGEST_S}", self.energy_seconds))


class Timeable(Protocol):
    """A training step that can be run again and again."""

    def step(self) -> None:
        """Runs the step."""

    def prepare(self) -> None:
        """What has to be done before a step and is not part of its time."""

    def marked_step(self, clock: Clock) -> tuple[float, dict[Label, float]]:
        """Runs the step with marks: (its seconds, seconds by layer and phase), which add up to it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a step.

    whole, marked: seconds of each step without and with marks. parts: of each marked step. why_no_energy: empty where
    there is some.
    """

    whole: list[float]
    marked: list[float]
    parts: list[dict[Label, float]]
    peak_memory_bytes: int | None
    energy: Energy | None
    conditions: Conditions | None
    why_no_energy: str

    def step(self, plan: Plan) -> Step:
        """The whole step as a GPU trace has it."""
        middle, low, high = quartiles(self.whole)
        return Step(
            seconds=middle,
            lower_quartile_seconds=low,
            upper_quartile_seconds=high,
            marked_seconds=float(np.median(self.marked)) if self.marked else None,
            repeats=plan.repeats,
            warm_up=plan.warm_up,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        return (f"no energy: {self.why_no_energy}",) if self.why_no_energy else ()


def idle_power(target: Target, timing: Timing | None = None) -> float | None:
    """Power of the idle target, W; None where nothing tells it."""
    return idle_power_w(target.meter, timing=timing) if target.meter else None


def measure_step(
    training: Timeable,
    target: Target,
    plan: Plan,
    idle_w: float | None,
    report: Report = unreported,
    timing: Timing | None = None,
    *,
    marked: bool = True,
) -> Measured:
    """Runs the step as `plan` says. report(what, steps done, steps in all) is called after each.

    idle_w: power of the device before anything ran. marked: whether marks can divide the step.
    """
    for done in range(plan.warm_up):
        training.prepare()
        training.step()
        report("warm-up", done + 1, plan.warm_up)
    whole, peak = _unmarked(training, target, plan, report)
    divided, parts = _marked(training, target.clock, plan, report) if marked else ([], [])
    energy, conditions, why = _energy(training, target, plan, float(np.median(whole)), idle_w, timing)
    return Measured(
        whole=whole,
        marked=divided,
        parts=parts,
        peak_memory_bytes=peak,
        energy=energy,
        conditions=conditions,
        why_no_energy=why,
    )


def _unmarked(training: Timeable, target: Target, plan: Plan, report: Report) -> tuple[list[float], int | None]:
    """(seconds of each step, the most bytes that tensors held at once; None where torch does not count them)."""
    cuda, seconds = target.name.startswith("cuda"), []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for done in range(plan.repeats):
        training.prepare()
        seconds.append(timed(target.clock, training.step))
        report("steps", done + 1, plan.repeats)
    return seconds, torch.cuda.max_memory_allocated() if cuda else None


def _marked(
    training: Timeable, clock: Clock, plan: Plan, report: Report
) -> tuple[list[float], list[dict[Label, float]]]:
    """(seconds of each marked step, its parts). Two steps run before, uncounted, for their calls are new to torch."""
    seconds, parts = [], []
    before = min(2, plan.warm_up)
    for done in range(-before, plan.repeats):
        training.prepare()
        whole, divided = training.marked_step(clock)
        if done >= 0:
            seconds.append(whole)
            parts.append(divided)
            report("marked steps", done + 1, plan.repeats)
    return seconds, parts


def _energy(
    training: Timeable, target: Target, plan: Plan, seconds: float, idle_w: float | None, timing: Timing | None
) -> tuple[Energy | None, Conditions | None, str]:
    """(energy of a step, what the GPU did meanwhile, "") or (None, None, why there is none)."""
    if target.meter is None:
        return None, None, target.no_meter

    def step() -> None:
        training.prepare()
        training.step()

    try:
        found = measure_energy(target.meter, step, target.clock.wait, seconds, idle_w, plan.energy_seconds, timing)
    except MeterError as error:
        return None, None, str(error)
    return found.energy, found.conditions, ""


def rows_of(parts: list[dict[Label, float]], layers: list[str]) -> tuple[Row, ...]:
    """Median and quartiles by layer and phase, in the order of `layers`. What belongs to no layer comes last."""
    place = {name: number for number, name in enumerate(layers)}
    labels = {label for step in parts for label in step}
    ordered = sorted(labels, key=lambda label: (place.get(label[0], len(layers)), ORDER[label[1]], label[0]))
    rows = []
    for layer, phase in ordered:
        middle, low, high = quartiles([step.get((layer, phase), 0.0) for step in parts])
        rows.append(
            Row(layer=layer, phase=phase, seconds=middle, lower_quartile_seconds=low, upper_quartile_seconds=high)
        )
    return tuple(rows)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """(median, lower quartile, upper quartile)."""
    low, middle, high = (float(v) for v in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return middle, min(low, middle), max(high, middle)


def versions() -> dict[str, str]:
    """Versions of what runs the step."""
    return {"h2sim": __version__, "python": platform.python_version(), "torch": torch.__version__}
