"""The usual back-of-envelope energy estimate of a trace.

HIRE-SNN (ICCV 2021, section 5.4, eq. 7 and 8, tables 6 and 7): energy of a layer = FLOPs of the ANN layer x spiking
activity x E_AC, or x E_MAC for an analog input. Diet-SNN (eq. 18): operations = spike rate x operations of the ANN
layer. Both count only the arithmetic of inference. Energies and operations are per sample; spike counts are of the
whole sub-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from h2sim.energy import EnergyTable
from h2sim.energy.scaling import Factor, energy_factor, voltage_factor
from h2sim.errors import BaselineError
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_file
from h2sim.trace import Layer, Trace
from h2sim.trace.bits import popcount

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
SHIPPED = Path(__file__).with_name("estimate.yaml")
Operation = Literal["MAC", "AC", "none"]


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

    operation: MAC (analog input), AC (spikes), or none (pool and add, which neither source counts).
    ann_flops: operations of the ANN layer (table 6).
    zeta: spikes at the input, over all T, per sample and input neuron; may exceed 1. For an analog input: how often the
    layer is computed. tasa: zeta / T.
    spike_rate: the layer's own spikes, over all T, per sample and neuron; None if it does not spike.
    snn_flops: ann_flops x zeta. diet_operations: ann_flops x spike rate (eq. 18).
    accumulates: exact number of additions that the spikes at the input cause; None for an analog input.
    energy: by eq. 7 or 8, at the source's node. ann_energy: ann_flops x E_MAC.
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
    meta, spikes = trace.meta, _spike_counts(trace)
    rows = tuple(_layer(trace, layer, spikes, data, chosen) for layer in meta.layers)
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
        notes=_notes(trace, chosen),
    )


def _says(step: Factor, from_v: float, to_v: float) -> str:
    volts = f", ({to_v:g} V / {from_v:g} V)^2" if to_v != from_v else ""
    if step.from_nm == step.to_nm:
        return f"same node{volts}"
    span = f"{step.value:g} (range {step.low:g} to {step.high:g})"
    return f"energy {step.from_nm:g} to {step.to_nm:g} nm x {span}{volts}; {step.source}"


def _notes(trace: Trace, chosen: Assumptions) -> tuple[str, ...]:
    notes = ["pool and add layers are in neither source's count: 0 operations"]
    if trace.meta.analog and trace.analog_steps > 1 and chosen.encode == "once":
        notes.append(
            f"encode once: the analog input has {trace.analog_steps} timesteps of its own, each is worked through"
        )
    if not all(layer.spiking for layer in trace.meta.layers) and chosen.spike_rate == "own":
        notes.append("spike_rate own: a layer that never spikes takes its input's spike rate [A]")
    return tuple(notes)


def _spike_counts(trace: Trace) -> dict[str, int]:
    """Spikes of the network input (if binary) and of every spiking layer over T and all samples."""
    counts = {layer.name: popcount(trace.mask(layer.name, "spikes")) for layer in trace.meta.layers if layer.spiking}
    return counts if trace.meta.analog else {"input": popcount(trace.input_spikes()), **counts}


def _layer(
    trace: Trace, layer: Layer, spikes: dict[str, int], data: EstimateData, chosen: Assumptions
) -> LayerEstimate:
    batch, neurons = trace.meta.batch, math.prod(layer.in_chw)
    own = spikes[layer.name] if layer.spiking else None
    rate = None if own is None else own / (batch * layer.neurons)
    counted, analog = layer.weight_shape is not None, layer.kind == "encode"
    flops = ann_flops(layer, chosen.padding)
    arrived = None if analog or not counted else spikes[layer.inputs[0]]
    zeta = _repeats(trace, chosen) if arrived is None else arrived / (batch * neurons)
    diet = zeta if analog or rate is None or chosen.spike_rate == "input" else rate
    fp32, int32 = data.formats.fp32, data.formats.int32
    mac, ac = Energy(fp32.mac_pj, int32.mac_pj), Energy(fp32.ac_pj, int32.ac_pj)
    return LayerEstimate(
        layer=layer.name,
        kind=layer.kind,
        operation="none" if not counted else "MAC" if analog else "AC",
        ann_flops=flops,
        input_neurons=neurons,
        input_spikes=arrived,
        zeta=zeta if counted else None,
        tasa=None if arrived is None else zeta / trace.meta.timesteps,
        spikes=own,
        spike_rate=rate,
        snn_flops=flops * zeta,
        diet_operations=flops * diet,
        accumulates=None if analog else accumulates(trace, layer) if counted else 0,
        energy=(mac if analog else ac).times(flops * zeta),
        ann_energy=mac.times(flops),
    )


def _repeats(trace: Trace, chosen: Assumptions) -> float:
    """How often an encoding layer is computed: once per frame that differs, or at all T timesteps."""
    return float(trace.meta.timesteps if chosen.encode == "every-step" else trace.analog_steps)


def ann_flops(layer: Layer, padding: Literal["counted", "skipped"] = "counted") -> int:
    """Multiply-accumulates of the ANN layer for one sample: k^2 Ho Wo Co Ci (table 6). An fc layer is a 1 x 1 map.

    padding: whether taps outside the input are counted or skipped. 0 for a layer without weights.
    """
    if layer.weight_shape is None:
        return 0
    weights = math.prod(layer.weight_shape)
    if layer.kind == "fc":
        return weights
    if padding == "counted":
        return weights * math.prod(layer.out_chw[1:])
    rows, columns = _fan_outs(layer)
    return math.prod(layer.weight_shape[:2]) * int(rows.sum()) * int(columns.sum())


def fan_out(size: int, out_size: int, kernel: int, stride: int, padding: int) -> npt.NDArray[np.int64]:
    """For each input place of one axis, the number of (output, tap) pairs that read it; int64, (size,)."""
    places = np.arange(out_size)[:, None] * stride - padding + np.arange(kernel)[None, :]
    inside = places[(places >= 0) & (places < size)]
    return np.bincount(inside, minlength=size).astype(np.int64)


def _fan_outs(layer: Layer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    assert layer.kernel is not None
    assert layer.stride is not None
    assert layer.padding is not None
    sizes = zip(layer.in_chw[1:], layer.out_chw[1:], layer.kernel, layer.stride, layer.padding, strict=True)
    rows, columns = (fan_out(*axis) for axis in sizes)
    return rows, columns


def accumulates(trace: Trace, layer: Layer) -> int:
    """Exact number of additions that the spikes at a conv or fc layer's input cause, over all T and samples."""
    source = layer.inputs[0]
    packed = trace.input_spikes() if source == "input" else trace.mask(source, "spikes")
    if layer.kind == "fc":
        return layer.out_chw[0] * popcount(packed)
    channels, height, width = layer.in_chw
    places = np.zeros((height, width), np.int64)
    for step in packed:  # one timestep's bits at a time
        bits = np.unpackbits(step, axis=-1, count=channels * height * width)
        places += bits.reshape(-1, height, width).sum(axis=0, dtype=np.int64)
    rows, columns = _fan_outs(layer)
    return layer.out_chw[0] * int(rows @ places @ columns)
