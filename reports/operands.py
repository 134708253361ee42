"""What each rule for operands is worth in a recorded step with batch norm and maxima: reports/operands.md.

    python reports/operands.py TRACE > operands.md

TRACE holds values (grad_membrane); how it was made stands in the report. Every line is the same step with one rule
taken away.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import h2sim
from h2sim.activity import Activity
from h2sim.arch import Arch
from h2sim.engines import backward
from h2sim.trace import Trace, load_trace, write_trace
from h2sim.trace.bits import pack

ARCH = h2sim.load_arch("h2learn")


def main(path: str) -> None:
    """Prints the report of a trace."""
    trace = load_trace(path)
    whole = counted(ARCH, trace)
    rows = [("as simulated", whole)]
    rows.append(("without the norms' dense gradient: masks of dm != 0, as version 1 has them", of_dm(path)))
    free = ARCH.with_({"normalisation.model": "none"})
    rows.append(("without the norms' second passes (normalisation: none)", counted(free, trace)))
    rows.append(("without both, which is what version 1 of the format would have said", of_dm(path, free)))
    rows.append(
        ("without the rule of maxima in the backward pass: every element of a pooled map is needed", all_needed(path))
    )
    for mode in ("output_only", "input_only", "dense"):
        rows.append((f"mode {mode}", counted(ARCH.with_({"engines.backward.mode": mode}), trace)))
    what = f"{trace.meta.network}, T={trace.meta.timesteps}, batch {trace.meta.batch}"
    print(f"| {what} | step | x | Backward Engine | x | off-chip MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for text, activity in rows:
        print(_line(text, activity, whole))
    print()
    print("| maxima of spikes are read as bits; multiplied, forward cycles of | looked up | multiplied | x |")
    print("|---|---:|---:|---:|")
    for layer in trace.meta.layers:
        below = layer.inputs[0]
        if layer.kind == "conv" and below != "input" and trace.meta.layer(below).is_map:
            looked_up = next(r for r in whole.layers if (r.layer, r.phase) == (layer.name, "forward")).compute_cycles
            shape = trace.meta.conv_shape(layer)
            macs = backward.encode_forward(ARCH.engines.backward, ARCH.tile, shape).compute_cycles
            print(f"| {layer.name} | {looked_up:,} | {macs:,} | {macs / looked_up:.2f} |")


def counted(arch: Arch, trace: Trace) -> Activity:
    """The counts of a step."""
    return h2sim.count(arch, trace).activity


def of_dm(path: str, arch: Arch = ARCH) -> Activity:
    """The step with the gradient masks of the membranes, not of what their norm sends on."""
    with np.load(path) as file:
        members = {name: file[name] for name in file.files}
    meta = json.loads(members.pop("meta").tobytes())
    for entry in meta["layers"]:
        if entry.get("norm"):
            dm = members[f"{entry['name']}.grad_membrane"]
            members[f"{entry['name']}.grad"] = pack((dm != 0).reshape(*dm.shape[:2], -1))
    with tempfile.TemporaryDirectory() as folder:
        write_trace(Path(folder) / "dm.npz", meta, members)
        return counted(arch, load_trace(Path(folder) / "dm.npz"))


def all_needed(path: str) -> Activity:
    """The step in which a map's gradient is computed everywhere."""
    trace = load_trace(path)
    for layer in trace.meta.layers:
        if layer.is_map:
            trace.maps.kept.keep(("needed", layer.name), np.full_like(trace.maps.packed(layer.name, "needed"), 255))
    return counted(ARCH, trace)


def _line(text: str, activity: Activity, whole: Activity) -> str:
    def engine(of: Activity) -> int:
        return sum(row.compute_cycles for row in of.layers if row.engine == "backward")

    moved = sum(row.offchip_read_bytes + row.offchip_write_bytes for row in activity.layers) / 1e6
    steps, cycles = activity.steady_cycles, engine(activity)
    ratios = steps / whole.steady_cycles, cycles / engine(whole)
    return f"| {text} | {steps:,} | {ratios[0]:.3f} | {cycles:,} | {ratios[1]:.3f} | {moved:.2f} |"


if __name__ == "__main__":
    main(sys.argv[1])
