"""A GPU trace from a profile made elsewhere: torch.profiler's Chrome trace or Nsight Systems' SQLite export."""

from __future__ import annotations

import hashlib
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from h2sim._version import __version__
from h2sim.activity import PHASES
from h2sim.errors import GpuTraceError, at
from h2sim.gpu.chrome import read_chrome
from h2sim.gpu.clock import Label
from h2sim.gpu.mapping import UNMAPPED, Mapped, Mapper
from h2sim.gpu.nsys import read_nsys
from h2sim.gpu.profile import Event, Profile, Work, busy_ns
from h2sim.gpu.rules import Rule
from h2sim.gpu.trace import SCHEMA, VERSION, GpuTrace, Row, Step, checked, device_of, printable

READERS = {"chrome": read_chrome, "nsys": read_nsys}
ORDER = {"forward": 0, "backward": 1, "weight_update": 2, "other": 3}
OUTSIDE: Label = ("outside steps", "other")
_STEP = re.compile(r"ProfilerStep#\d+")
MOST_NAMED = 5
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a profile does not say about the step behind it.

    inputs: the layers of the network in order, with the names of what each reads. steps: how many steps the profile
    holds; None: count its ProfilerStep# ranges. given: fields of the device that the user knows.
    """

    network: str
    inputs: Mapping[str, tuple[str, ...]]
    batch: int
    timesteps: int | None = None
    dataset: str = "not said"
    implementation: str = "imported"
    steps: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


def detect_format(path: Path) -> str:
    """'chrome' or 'nsys', by the file's first bytes. Raises GpuTraceError if it is neither."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {fault.strerror}") from None
    if path.suffix in (".nsys-rep", ".qdrep"):
        wanted = "an export of it (nsys export --type sqlite)"
        raise GpuTraceError(at(str(path), "format", wanted, f"{path.suffix[1:]} itself"))
    if head == b"SQLite format 3\0":
        return "nsys"
    if head[:2] == b"\x1f\x8b" or head.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"["):
        return "chrome"
    raise GpuTraceError(at(str(path), "format", "a Chrome trace (JSON) or a SQLite export", repr(head[:8])))


def import_profile(
    path: Path,
    made: Made,
    rules: tuple[Rule, ...] = (),
    form: str | None = None,
    command: str | None = None,
    gpu: int | None = None,
) -> GpuTrace:
    """The GPU trace of a profile. A row's time is the sum of the times of its kernels, per step.

    rules: the user's, which are asked first. form: 'chrome' or 'nsys'; None: see detect_format. gpu: whose kernels
    count; needed where there are several. Raises GpuTraceError if the file is no profile, if nothing ran in it, if it
    shows launches and no kernels, and if none of its kernels maps to a layer.
    """
    profile = _of_one_device(READERS[form or detect_format(path)](path), path, gpu)
    works = profile.works
    if not works:
        raise GpuTraceError(at(str(path), "events", "kernels, or operations of the processor", "none"))
    spans = [] if made.steps else step_spans(profile)
    inside = [pair for pair in works if not spans or _within(profile.launched_ns(*pair), spans)]
    mapped = Mapper(profile, made.inputs, rules).map(inside)
    if not any(phase != "other" for _, phase in mapped.ns):
        wanted = "at least one that maps to a layer (ranges named like layers, or --map)"
        raise GpuTraceError(at(str(path), "kernels", wanted, _largest(mapped.unmapped_ns) or "none"))
    for work, _ in [pair for pair in works if spans and not _within(profile.launched_ns(*pair), spans)]:
        mapped.add(OUTSIDE, work)
    with checked(str(path)):
        return _trace(path, made, profile, mapped, spans, command)


def _of_one_device(profile: Profile, path: Path, gpu: int | None) -> Profile:
    """The profile of one GPU, or of the processor alone: never the times of one under the name of another."""
    if not profile.kernels and profile.launched:
        wanted = "kernels, for the profile shows launches (record ProfilerActivity.CUDA too)"
        raise GpuTraceError(at(str(path), "kernels", wanted, "none"))
    there = profile.gpus
    if gpu is None and len(there) > 1:
        wanted = f"--gpu with one of {', '.join(map(str, there))}, whose kernels are in the profile"
        raise GpuTraceError(at(str(path), "kernels", wanted, f"{len(there)} GPUs"))
    if gpu is None:
        return profile
    if gpu not in there:
        known = ", ".join(map(str, there)) or "none that the file names"
        raise GpuTraceError(at(str(path), "--gpu", f"one of the GPUs with kernels: {known}", gpu))
    return profile.on(gpu)


