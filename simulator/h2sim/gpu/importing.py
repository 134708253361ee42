"""A GPU trace from a profile made elsewhere: torch.profiler's Chrome trace or Nsight Systems' SQLite export."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
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
from h2sim.io.reading import check_file

READERS = {"chrome": read_chrome, "nsys": read_nsys}
ORDER = {"forward": 0, "backward": 1, "weight_update": 2, "other": 3}
OUTSIDE: Label = ("outside steps", "other")
_STEP = re.compile(r"ProfilerStep#\d+")
MOST_NAMED = 5
MOST_ROWS = 10_000
MOST_AROUND = 50_000_000  # events around all works: what it takes to look at every work's
MOST_BYTES = 64 << 30
CLOCK_NS = 1000  # by which the times of two ranges may be off
MOST_DAYS = 30  # of a whole profile
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
        check_file(path, MOST_BYTES)  # a pipe could block, and nothing could be read twice from it
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {fault.strerror}") from None
    if path.suffix in (".nsys-rep", ".qdrep"):
        wanted = "an export of it (nsys export --type sqlite)"
        raise GpuTraceError(at(str(path), "format", wanted, f"{path.suffix[1:]} itself"))
    if head.startswith(b"SQLite format 3\0"):
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
    _check(profile, path)
    all_spans = [] if made.steps else step_spans(profile, path)
    spans = _launching(profile, all_spans)
    if all_spans and not spans:
        wanted = "ProfilerStep# ranges in which something was launched (or --steps)"
        raise GpuTraceError(at(str(path), "step", wanted, f"{len(all_spans):,} in which nothing was"))
    where = [_step_of(profile.launched_ns(*pair), spans) for pair in works]
    mapper = Mapper(profile, made.inputs, rules)
    mapped = mapper.map([pair for pair, step in zip(works, where, strict=True) if not spans or step >= 0])
    if not any(phase != "other" for _, phase in mapped.ns):
        wanted = "at least one that maps to a layer (ranges named like layers, or --map)"
        raise GpuTraceError(at(str(path), "kernels", wanted, _largest(mapped.unmapped_ns) or "none"))
    if len(mapped.ns) > MOST_ROWS:
        wanted = f"at most {MOST_ROWS:,} different names (ranges h2sim:...)"
        raise GpuTraceError(at(str(path), "events", wanted, f"{len(mapped.ns):,}"))
    for pair, step in zip(works, where, strict=True):
        if spans and step < 0:
            mapped.add(OUTSIDE, pair[0])
    with checked(str(path)):
        return _trace(path, made, profile, mapped, (spans, len(all_spans) - len(spans)), command)


def _of_one_device(profile: Profile, path: Path, gpu: int | None) -> Profile:
    """The profile of one GPU, or of the processor alone: never the times of one under the name of another."""
    if not profile.kernels and profile.launched:
        wanted = "kernels, for the profile shows launches (record ProfilerActivity.CUDA too)"
        raise GpuTraceError(at(str(path), "kernels", wanted, "none"))
    there = profile.gpus
    if gpu is None and len(there) > 1:
        wanted = f"--gpu with one of {', '.join(map(str, there[:MOST_NAMED]))}, whose kernels are in the profile"
        raise GpuTraceError(at(str(path), "kernels", wanted, f"{len(there)} GPUs"))
    if gpu is not None and gpu not in there:
        known = ", ".join(map(str, there[:MOST_NAMED])) or "none that the file names"
        raise GpuTraceError(at(str(path), "--gpu", f"one of the GPUs with kernels: {known}", gpu))
    chosen = profile if gpu is None else _told(profile, gpu)
    return replace(chosen, remarks=(*chosen.remarks, *_lost(profile)))


def _lost(profile: Profile) -> list[str]:
    lost = profile.lost if profile.kernels else 0
    return [f"left out: {lost:,} launches whose kernels are not in the profile"] if lost else []


def _told(profile: Profile, gpu: int) -> Profile:
    """The profile of one GPU, which says how many works it leaves out."""
    chosen, left = profile.on(gpu), dict(profile.left_out)
    silent = sum(work.device is None for work in profile.kernels) - sum(work.device is None for work in chosen.kernels)
    others = len(profile.kernels) - len(chosen.kernels) - silent
    counts = {"kernels and copies of other GPUs": others, "kernels and copies that do not say their GPU": silent}
    return replace(chosen, left_out={**left, **{what: n for what, n in counts.items() if n}})


def _check(profile: Profile, path: Path) -> None:
    """Refuses what would add up two GPUs, join kernels to another process's calls, or take for ever."""
    homes = max((profile.homes.get(device, 1) for device in {work.device for work in profile.kernels}), default=1)
    if homes > 1:
        wanted = "the kernels of a GPU in one process of the file (does it join the profiles of several ranks?)"
        raise GpuTraceError(at(str(path), "kernels", wanted, f"{homes} processes, each with a GPU of that number"))
    shared = {work.launch for work in profile.kernels} & profile.clashing
    if shared:
        wanted = "ids of the calls of one process (does the file join the profiles of several ranks?)"
        got = f"id {min(shared, key=str)} in two"
        raise GpuTraceError(at(str(path), "correlation", wanted, got))
    if profile.kernels and profile.processes > 1 and not profile.told_apart:
        wanted = "one process that launches a GPU's kernels (does the file join the profiles of several ranks?)"
        raise GpuTraceError(at(str(path), "kernels", wanted, f"{profile.processes} processes"))
    longest = max((work.ns for work in profile.kernels), default=0)
    if longest > DAY_NS:
        raise GpuTraceError(at(str(path), "kernels", "times of less than a day", f"{longest / DAY_NS:,.1f} days"))
    around = sum(profile.depths[index] for _, index in profile.works if index >= 0)
    if around > MOST_AROUND:
        wanted = f"at most {MOST_AROUND:,} operations and ranges around all kernels (they are nested too deeply)"
        raise GpuTraceError(at(str(path), "events", wanted, f"{around:,}"))


