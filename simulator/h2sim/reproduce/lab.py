"""The simulations behind the figures, each made once: machines, tables and workloads by setting."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from h2sim.activity import PHASES, Activity, Phase
from h2sim.arch import Arch, arch_sha256, load_arch
from h2sim.energy import Cost, EnergyTable, load_energy_table, parse_energy_table, price
from h2sim.errors import ReproductionError
from h2sim.facade import simulate
from h2sim.io.fields import with_fields
from h2sim.io.progress import Say
from h2sim.pipeline.step import simulate_job
from h2sim.reproduce.setting import Chw, Setting
from h2sim.result import Result
from h2sim.trace import (
    Sparsity,
    Structure,
    Trace,
    load_network,
    load_trace,
    reported_sparsity,
    reported_spikes,
    synthesise,
    write_trace,
)

LAYER_SPARSITY = 0.75  # section 3.3.2: of both masks of the layer of figures 3.11 to 3.13
SEED = 0
Made = TypeVar("Made")


class Lab:
    """Makes machines, tables, traces and simulations for a setting, each once, and keeps them.

    A context manager: its synthetic traces are files in a temporary folder, which goes when the block ends.
    """

    def __init__(self, progress: Say | None = None) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="h2sim-reproduce-")
        self._progress = progress or (lambda what: None)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def arch(self, setting: Setting, fields: Mapping[str, Any] | None = None) -> Arch:
        """h2learn with the setting's fields set, and then `fields`; both map dotted paths of the arch file to values.

        All buffers are setting.buffer_scale times as large. Raises ReproductionError for a path that does not exist.
        """
        changes = {**setting.arch, **(fields or {})}
        arch = with_fields(load_arch("h2learn"), changes, "setting: arch of h2learn", ReproductionError)
        return arch.with_(_grown(arch, setting.buffer_scale)) if setting.buffer_scale != 1 else arch

    def table(self, setting: Setting) -> EnergyTable:
        """The setting's energy table, with each price that setting.prices names at the low or high end of its range."""
        return self.once(
            (
                "table",
                setting.table,
                _key(setting.prices),
                setting.area_scale,
                setting.leakage_scale,
                setting.adder_area_um2,
            ),
            lambda: _priced(setting),
        )

    def trace(self, name: str, setting: Setting, batch: int = 4, phases: tuple[str, ...] | None = None) -> Trace:
        """A trace of a shipped network: the setting's trace of real training where it names one, else SYNTHETIC masks.

        Synthetic masks have the sparsities of table 3.2, and 75 % in both masks for conv256 (section 3.3.2).
        """
        if name in setting.traces:
            return self.once(("real", setting.traces[name]), lambda: load_trace(setting.traces[name]))
        shape = setting.input_shapes.get(name)
        masks = tuple(setting.masks) if setting.masks else None  # (field, value) pairs: what can be a key
        own = (setting.spikes, masks, setting.layer_window, setting.pool_before_fire)
        key = ("trace", name, batch, phases, shape, *own)
        return self.once(key, lambda: self._written(name, shape, setting, batch, phases))

    def run(self, name: str, setting: Setting) -> Result:
        """A whole training step of a network on the setting's machine, priced by the setting's table."""
        return self._run(self.trace(name, setting), setting)

    def layer(
        self, arch: Arch, setting: Setting, phase: Phase, name: str = "conv256", layer: str = "conv2"
    ) -> Activity:
        """One layer in one phase, simulated alone on its engine, memory included."""
        trace = self.trace(name, setting)
        key = ("layer", arch_sha256(arch), trace.sha256, layer, phase, setting.ideal_memory)
        return self.once(key, lambda: simulate_job(arch, trace, layer, phase, ideal_memory=setting.ideal_memory))

    def layer_cost(self, arch: Arch, setting: Setting, phase: Phase) -> tuple[Activity, Cost]:
        """The layer conv2 of conv256 in one phase, alone on its engine, and its price."""
        activity = self.layer(arch, setting, phase)
        return activity, price(activity, arch, self.table(setting))

    def inference(self, name: str, setting: Setting) -> Result:
        """The forward pass of one sample (table 3.7)."""
        return self._run(self.trace(name, setting, 1, ("forward",)), setting)

    def _run(self, trace: Trace, setting: Setting) -> Result:
        arch, table = self.arch(setting), self.table(setting)
        key = ("run", arch_sha256(arch), trace.sha256, setting.ideal_memory)
        result = self.once(key, lambda: simulate(arch, trace, table, ideal_memory=setting.ideal_memory))
        return replace(result, energy_table=table, cost=price(result.activity, arch, table))

    def once(self, key: tuple[Hashable, ...], make: Callable[[], Made]) -> Made:
        """The result of make(), which is called only the first time that a key is asked for."""
        if key not in self._kept:
            self._progress(" ".join(part[:12] for part in key if isinstance(part, str)))
            self._kept[key] = make()
        made: Made = self._kept[key]
        return made

    def _written(
        self, name: str, shape: Chw | None, setting: Setting, batch: int, phases: tuple[str, ...] | None
    ) -> Trace:
        network = load_network(name, shape)
        if setting.pool_before_fire:
            network = replace(network, layers=_pooled_first(network.layers))
        own: dict[str, Sparsity] = {}
        if name == "conv256":
            window = LAYER_SPARSITY if setting.layer_window is None else setting.layer_window
            every = Sparsity(LAYER_SPARSITY, window, LAYER_SPARSITY)
        elif phases == ("forward",):
            every = Sparsity(reported_spikes(), 0.0, 0.0)  # only spikes are read
        else:
            every, own = reported_sparsity(network)
        if setting.spikes is not None:
            every = replace(every, spikes=setting.spikes)
            own = {layer: replace(sparsity, spikes=setting.spikes) for layer, sparsity in own.items()}
        structure = Structure(**setting.masks.model_dump()) if setting.masks else None
        meta, members = synthesise(
            network, network.timesteps, batch, every, SEED, layers=own, structure=structure, phases=phases or PHASES
        )
        path = Path(self._folder.name) / f"{len(self._kept)}.npz"
        write_trace(path, meta, members)
        return load_trace(path)


