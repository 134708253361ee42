"""The usual back-of-envelope energy estimate of a trace.

HIRE-SNN (ICCV 2021, section 5.4, eq. 7 and 8, tables 6 and 7): energy of a layer = FLOPs of the ANN layer x spiking
activity x E_AC, or x E_MAC for an analog input. Diet-SNN (eq. 18): operations = spike rate x operations of the ANN
layer. Both count only the arithmetic of inference. Energies and operations are per sample; spike counts are of the
whole sub-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from h2sim.compare.operations import Bits, Operation, work_of
from h2sim.energy import EnergyTable
from h2sim.energy.scaling import Factor, energy_factor, voltage_factor
from h2sim.errors import BaselineError
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_file
from h2sim.trace import Layer, Trace
from h2sim.trace.bits import popcount
from h2sim.trace.model import VERSION
from h2sim.trace.operands import operands_of

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
SHIPPED = Path(__file__).with_name("estimate.yaml")
MOST_NAMED = 6


class Format(Strict):
    """Energies of one number format, pJ (HIRE-SNN, table 7).

    A MAC is a multiplication and an addition, an AC an addition.
    """

    multiply_pj: Positive
    add_pj: Positive
    mac_pj: Positive
    ac_pj: Positive

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if abs(self.multiply_pj + self.add_pj - self.mac_pj) > 1e-9 or self.ac_pj != self.add_pj:
            raise ValueError(
                f"expected mac_pj = multiply_pj + add_pj and ac_pj = add_pj; got {self.mac_pj}, {self.ac_pj}"
            )
        return self


class Formats(Strict):
    """The number formats that the source compares."""

    fp32: Format
    int32: Format


class Assumptions(Strict):
    """What the sources leave open [A]; compare/estimate.yaml says what each choice means."""

    encode: Literal["once", "every-step"]
    padding: Literal["counted", "skipped"]
    spike_rate: Literal["own", "input"]


class EstimateData(Strict):
    """The contents of compare/estimate.yaml: energies and default assumptions."""

    node_nm: Positive
    voltage_v: Positive
    source: str
    method: str
    formats: Formats
    assumptions: Assumptions


@dataclass(frozen=True)
class Energy:
    """One energy in both number formats, pJ."""

    fp32_pj: float = 0.0
    int32_pj: float = 0.0

    def times(self, factor: float) -> Energy:
        """Both energies times a factor."""
        return Energy(self.fp32_pj * factor, self.int32_pj * factor)


@dataclass(frozen=True, kw_only=True)
class LayerEstimate:
    """The estimate of one layer. Operations and energies are of one sample, spikes and accumulates of the sub-batch.

    operation: MAC (analog values), AC (spikes, counts), or none (pool and add, which neither source counts). A sum of
    maps without neuron is AC as well.
    ann_flops: operations of the ANN layer (table 6); of a sum of maps its additions.
    input_spikes: of counts the set bits of all planes, each of which is added; in a sum of maps what is not 0.
    zeta: those at the input, over all T, per sample and input neuron; may exceed 1. For an analog input: how often the
    layer is computed. tasa: zeta / T.
    spike_rate: the layer's own spikes, over all T, per sample and neuron; None if it does not spike.
    snn_flops: ann_flops x zeta. diet_operations: ann_flops x spike rate (eq. 18).
    accumulates: exact number of additions that the spikes at the input cause; None for an analog input.
    energy: by eq. 7 or 8, at the source's node. ann_energy: ann_flops x E_MAC (of a sum of maps, E_AC).
    """

    layer: str
    kind: str
    operation: Operation
    ann_flops: int
    input_neurons: int
    input_spikes: int | None
    zeta: float | None
    tasa: float | None
    spikes: int | None
    spike_rate: float | None
    snn_flops: float
    diet_operations: float
    accumulates: int | None
    energy: Energy
    ann_energy: Energy


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimate of a whole trace.

    Energies are those at node_nm. Times `factor` they are those at the energy table's node and voltage; factor_says
    explains the factor.
    """

    layers: tuple[LayerEstimate, ...]
    samples: int
    timesteps: int
    assumptions: Assumptions
    source: str
    node_nm: float
    to_nm: float
    factor: float
    factor_says: str
    notes: tuple[str, ...]

    @property
    def energy(self) -> Energy:
        """Energy of all layers at the source's node."""
        return _sum(row.energy for row in self.layers)

    @property
    def ann_energy(self) -> Energy:
        """Energy of one pass of the same network as an ANN, at the source's node."""
        return _sum(row.ann_energy for row in self.layers)

    @property
    def ann_flops(self) -> int:
        """Operations of all layers as an ANN."""
        return sum(row.ann_flops for row in self.layers)

    @property
    def snn_flops(self) -> float:
        """Operations of all layers times their spiking activity (HIRE-SNN)."""
        return math.fsum(row.snn_flops for row in self.layers)

    @property
    def diet_operations(self) -> float:
        """Operations of all layers by Diet-SNN's eq. 18."""
        return math.fsum(row.diet_operations for row in self.layers)


def _sum(energies: Iterable[Energy]) -> Energy:
    rows = list(energies)
    return Energy(math.fsum(e.fp32_pj for e in rows), math.fsum(e.int32_pj for e in rows))


def load_estimate_data(path: str | Path = SHIPPED) -> EstimateData:
    """Energies and default assumptions of a file, by default the shipped one.

    Raises BaselineError with one line per fault.
    """
    data = read_file(Path(path), BaselineError)
    try:
        return EstimateData.model_validate(data)
    except ValidationError as error:
        raise BaselineError(*describe(error, EstimateData, str(path))) from None


