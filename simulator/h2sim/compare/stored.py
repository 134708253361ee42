"""h2sim-result documents, read back: what `h2sim run --json` wrote, of H2Learn or of a rival, typed and checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from h2sim.activity import Phase
from h2sim.arch import Arch, parse_arch
from h2sim.errors import ComparisonError, at
from h2sim.io.faults import describe
from h2sim.io.jsonfile import parse_json
from h2sim.io.reading import MOST_JSON_BYTES, read_text
from h2sim.io.strict import Frozen, Name

Amount = Annotated[float, Field(strict=True, ge=0, le=1e30, allow_inf_nan=False)]
Cycles = Annotated[int, Field(strict=True, ge=0, le=1 << 62)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=1 << 53)]
Node = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]


class StoredArch(Frozen):
    """The machine: parameters hold the whole resolved arch file (results before 0.2.0 have none).

    lanes, weight_bits, bandwidth_bytes_per_s: what a rival says of its size; an H2Learn's follows from its parameters.
    """

    name: Name
    machine: str = "h2learn"
    sha256: str = ""
    parameters: dict[str, Any] = Field(default={})
    lanes: AtLeastOne | None = None
    weight_bits: AtLeastOne | None = None
    bandwidth_bytes_per_s: AtLeastOne | None = None


class StoredProvenance(TypedDict, total=False):
    """What wrote the document: the command, versions of the libraries that it counted with, the commit."""

    command: str | None
    versions: dict[str, str]
    git_commit: str | None


class StoredWorkload(Frozen):
    """The trace that was run."""

    network: Name
    dataset: str = ""
    source: str
    sha256: str


class StoredTable(Frozen):
    """The energy table's name, hash and node."""

    name: Name
    sha256: str = ""
    node_nm: Node | None = None


class StoredBatch(Frozen):
    """A batch group with its weight update."""

    sub_batches: AtLeastOne
    cycles: Cycles


class StoredBound(Frozen):
    """A part of the critical path: cycles that a resource holds for a cause."""

    resource: Name
    cause: Literal["compute", "fill", "read", "write"]
    cycles: Cycles


class StoredStep(Frozen):
    """One sub-batch in the steady state; cycles and clock_hz are None for a machine without a clock."""

    steady_cycles: Cycles | None
    first_cycles: Cycles | None
    samples: AtLeastOne
    clock_hz: AtLeastOne | None
    seconds: Amount | None = None
    energy_j: Amount
    offchip_energy_j: Amount = 0.0
    bounds: tuple[StoredBound, ...] = ()
    ideal_memory_cycles: Cycles | None = None
    batch: StoredBatch | None = None
    basis: str = ""


class StoredStalls(Frozen):
    """Cycles that an array waited, by cause."""

    memory_read: Cycles
    memory_write: Cycles
    dependency: Cycles = 0


class StoredEngine(Frozen):
    """The sums over one engine's rows; energy_j by component."""

    compute_cycles: Cycles | None
    fill_cycles: Cycles | None
    energy_j: dict[str, Amount]


class StoredBuffer(Frozen):
    """Bytes that one on-chip buffer gave and took."""

    read_bytes: Cycles
    write_bytes: Cycles


class StoredRow(Frozen):
    """One layer in one phase. seconds: of a rival's row; of H2Learn's they follow from its cycles."""

    layer: Name
    phase: Phase
    engine: str = ""
    start_cycle: Cycles | None
    end_cycle: Cycles | None
    compute_cycles: Cycles | None
    fill_cycles: Cycles | None
    stall_cycles: StoredStalls | None
    critical_cycles: Cycles | None = None
    occupancy: Amount | None = None
    seconds: Amount | None = None
    fused: bool = False
    operations: dict[str, int] = Field(default={})
    bytes: dict[str, Cycles] = Field(default={})
    buffers: dict[str, StoredBuffer] = Field(default={})
    energy_pj: dict[str, Amount]
    offchip_energy_pj: Amount = 0.0


class StoredSlice(Frozen):
    """What one external memory did for one row."""

    memory: Name
    layer: Name
    phase: Phase
    busy_cycles: Cycles


class StoredCharge(Frozen):
    """A line of the bill: count x unit_pj = energy_pj."""

    engine: str
    component: str
    action: str
    count: int
    unit_pj: Amount
    energy_pj: Amount
    source: str