def _key(mapping: dict[str, Any]) -> str:
    return json.dumps(mapping, sort_keys=True)


def _grown(arch: Arch, scale: int) -> dict[str, int]:
    """More banks of the same macros, in every buffer: the changes by dotted path."""
    changes: dict[str, int] = {}
    for engine in arch.engine_names:
        for name, buffer in getattr(arch.engines, engine).buffers:
            path = f"engines.{engine}.buffers.{name}"
            changes |= {f"{path}.bytes": buffer.bytes * scale, f"{path}.banks": buffer.banks * scale}
    return changes


def _priced(setting: Setting) -> EnergyTable:
    table = load_energy_table(setting.table)
    data = table.model_dump()
    for name, end in setting.prices.items():
        entries = data["luts"] if name == "luts" else [data["actions"][name]]
        for entry in entries:
            value = entry[f"{end}_pj"]
            if value is not None:
                entry["read_pj" if name == "luts" else "energy_pj"] = value
    if setting.adder_area_um2:
        data["actions"]["fp16_add"]["area_um2"] = setting.adder_area_um2
    for entry in [*data["actions"].values(), *data["luts"]]:
        for field, factor in _factors(setting).items():
            if field in entry:
                entry[field] *= factor
    return parse_energy_table(data, f"{setting.table}, changed")


def _factors(setting: Setting) -> dict[str, float]:
    """What the fields of a table's logic are multiplied by."""
    areas = dict.fromkeys(("area_um2", "area_1_port_um2", "area_4_ports_um2"), setting.area_scale)
    return {**areas, "leakage_uw": setting.leakage_scale}


def _pooled_first(layers: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """The layers of a network whose convolutions do not fire where pools alone read them."""
    readers: dict[str, list[str]] = {}
    for layer in layers:
        for name in layer["inputs"]:
            readers.setdefault(name, []).append(layer["kind"])
    silent = {name for name, kinds in readers.items() if set(kinds) == {"pool"}}
    return tuple(
        {**layer, "spiking": False} if layer["name"] in silent and layer["kind"] in ("conv", "encode") else layer
        for layer in layers
    )
