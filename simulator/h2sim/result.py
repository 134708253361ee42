"""The result of a run: typed, and as the h2sim-result document (schema version 1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from h2sim._version import __version__
from h2sim.activity import ENGINES, Activity, Engine, LayerActivity, SteadyState
from h2sim.arch.schema import Arch, Interconnect
from h2sim.energy import Cost, EnergyTable
from h2sim.io.provenance import provenance
from h2sim.memory.books import Books

if TYPE_CHECKING:
    import pandas as pd

    from h2sim.trace import Trace

SCHEMA, SCHEMA_VERSION = "h2sim-result", 1


@dataclass(frozen=True)
class Workload:
    """Where the masks came from; source is 'training', 'inference' or 'synthetic'."""

    network: str
    dataset: str
    source: str
    sha256: str


def workload_of(trace: Trace) -> Workload:
    """What a result says of the trace it was made of."""
    source = str(trace.meta.source.get("kind", "unknown"))
    return Workload(network=trace.meta.network, dataset=trace.meta.dataset, source=source, sha256=trace.sha256)


@dataclass(frozen=True, kw_only=True)
class EngineSummary:
    """One engine over the step: the sums of its rows. busy = compute + fill + stalls; utilization = compute / step."""

    busy_cycles: int
    compute_cycles: int
    fill_cycles: int
    memory_read: int
    memory_write: int
    dependency: int
    utilization: float
    occupancy: float

    @classmethod
    def of(cls, activity: SteadyState, engine: Engine) -> EngineSummary:
        """The sums of one engine's rows of a step."""
        rows = [row for row in activity.layers if row.engine == engine]
        compute, peak = sum(r.compute_cycles for r in rows), sum(r.peak_operations for r in rows)
        step = activity.steady_cycles
        return cls(
            busy_cycles=sum(r.end_cycle - r.start_cycle for r in rows),
            compute_cycles=compute,
            fill_cycles=sum(r.fill_cycles for r in rows),
            memory_read=sum(r.stalls.memory_read for r in rows),
            memory_write=sum(r.stalls.memory_write for r in rows),
            dependency=sum(r.stalls.dependency for r in rows),
            utilization=compute / step if step else 0.0,
            occupancy=sum(r.useful_operations for r in rows) / peak if peak else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class ChipsPoint:
    """A batch group on n_chips; cycles are exact, bytes and energies are of all chips together.

    speedup: in samples per second over one chip; efficiency: speedup / n_chips. energy_j is on chip and counts leakage
    for as long as the group takes; memories (offchip_energy_j) and links (link_energy_j) stand apart.
    """

    n_chips: int
    working_chips: int
    sub_batches_per_chip: int
    samples: int
    cycles: int
    all_reduce_cycles: int
    idle_chip_cycles: int
    link_bytes: int
    samples_per_second: float
    speedup: float
    efficiency: float
    energy_j: float
    offchip_energy_j: float
    link_energy_j: float


@dataclass(frozen=True)
class Scaling:
    """points[k - 1] is k chips; least_efficiency is what still counts as worth its chips."""

    points: tuple[ChipsPoint, ...]
    least_efficiency: float

    @property
    def fastest(self) -> ChipsPoint:
        """The highest throughput, with as few chips as give it."""
        return max(self.points, key=lambda point: (point.samples_per_second, -point.n_chips))

    @property
    def last_worth(self) -> ChipsPoint:
        """Largest chip count that is faster than every smaller one and keeps efficiency >= least_efficiency."""
        worth, best = self.points[0], 0.0
        for point in self.points:
            if point.samples_per_second > best:
                best = point.samples_per_second
                worth = point if point.efficiency >= self.least_efficiency else worth
        return worth

    @property
    def shown(self) -> tuple[ChipsPoint, ...]:
        """The points at powers of two, and the last."""
        last = len(self.points)
        return tuple(p for p in self.points if p.n_chips == last or p.n_chips & (p.n_chips - 1) == 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every point."""
        return {
            "fastest_chips": self.fastest.n_chips,
            "last_worth_chips": self.last_worth.n_chips,
            "points": [asdict(point) for point in self.points],
        }


@dataclass(frozen=True)
class Chips:
    """Several chips in a ring: strong shares one chip's batch group among all, weak gives each a group of its own."""

    interconnect: Interconnect | None
    gradient_bytes: int
    least_efficiency: float
    strong: Scaling
    weak: Scaling

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the document holds it."""
        return {
            "interconnect": self.interconnect.model_dump() if self.interconnect else None,
            "gradient_bytes": self.gradient_bytes,
            "least_efficiency": self.least_efficiency,
            "strong": self.strong.to_dict(),
            "weak": self.weak.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """One simulated step: what was run, what it did (activity) and what that costs (cost).

    chips: several machines, where they were asked for; warnings: where the numbers would mislead; notes: what was taken
    for granted; books: every interval of the steady state, where bounds were asked for.
    """

    arch: Arch
    arch_sha256: str
    workload: Workload
    energy_table: EnergyTable
    activity: Activity
    cost: Cost
    ideal_memory: bool = False
    chips: Chips | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    books: Books | None = field(default=None, compare=False)

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of what the result was made of, as CSV rows and pictures carry them."""
        return {
            "arch_sha256": self.arch_sha256,
            "trace_sha256": self.workload.sha256,
            "energy_table_sha256": self.energy_table.sha256,
        }

    @property
    def steady_seconds(self) -> float:
        """Steady-state time of one sub-batch."""
        return self.activity.steady_cycles / self.arch.clock_hz

    @property
    def samples_per_second(self) -> float:
        return self.activity.samples / self.steady_seconds if self.activity.steady_cycles else 0.0

    def engine(self, engine: Engine) -> EngineSummary:
        """The sums over one engine's rows.

        >>> import h2sim
        >>> result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
        >>> result.engine("backward").memory_read
        45029
        """
        return EngineSummary.of(self.activity, engine)

    def __repr__(self) -> str:
        step, network = self.activity.steady_cycles, self.workload.network
        return f"Result({self.arch.name} on {network}: {step:,} cycles a sub-batch, {self.cost.energy_j:.3g} J)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary of `h2sim run` as tables. Reports lie above results, hence by name."""
        return str(resolve_name("h2sim.report.run:result_html")(self))

    def to_dict(self, command: str | None = None) -> dict[str, Any]:
        """The h2sim-result document: plain dicts, integers exact, units in the keys.

        command: the command line that asked for it, without the names of its outputs. The document alone reconciles
        every joule: `bill` holds count x unit price of all that energy_j adds up.
        """
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "h2sim": __version__,
            "provenance": provenance(command),
            "arch": {
                "name": self.arch.name,
                "machine": self.arch.machine,
                "sha256": self.arch_sha256,
                "parameters": self.arch.model_dump(mode="json"),
            },
            "workload": asdict(self.workload),
            "energy_table": {
                "name": self.energy_table.name,
                "sha256": self.energy_table.sha256,
                "node_nm": self.energy_table.node_nm,
            },
            "options": {"mode": self.arch.engines.backward.mode, "ideal_memory": self.ideal_memory},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "step": self._step(),
            "engines": {engine: self._engine(engine) for engine in ENGINES},
            "layers": [self._layer(index, row) for index, row in enumerate(self.activity.layers)],
            "memories": [asdict(slice_) for slice_ in self.activity.memory],
            "area_um2": self.cost.area.to_dict(),
            "bill": [asdict(line) for line in self.cost.reconcile()],
            "offchip_pj_per_byte": self.cost.offchip_pj_per_byte,
            **({"chips": self.chips.to_dict()} if self.chips else {}),
        }

    def layer_table(self) -> pd.DataFrame:
        """One row per layer and phase, flat columns with units (`stall_memory_read_cycles`, `energy_lut_pj`, ...).

        >>> import h2sim
        >>> result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
        >>> result.layer_table().set_index(["layer", "phase"]).compute_cycles["conv2"].to_dict()
        {'forward': 7968, 'backward': 16285, 'weight_update': 9856}
        """
        import pandas as pd

        return pd.json_normalize([self._flat(index, row) for index, row in enumerate(self.activity.layers)])

    def _step(self) -> dict[str, Any]:
        a = self.activity
        bounds = {"bounds": [asdict(part) for part in a.bounds.parts]} if a.bounds else {}
        ideal = {"ideal_memory_cycles": a.bounds.ideal_memory_cycles} if a.bounds else {}
        return {
            "first_cycles": a.first_cycles,
            "steady_cycles": a.steady_cycles,
            **bounds,
            **ideal,
            "samples": a.samples,
            "clock_hz": self.arch.clock_hz,
            "seconds": self.steady_seconds,
            "samples_per_second": self.samples_per_second,
            "energy_j": self.cost.energy_j,
            "offchip_energy_j": self.cost.offchip_energy_j,
            "average_power_w": self.cost.average_power_w,
            "batch": {
                "sub_batches": a.sub_batches,
                "samples": a.sub_batches * a.samples,
                "cycles": a.batch_cycles,
                "update_cycles": a.update_cycles,
                "seconds": a.batch_cycles / self.arch.clock_hz,
            },
        }

    def _engine(self, engine: Engine) -> dict[str, Any]:
        s = self.engine(engine)
        return {
            "busy_cycles": s.busy_cycles,
            "compute_cycles": s.compute_cycles,
            "fill_cycles": s.fill_cycles,
            "stall_cycles": {
                "memory_read": s.memory_read,
                "memory_write": s.memory_write,
                "dependency": s.dependency,
            },
            "utilization": s.utilization,
            "occupancy": s.occupancy,
            "energy_j": self.cost.engine_energy_j(engine),
        }

    def _layer(self, index: int, row: LayerActivity) -> dict[str, Any]:
        operations, bounds = row.pe_array + row.acc + row.neuron, self.activity.bounds
        return {
            "layer": row.layer,
            "phase": row.phase,
            "engine": row.engine,
            "start_cycle": row.start_cycle,
            "end_cycle": row.end_cycle,
            "compute_cycles": row.compute_cycles,
            "fill_cycles": row.fill_cycles,
            "stall_cycles": asdict(row.stalls),
            **({"critical_cycles": bounds.critical_cycles[index]} if bounds else {}),
            "occupancy": row.useful_operations / row.peak_operations if row.peak_operations else 0.0,
            "operations": asdict(operations),
            "bytes": {
                "offchip_read": row.offchip_read_bytes,
                "offchip_write": row.offchip_write_bytes,
                "glb_read": sum(b.read_bytes for b in row.buffers),
                "glb_write": sum(b.write_bytes for b in row.buffers),
            },
            "buffers": {b.buffer: {"read_bytes": b.read_bytes, "write_bytes": b.write_bytes} for b in row.buffers},
            "energy_pj": self.cost.layer_energy_pj(index),
            "offchip_energy_pj": self.cost.layer_offchip_pj(index),
        }

    def _flat(self, index: int, row: LayerActivity) -> dict[str, Any]:
        """A layer's entry with one level of keys, unit last: stall_cycles.memory_read -> stall_memory_read_cycles."""
        flat: dict[str, Any] = {}
        for key, value in self._layer(index, row).items():
            if key == "buffers":  # the sums stand in glb_read_bytes and glb_write_bytes
                continue
            if not isinstance(value, dict):
                flat[key] = value
                continue
            stem, _, unit = key.rpartition("_")
            for name, number in value.items():
                flat["_".join(filter(None, (stem, name, unit)))] = number
        return flat