class StoredResult(Frozen):
    """An h2sim-result document (schema version 1); keys that later versions add are passed over."""

    schema_: Annotated[Literal["h2sim-result"], Field(alias="schema")]
    version: Literal[1]
    h2sim: str = ""
    provenance: StoredProvenance = Field(default_factory=StoredProvenance)
    arch: StoredArch
    workload: StoredWorkload
    energy_table: StoredTable
    options: dict[str, Any] = Field(default={})
    warnings: tuple[str, ...] = ()
    step: StoredStep
    engines: dict[str, StoredEngine]
    layers: Annotated[tuple[StoredRow, ...], Field(min_length=1)]
    memories: tuple[StoredSlice, ...] = ()
    area_um2: dict[str, Amount | dict[str, Amount]]
    bill: tuple[StoredCharge, ...] = ()
    offchip_pj_per_byte: Amount | None = None
    notes: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default={})
    published: dict[str, Amount] = Field(default={})

    def __repr__(self) -> str:
        return f"StoredResult({self.arch.name} on {self.workload.network}: {len(self.layers)} rows)"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that the step covers, in order."""
        return tuple(dict.fromkeys(row.phase for row in self.layers))

    @property
    def idle_leaks(self) -> bool:
        """Whether engines without a job leak; always so on a machine that knows no power gating."""
        return bool(self.arch.parameters.get("power_gating", "none") == "none")

    @property
    def total_area_um2(self) -> float:
        """Area of the machine."""
        total = self.area_um2["total"]
        assert not isinstance(total, dict)  # `stored` refuses it
        return total

    @property
    def bill_energy_j(self) -> float:
        """Count x unit price over all lines of the bill: step.energy_j, but for the last digits of rounding."""
        return 1e-12 * math.fsum(line.count * line.unit_pj for line in self.bill)

    def machine(self) -> Arch:
        """The H2Learn that was simulated. Raises ArchError for a rival or a document that holds no parameters."""
        return parse_arch(self.arch.parameters, f"arch of {self.arch.name}")


def read_result(path: str | Path) -> StoredResult:
    """The result in a file that `h2sim run --json` wrote. Raises ComparisonError with a line per fault.

    >>> import h2sim, json, tempfile
    >>> result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
    >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    ...     json.dump(result.to_dict(), file)
    ...     file.flush()
    ...     h2sim.read_result(file.name).step.steady_cycles
    88472
    """
    return stored(load_result(path), str(path))


def load_result(path: str | Path) -> dict[str, Any]:
    """The document of such a file as plain data. Raises ComparisonError."""
    try:
        data = parse_json(read_text(path, MOST_JSON_BYTES))
    except OSError as fault:
        raise ComparisonError(f"{path}: cannot be read: {fault.strerror}") from None
    except (ValueError, RecursionError):
        raise ComparisonError(at(str(path), "file", "an h2sim-result document (h2sim run --json)", "no JSON")) from None
    if not isinstance(data, dict):
        raise ComparisonError(at(str(path), "top level", "an h2sim-result document", type(data).__name__))
    return data


def stored(document: dict[str, Any], where: str) -> StoredResult:
    """A checked result from plain data; `where` names the source in error lines.

    Raises ComparisonError for wrong fields, and where rows are missing, whose step would pass for theirs, or cycles do
    not add up.
    """
    try:
        found = StoredResult.model_validate(document)
    except ValidationError as error:
        raise ComparisonError(*describe(error, StoredResult, where)) from None
    total = found.area_um2.get("total")
    if not isinstance(total, int | float) or isinstance(total, bool) or not 0 <= total <= 1e30:
        raise ComparisonError(at(where, "area_um2.total", "an area in um2", total))
    _check_whole(found, where)
    return found


def _check_whole(found: StoredResult, where: str) -> None:
    for field in ("compute_cycles", "fill_cycles"):
        engines = sum(getattr(engine, field) or 0 for engine in found.engines.values())
        rows = sum(getattr(layer, field) or 0 for layer in found.layers)
        if rows != engines:
            wanted = f"all rows of the step, with the {engines} {field} of its engines (h2sim run without --layer)"
            raise ComparisonError(at(where, "layers", wanted, rows))
    step, batch = found.step, found.step.batch
    if batch is None:
        return
    if step.first_cycles is None or step.steady_cycles is None:
        raise ComparisonError(at(where, "step.first_cycles", "cycles, for there is a batch", "null"))
    if batch.cycles < step.first_cycles + (batch.sub_batches - 1) * step.steady_cycles:
        wanted = "at least step.first_cycles and step.steady_cycles of all other sub-batches"
        raise ComparisonError(at(where, "step.batch.cycles", wanted, batch.cycles))


def parameter_differences(ours: StoredArch, theirs: StoredArch) -> list[tuple[str, Any, Any]]:
    """(dotted path, ours, theirs) of every parameter in which two machines differ; None where one does not have it."""
    left, right = _flat(ours.parameters), _flat(theirs.parameters)
    paths = [*left, *(path for path in right if path not in left)]
    return [(path, left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)]


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key not in ("name", "description"):
            flat[prefix + key] = value
    return flat
