"""Traces, machines, prices and networks: what a simulation reads. An accepted mutant is held to the stepped engines."""

from __future__ import annotations

import json
import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arch import Arch, load_arch, parse_arch
from h2sim.compare.stored import stored
from h2sim.energy import EnergyTable, load_energy_table, parse_energy_table
from h2sim.errors import BaselineError, EnergyTableError, NetworkError, TraceError
from h2sim.facade import count as count_step
from h2sim.facade import priced, simulate
from h2sim.io import library
from h2sim.report.table import table_yaml
from h2sim.rivals.registry import MODULES, load_machine, run_rival
from h2sim.trace import Network, Sparsity, Trace, load_network, load_trace, synthesise, write_trace
from tests.fuzz.containers import change_npz
from tests.fuzz.kind import Files, Kind, Wrong, always, expect
from tests.fuzz.mutate import change_yaml, from_yaml, to_yaml
from tests.fuzz.stepped import affordable, check_counts

NETWORKS = {
    "conv": ("2C3-AP2-2C3-3FC", (1, 4, 4), "spikes"),
    "encode": ("2C3S2(Encoding)-2C3-3FC", (1, 5, 5), "analog"),
    "fc": ("5FC-3FC", (1, 2, 3), "spikes"),
}
RESIDUAL = """
name: residual
input: {shape: [1, 4, 4], kind: spikes}
timesteps: 2
layers:
- {name: a, kind: conv, inputs: [input], in_shape: [1, 4, 4], out_shape: [2, 4, 4], kernel: [3, 3], stride: [1, 1],
   padding: [1, 1]}
- {name: b, kind: conv, inputs: [a], in_shape: [2, 4, 4], out_shape: [2, 4, 4], kernel: [3, 3], stride: [1, 1],
   padding: [1, 1], spiking: false}
- {name: c, kind: add, inputs: [b, a], in_shape: [2, 4, 4], out_shape: [2, 4, 4], neuron: {threshold: 0.5}}
- {name: d, kind: fc, inputs: [c], in_features: 32, out_features: 2, spiking: false}
"""
MOST_NEURONS = 20_000


def trace_bytes(network: Network, seed: int = 1, batch: int = 1, timesteps: int = 2) -> bytes:
    """A small synthetic trace of a network, as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.npz"
        write_trace(path, *synthesise(network, timesteps, batch, Sparsity(0.6, 0.4, 0.5), seed))
        return path.read_bytes()


def _network(name: str) -> Network:
    if name == "residual":
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "n.yaml").write_text(RESIDUAL)
            return load_network(str(Path(folder) / "n.yaml"))
    notation, shape, _ = NETWORKS[name]
    return load_network(notation, shape)


@cache
def small_arch() -> Arch:
    """An H2Learn small enough that every loop of it goes round more than once on the traces here."""
    data = load_arch("h2learn").model_dump()
    data["tile"] = {"height": 3, "width": 2}
    for name, sizes in (("forward", (2, 1, 2)), ("weight_update", (1, 1, 3)), ("backward", (1, 2, 2))):
        data["engines"][name] |= dict(zip(("rows", "columns", "parallelism"), sizes, strict=True))
    return parse_arch(data, "small")


# traces


@cache
def _traces() -> list[Files]:
    with_values = (Path(__file__).parents[1] / "data" / "encode-residual.npz").read_bytes()
    made = [{"t.npz": trace_bytes(_network(name), batch=2 if name == "fc" else 1)} for name in (*NETWORKS, "residual")]
    return [*made, *made, {"t.npz": with_values}]


def _read_trace(folder: Path) -> None:
    trace = load_trace(folder / "t.npz")
    trace.check()
    tuple(trace.broken_laws)
    arch = small_arch()
    if affordable(arch, trace.meta):
        faults = check_counts(arch, trace)
        expect(not faults, "; ".join(faults))
    _check_result(simulate(arch, trace, _table()))
    _check_copy(trace, folder)


def _check_copy(trace: Trace, folder: Path) -> None:
    """What was read, written again and read again is the same."""
    with np.load(trace.path, allow_pickle=False) as members:
        meta = json.loads(members["meta"].tobytes())
        kept = {name: members[name] for name in members.files if trace.has(name)}
    copy = folder / "copy.npz"
    try:
        write_trace(copy, meta, kept)
        again = load_trace(copy)
        expect(again.meta == trace.meta, "the copy's metadata differ")
        for layer in trace.meta.layers:
            for kind in ("spikes", "window", "grad"):
                if trace.has(f"{layer.name}.{kind}"):
                    same = np.array_equal(again.mask(layer.name, kind), trace.mask(layer.name, kind))
                    expect(same, f"the copy's {layer.name}.{kind} differs")
    finally:
        copy.unlink(missing_ok=True)


def _check_result(result: Any) -> None:
    """A result's document holds no number that JSON has not, reads back, and its bill comes to its energy."""
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    found = stored(document, "result")
    expect(found.step.steady_cycles == result.activity.steady_cycles, "the stored cycles differ")
    near = math.isclose(found.bill_energy_j, found.step.energy_j, rel_tol=1e-9, abs_tol=1e-30)
    expect(near, f"the bill comes to {found.bill_energy_j} J, the step to {found.step.energy_j} J")