def _device_name(profile: Profile) -> str:
    """The name of the GPU whose kernels count. Times of the processor never carry a GPU's name."""
    if not profile.kernels:
        return "unknown processor"
    names = profile.devices
    found = names.get(profile.gpus[0]) if profile.gpus else next(iter(names.values())) if len(names) == 1 else None
    return printable(found or "") or "unknown GPU"


def step_spans(profile: Profile) -> list[Event]:
    """The profile's ProfilerStep# ranges, in order of time."""
    found = [event for event in profile.events if event.kind == "range" and _STEP.fullmatch(event.name)]
    return sorted(found, key=lambda event: event.start_ns)


def _within(ns: int, spans: list[Event]) -> bool:
    return any(span.start_ns <= ns < span.end_ns for span in spans)


def _trace(
    path: Path, made: Made, profile: Profile, mapped: Mapped, spans: list[Event], command: str | None
) -> GpuTrace:
    steps = made.steps or max(1, len(spans))
    there = {phase for _, phase in mapped.ns}
    return GpuTrace(
        schema=SCHEMA,
        version=VERSION,
        origin="imported",
        network=made.network,
        dataset=made.dataset,
        samples=made.batch,
        batch=made.batch,
        timesteps=made.timesteps,
        phases=tuple(phase for phase in PHASES if phase in there),
        implementation=made.implementation,
        device=device_of({"name": _device_name(profile), **made.given}, str(path)),
        step=_step(path, profile, spans, steps),
        rows=_rows(mapped, list(made.inputs), steps),
        software={"h2sim": __version__},
        command=command,
        sources={"rows": _hashed(path), "step.seconds": _hashed(path)},
        notes=_notes(profile, mapped, steps),
    )


def _step(path: Path, profile: Profile, spans: list[Event], steps: int) -> Step:
    """The median of the steps' ranges. Without ranges: (last end - first launch) / steps. Raises GpuTraceError."""
    if spans:
        seconds = np.array([(span.end_ns - span.start_ns) / 1e9 for span in spans])
        low, middle, high = (float(v) for v in np.quantile(seconds, (0.25, 0.5, 0.75)))
        return Step(
            seconds=middle,
            lower_quartile_seconds=min(low, middle),
            upper_quartile_seconds=max(high, middle),
            repeats=steps,
        )
    first = min(min(profile.launched_ns(work, index), work.start_ns) for work, index in profile.works)
    last = max(work.end_ns for work, _ in profile.works)
    if last - first > DAY_NS * steps:
        wanted = "steps of less than a day (does an event stand at time 0? name the steps by ProfilerStep# ranges)"
        raise GpuTraceError(at(str(path), "step", wanted, f"{(last - first) / steps / DAY_NS:,.1f} days"))
    return Step(seconds=max(1, last - first) / 1e9 / steps, repeats=steps)


def _rows(mapped: Mapped, layers: list[str], steps: int) -> tuple[Row, ...]:
    place = {name: number for number, name in enumerate(layers)}
    rows = []
    for layer, phase in sorted(mapped.ns, key=lambda key: (place.get(key[0], len(layers)), ORDER[key[1]], key[0])):
        kernels = mapped.kernels[layer, phase]
        per_step = None if kernels % steps else kernels // steps
        rows.append(Row(layer=layer, phase=phase, seconds=mapped.ns[layer, phase] / 1e9 / steps, kernels=per_step))
    return tuple(rows)


def _notes(profile: Profile, mapped: Mapped, steps: int) -> tuple[str, ...]:
    works: list[Work] = [work for work, _ in profile.works]
    total = sum(work.ns for work in works)
    what = "kernels and copies" if profile.kernels else "outermost operations of the processor (no kernels)"
    notes = [
        f"rows: sums of {what}, {len(works)} in {steps} steps; gaps between them are in no row",
        f"each counts in full where several run at once: {_ms(total)} in all, {_ms(busy_ns(works))} busy",
    ]
    unmapped = mapped.ns[UNMAPPED]
    if unmapped:
        notes.append(f"unmapped: {unmapped / total:.1%} of the time; the largest: {_largest(mapped.unmapped_ns)}")
    notes += [f"left out: {count:,} {what}" for what, count in profile.left_out.items()]
    if mapped.halved_ns:
        share = f"{mapped.halved_ns / total:.1%} of the time"
        notes.append(f"[A] {share} halved between backward and weight_update: no name says which gradient it computes")
    return tuple(notes)


def _largest(unmapped: Counter[str]) -> str:
    top = sorted(unmapped.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED]
    return ", ".join(f"{printable(name)} {_ms(ns)}" for name, ns in top)


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return f"{printable(path.name)}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