def _device_name(profile: Profile) -> str:
    """The name of the GPU whose kernels count. Times of the processor never carry a GPU's name."""
    if not profile.kernels:
        return "unknown processor"
    names = profile.devices
    found = names.get(profile.gpus[0]) if profile.gpus else next(iter(names.values())) if len(names) == 1 else None
    return printable(found or "") or "unknown GPU"


def step_spans(profile: Profile, path: Path) -> list[Event]:
    """The profile's ProfilerStep# ranges, in order of time. Raises GpuTraceError if one begins before another ends."""
    found = [event for event in profile.events if event.kind == "range" and _STEP.fullmatch(event.name)]
    spans = sorted(found, key=lambda event: (event.start_ns, event.end_ns))
    for first, second in pairwise(spans):
        if second.start_ns < first.end_ns - CLOCK_NS:
            wanted = "ProfilerStep# ranges one after another"
            got = f"{printable(second.name)} before the end of {printable(first.name)}"
            raise GpuTraceError(at(str(path), "step", wanted, got))
    longest = max((span.end_ns - span.start_ns for span in spans), default=0)
    if longest > DAY_NS:
        raise GpuTraceError(at(str(path), "step", "ranges of less than a day", f"{longest / DAY_NS:,.1f} days"))
    return spans


def _launching(profile: Profile, spans: list[Event]) -> list[Event]:
    """The ranges in which something was launched: the others are no steps, and would make every row shorter."""
    used = {_step_of(profile.launched_ns(*pair), spans) for pair in profile.works} if spans else set()
    return [span for place, span in enumerate(spans) if place in used]


def _step_of(ns: int, spans: list[Event]) -> int:
    """Index of the last range that has begun, if it has not ended; else -1."""
    place = bisect_right(spans, ns, key=lambda span: span.start_ns) - 1
    return place if place >= 0 and ns < spans[place].end_ns else -1


def _trace(
    path: Path, made: Made, profile: Profile, mapped: Mapped, found: tuple[list[Event], int], command: str | None
) -> GpuTrace:
    spans, idle = found
    steps = made.steps or max(1, len(spans))
    empty = [f"left out: {idle:,} ProfilerStep# ranges in which nothing was launched"] if idle else []
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
        notes=(*_notes(profile, mapped, steps), *empty),
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
    if last - first > min(DAY_NS * steps, MOST_DAYS * DAY_NS):
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
    notes += profile.remarks
    silent = sum(work.device is None for work in profile.kernels)
    if silent:
        notes.append(f"{silent:,} kernels and copies do not say on which GPU they ran")
    if profile.kernels and profile.processes > 1:
        notes.append(f"the kernels of {profile.processes} processes on this GPU are counted together")
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