# arch files of every kind of machine


@cache
def _machines() -> list[Files]:
    rivals = [load_machine(name) for name in MODULES]
    made = [{"a.yaml": to_yaml(machine.model_dump(mode="json"))} for machine in (small_arch(), *rivals)]
    return [*(made[:1] * 4), *made, {"a.yaml": library.find("arch", "h2learn").read_bytes()}]


@cache
def _table() -> EnergyTable:
    return load_energy_table("28nm")


@cache
def tiny_traces() -> tuple[Trace, ...]:
    """Traces of every kind of layer, kept in a folder for as long as the process lives."""
    folder = Path(tempfile.mkdtemp(prefix="h2sim-fuzz-"))
    for name in (*NETWORKS, "residual"):
        (folder / f"{name}.npz").write_bytes(trace_bytes(_network(name)))
    return tuple(load_trace(path) for path in sorted(folder.glob("*.npz")))


def _read_machine(folder: Path) -> None:
    machine = load_machine(folder / "a.yaml")
    if not isinstance(machine, Arch):
        for trace in tiny_traces():
            try:
                json.dumps(run_rival(machine, trace, _table()).to_dict(), allow_nan=False)
            except (BaselineError, EnergyTableError):  # a network that does not fit, a buffer that no macro makes
                continue
        return
    for trace in tiny_traces():
        if not affordable(machine, trace.meta):
            count_step(machine, trace)
            continue
        faults = check_counts(machine, trace)
        expect(not faults, "; ".join(faults))
        _priced(machine, trace)


def _priced(machine: Arch, trace: Trace) -> None:
    counts = count_step(machine, trace)
    try:
        result = priced(counts, _table())
    except EnergyTableError:  # no such LUT or SRAM in the table
        return
    _check_result(result)


# energy tables and the files that they name


@cache
def _tables() -> list[Files]:
    folder = library.folder("energy table")
    base = load_energy_table("28nm").model_dump(mode="json", exclude_none=True)
    part = {"node_nm": 28, **base.pop("sram")}
    part["macros"] = [macro for macro in part["macros"] if macro[0] in (16384, 65536)]  # short: YAML takes its time
    own = {"extends": "base.yaml", "name": "mine", "actions": {"fp16_add": {"energy_pj": 0.25, "method": "mine"}}}
    files = {"base.yaml": to_yaml({**base, "sram": {"part": "part.yaml"}}), "part.yaml": to_yaml(part)}
    whole = [{"e.yaml": (folder / f"{name}.yaml").read_bytes()} for name in ("28nm-calibrated", "28nm-torng", "45nm")]
    return [*([{"e.yaml": to_yaml(own), **files}] * 8), *whole]


