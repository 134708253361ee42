"""Stored results, GPU traces, profiles of GPUs and the rules that map them."""

from __future__ import annotations

import gzip
import json
import math
import tempfile
from functools import cache
from pathlib import Path

from h2sim.compare.ratios import compare, measurement_of
from h2sim.compare.stored import load_result, stored
from h2sim.facade import simulate
from h2sim.gpu.files import from_csv, from_json, load_gpu_trace, to_csv, to_json
from h2sim.gpu.importing import READERS, detect_format, import_profile
from h2sim.gpu.rules import load_rules
from h2sim.gpu.trace import GpuTrace
from h2sim.io import library
from tests.fuzz.containers import change_sqlite, gzipped
from tests.fuzz.kind import Files, Kind, always, expect
from tests.fuzz.kinds_machine import small_arch, tiny_traces
from tests.fuzz.mutate import Rng, change_bytes, change_json, change_text, change_yaml
from tests.helpers import gpu_made

CSV_TOKENS = (
    "nan",
    "inf",
    "-1",
    "1e400",
    '"',
    "''",
    "=1+1",
    "#",
    "# step.seconds: 1",
    ",",
    "x" * 300,
    "\x00",
    "[",
    "{",
    "\u202e",
)


# results


@cache
def _results() -> list[Files]:
    found = [simulate(small_arch(), trace, chips=2 if trace is tiny_traces()[0] else None) for trace in tiny_traces()]
    return [{"r.json": json.dumps(result.to_dict(), indent=1).encode()} for result in found]


def _read_result(folder: Path) -> None:
    document = load_result(folder / "r.json")
    found = stored(document, str(folder / "r.json"))
    step = document["step"]
    expect(found.step.steady_cycles == step["steady_cycles"], "steady_cycles is not the file's")
    expect(found.step.energy_j == step["energy_j"], "energy_j is not the file's")
    expect(len(found.layers) == len(document["layers"]), "rows are missing")
    ours = measurement_of(found, str(folder / "r.json"))
    whole = compare(ours, ours).step
    if whole is not None and ours.seconds > 0:
        expect(whole.ours_seconds == whole.theirs_seconds, "a result is not as fast as itself")


# GPU traces


@cache
def _gpu_traces() -> list[Files]:
    shipped = [library.find("GPU trace", name).read_bytes() for name in library.names("GPU trace")]
    made = json.dumps(gpu_made.fields(), indent=1).encode()
    return [{"g.json": text} for text in (*shipped, made)]


@cache
def _gpu_tables() -> list[Files]:
    return [{"g.csv": to_csv(from_json(files["g.json"].decode(), "base")).encode()} for files in _gpu_traces()]


def _change_csv(rng: Rng, data: bytes) -> bytes:
    if rng.random() < 0.7:
        text = data.decode()
        text = change_text(rng, text.replace(",", " , "), CSV_TOKENS).replace(" , ", ",")
        return text.encode("utf-8", "surrogatepass")
    return change_bytes(rng, data)


def _read_gpu(folder: Path) -> None:
    path = next(folder.glob("g.*"))
    check_gpu_trace(load_gpu_trace(path))


def check_gpu_trace(trace: GpuTrace) -> None:
    """Written as JSON and as CSV, the trace reads back as it was."""
    expect(from_json(to_json(trace), "again") == trace, "JSON reads back as another trace")
    expect(from_csv(to_csv(trace), "again") == trace, "CSV reads back as another trace")
    trace.to_measurement()


# profiles


@cache
def _chrome() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        path = gpu_made.cuda_step().write(Path(folder) / "p.json")
        whole = path.read_bytes()
    data = json.loads(whole)
    few = {**data, "traceEvents": data["traceEvents"][:24]}
    listed = json.dumps(data["traceEvents"]).encode()
    return [{"p.json": text} for text in (whole, json.dumps(few, indent=1).encode(), listed)]


@cache
def _packed() -> list[Files]:
    return [{"p.json.gz": gzip.compress(files["p.json"], 1, mtime=0)} for files in _chrome()]


@cache
def _nsight() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        export = gpu_made.NsysExport(Path(folder) / "p.sqlite")
        for step, at in enumerate((1000, 51_000)):
            export.nvtx(f"ProfilerStep#{step}", at, at + 40_000)
            for number, layer in enumerate(gpu_made.INPUTS):
                begin = at + 1000 + 6000 * number
                export.nvtx(layer, begin, begin + 5000, stored=number == 1)
                export.nvtx(f"aten::conv2d, seq = {10 * step + number}", begin + 100, begin + 900)
                export.kernel("sgemm", begin + 200, begin + 9000, 700 + number)
            export.nvtx(f"autograd::engine: Conv, seq = {10 * step + 1}", at + 30_000, at + 34_000, tid=2)
            export.kernel("dgrad_engine", at + 31_000, at + 36_000, 900, tid=2)
            export.copy(at + 35_000, at + 38_000, 100)
        return [{"p.sqlite": export.close().read_bytes()}]


@cache
def _ruled() -> list[Files]:
    rules = (
        b"rules:\n- {kernel: 'softmax|nll', layer: loss, phase: other}\n"
        b"- {kernel: dgrad, layer: conv2, phase: backward}\n"
        b"- {op: ConvolutionBackward, layer: conv1, phase: weight_update}\n- {op: '^fc', layer: fc1}\n"
    )
    return [
        {"rules.yaml": rules, "p.json": _chrome()[1]["p.json"]},
        {"rules.yaml": rules, "p.json": _chrome()[0]["p.json"]},
    ]


def _read_profile(folder: Path) -> None:
    path = next(folder.glob("p.*"))
    rules = load_rules(folder / "rules.yaml", gpu_made.INPUTS) if (folder / "rules.yaml").exists() else ()
    trace = import_profile(path, gpu_made.MADE, rules)
    check_gpu_trace(trace)
    profile = READERS[detect_format(path)](path)
    steps = trace.step.repeats or 1
    rows = math.fsum(row.seconds for row in trace.rows) * steps
    works = sum(work.ns for work, _ in profile.works) / 1e9
    expect(
        math.isclose(rows, works, rel_tol=1e-9, abs_tol=1e-12),
        f"rows come to {rows} s, the profile's work to {works} s",
    )


def _import(folder: Path) -> tuple[str, ...]:
    path = next(folder.glob("p.*"))
    rules = ("--map", str(folder / "rules.yaml")) if (folder / "rules.yaml").exists() else ()
    return ("gpu", "import", str(path), "--network", "mnist-small", "--batch", "4", *rules, "-o", "-")


KINDS = (
    Kind(
        "stored result",
        _results,
        always(change_json),
        _read_result,
        lambda folder: ("compare", str(folder / "r.json"), str(folder / "r.json")),
        share=1.5,
    ),
    Kind("GPU trace, JSON", _gpu_traces, always(change_json), _read_gpu, lambda f: ("gpu", "show", str(f / "g.json"))),
    Kind("GPU trace, CSV", _gpu_tables, always(_change_csv), _read_gpu, lambda f: ("gpu", "show", str(f / "g.csv"))),
    Kind("GPU profile, Chrome", _chrome, always(change_json), _read_profile, _import),
    Kind("GPU profile, gzip", _packed, always(gzipped(change_json)), _read_profile, _import, share=0.5),
    Kind("GPU profile, Nsight", _nsight, always(change_sqlite), _read_profile, _import),
    Kind(
        "rules file",
        _ruled,
        always(change_yaml),
        _read_profile,
        _import,
        share=0.7,
        changed=frozenset({"rules.yaml"}),
    ),
)