def estimate(
    trace: Trace, table: EnergyTable, data: EstimateData | None = None, assumptions: Assumptions | None = None
) -> Estimate:
    """The estimate of a trace's forward pass.

    table: gives only the node and voltage to which energies are also scaled. data, assumptions: default to the shipped
    ones. Raises TraceError for a damaged trace, EnergyTableError if no factor to the table's node is known.
    """
    data = data or load_estimate_data()
    chosen = assumptions or data.assumptions
    meta, bits = trace.meta, Bits(trace)
    rows = tuple(_layer(trace, layer, bits, data, chosen) for layer in meta.layers)
    step = energy_factor(data.node_nm, table.node_nm)
    factor = step.value * voltage_factor(data.voltage_v, table.voltage_v)
    return Estimate(
        layers=rows,
        samples=meta.batch,
        timesteps=meta.timesteps,
        assumptions=chosen,
        source=data.source,
        node_nm=data.node_nm,
        to_nm=table.node_nm,
        factor=factor,
        factor_says=_says(step, data.voltage_v, table.voltage_v),
        notes=_notes(trace, chosen, rows),
    )


def _says(step: Factor, from_v: float, to_v: float) -> str:
    volts = f", ({to_v:g} V / {from_v:g} V)^2" if to_v != from_v else ""
    if step.from_nm == step.to_nm:
        return f"same node{volts}"
    span = f"{step.value:g} (range {step.low:g} to {step.high:g})"
    return f"energy {step.from_nm:g} to {step.to_nm:g} nm x {span}{volts}; {step.source}"


def _notes(trace: Trace, chosen: Assumptions, rows: tuple[LayerEstimate, ...]) -> tuple[str, ...]:
    newer = trace.meta.version != VERSION
    notes = [f"pool and add layers {'with neurons ' if newer else ''}are in neither source's count: 0 operations"]
    if trace.meta.analog and trace.analog_steps > 1 and chosen.encode == "once":
        notes.append(
            f"encode once: the analog input has {trace.analog_steps} timesteps of its own, each is worked through"
        )
    silent = (layer for layer in trace.meta.layers if not layer.spiking and (layer.has_weights or not newer))
    if any(silent) and chosen.spike_rate == "own":
        notes.append("spike_rate own: a layer that never spikes takes its input's spike rate [A]")
    return (*notes, *(_map_notes(trace, rows) if newer else ()))


def _map_notes(trace: Trace, rows: tuple[LayerEstimate, ...]) -> Iterator[str]:
    """What neither source knows: counts, sums of maps, analog values behind the input."""
    operands, found = operands_of(trace.meta), {row.layer: row for row in rows}
    read = {layer.name: operands[layer.inputs[0]] for layer in trace.meta.layers if layer.has_weights}
    counts = [name for name, operand in read.items() if operand.kind == "counts"]
    if counts:
        most = max(read[name].planes for name in counts)
        yield f"counts of up to {most} bit planes ({_some(counts)}): an addition for each set bit of every plane [A]"
    sums = [layer.name for layer in trace.meta.layers if layer.is_map and found[layer.name].operation == "AC"]
    if sums:
        yield f"sums of maps without neuron ({_some(sums)}): an addition for each value that is not 0 [A]"
    analog = [
        layer.name
        for layer in trace.meta.layers
        if layer.has_weights and layer.inputs[0] != "input" and read[layer.name].kind == "analog"
    ]
    if analog:
        yield f"analog values behind the input ({_some(analog)}): MACs at every timestep"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _layer(trace: Trace, layer: Layer, bits: Bits, data: EstimateData, chosen: Assumptions) -> LayerEstimate:
    batch, work = trace.meta.batch, work_of(trace, layer, bits, chosen.padding)
    own = popcount(trace.mask(layer.name, "spikes")) if layer.spiking else None
    rate = None if own is None else own / (batch * layer.neurons)
    counted, analog = work.operation != "none", work.operation == "MAC"
    zeta = _repeats(trace, layer, chosen) if work.arrived is None else work.arrived / (batch * work.elements)
    diet = zeta if analog or rate is None or chosen.spike_rate == "input" else rate
    fp32, int32 = data.formats.fp32, data.formats.int32
    mac, ac = Energy(fp32.mac_pj, int32.mac_pj), Energy(fp32.ac_pj, int32.ac_pj)
    return LayerEstimate(
        layer=layer.name,
        kind=layer.kind,
        operation=work.operation,
        ann_flops=work.flops,
        input_neurons=work.elements,
        input_spikes=work.arrived,
        zeta=zeta if counted else None,
        tasa=None if work.arrived is None else zeta / trace.meta.timesteps,
        spikes=own,
        spike_rate=rate,
        snn_flops=work.flops * zeta,
        diet_operations=work.flops * diet,
        accumulates=work.exact,
        energy=(mac if analog else ac).times(work.flops * zeta),
        ann_energy=(mac if layer.has_weights else ac).times(work.flops),
    )


def _repeats(trace: Trace, layer: Layer, chosen: Assumptions) -> float:
    """How often a layer of analog values is computed.

    What reads the input: once per frame that differs, or at all T timesteps; what reads anything behind it: at all T.
    """
    behind = layer.inputs[0] != "input" and trace.meta.version != VERSION
    every = behind or chosen.encode == "every-step"
    return float(trace.meta.timesteps if every else trace.analog_steps)