def _read_table(folder: Path) -> None:
    table = load_energy_table(folder / "e.yaml")
    again = parse_energy_table(from_yaml(table_yaml(table)), "again")
    expect(again.model_dump() == table.model_dump(), "the table that was written reads back as another")
    counts = _counted()
    try:
        result = priced(counts, table)
    except EnergyTableError as error:  # right by itself, but not for this machine, and known by its name
        expect(all(line.startswith(f"energy table {table.name}: ") for line in error.lines), "the table is not named")
        raise EnergyTableError(*(f"{folder}: {line}" for line in error.lines)) from None
    _check_result(result)
    dynamic = math.fsum(c.count * c.unit_pj for c in result.cost.charges if c.group != "leakage")
    charged = math.fsum(c.energy_pj for c in result.cost.charges if c.group != "leakage")
    expect(math.isclose(dynamic, charged, rel_tol=1e-9, abs_tol=1e-30), "count x price is not the charge")


@cache
def _counted() -> Any:
    return count_step(small_arch(), tiny_traces()[0])


# network files


@cache
def _networks() -> list[Files]:
    names = ("mnist-small", "encode-residual", "resnet12", "gpu-cifar10", "attack-events")
    shipped = [{"n.yaml": library.find("network", name).read_bytes()} for name in names]
    return [{"n.yaml": RESIDUAL.encode()}, {"n.yaml": RESIDUAL.encode()}, *shipped]


def check_network(network: Network, folder: Path) -> None:
    """A network's file that is written from what was read gives the same network, and its trace the stepped counts."""
    data = {
        "name": network.name,
        "source": network.source,
        "input": {"shape": list(network.input_shape), "kind": network.input_kind},
        "timesteps": network.timesteps,
        "layers": [dict(layer) for layer in network.layers],
    }
    if network.neuron is not None:
        data["neuron"] = dict(network.neuron)
    copy, made = folder / "copy.yaml", folder / "copy.npz"
    try:
        copy.write_text(json.dumps(data))
        expect(load_network(str(copy)) == network, "the network that was written reads back as another")
        if _neurons(network) > MOST_NEURONS:
            return
        write_trace(made, *synthesise(network, 1, 1, Sparsity(0.6, 0.4, 0.5), 1))
        trace = load_trace(made)
        if affordable(small_arch(), trace.meta):
            faults = check_counts(small_arch(), trace)
            expect(not faults, "; ".join(faults))
    except NetworkError as error:
        raise Wrong(f"the network that was written is refused: {error}") from None
    except TraceError as error:
        raise Wrong(f"the network's trace is refused: {error}") from None
    finally:
        copy.unlink(missing_ok=True)
        made.unlink(missing_ok=True)


def _neurons(network: Network) -> int:
    sizes = [layer.get("out_shape") or [layer["out_features"]] for layer in network.layers]
    return math.prod(network.input_shape) + sum(math.prod(size) for size in sizes)


def _read_network(folder: Path) -> None:
    check_network(load_network(str(folder / "n.yaml")), folder)


KINDS = (
    Kind(
        "trace",
        _traces,
        always(change_npz),
        _read_trace,
        lambda folder: ("run", "h2learn", str(folder / "t.npz"), "--json", "-"),
        share=2.0,
    ),
    Kind(
        "arch file",
        _machines,
        always(change_yaml),
        _read_machine,
        lambda folder: ("arch", "check", str(folder / "a.yaml")),
        share=1.2,
    ),
    Kind(
        "energy table",
        _tables,
        always(change_yaml),
        _read_table,
        lambda folder: ("table", "check", str(folder / "e.yaml")),
        share=0.8,
    ),
    Kind(
        "network file",
        _networks,
        always(change_yaml),
        _read_network,
        lambda folder: ("workload", "show", str(folder / "n.yaml")),
        share=1.2,
    ),
)
