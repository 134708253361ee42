"""What must hold between two runs, whatever the machine and the trace: each property is a function of a random pair.

A property returns what contradicts it, a sentence each, and is shown able to fail by a planted bug (test_properties).

Some that look true are not, and are not here. Positions are dealt to a group's lanes in turn. With fewer of them, other
positions meet on a lane, and the slowest lane may have more to do. So `dual` may take longer than `input_only`, and
`output_only` longer than `dense`, unless a group has one lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from h2sim.activity import Activity, LayerActivity
from h2sim.energy import EnergyTable, load_energy_table
from h2sim.energy.transform import Factors, multiplied
from h2sim.errors import EnergyTableError
from h2sim.facade import count, priced, simulate
from tests.fuzz.mutate import Rng, pick
from tests.fuzz.pairs import Pair

Property = Callable[[Pair, Rng], list[str]]
PROPERTIES: dict[str, Property] = {}
Key = tuple[str, str]


def _property(function: Property) -> Property:
    PROPERTIES[function.__name__] = function
    return function


def _rows(activity: Activity) -> dict[Key, LayerActivity]:
    return {(row.layer, row.phase): row for row in activity.layers}


def _compared(what: str, left: dict[Key, Any], right: dict[Key, Any], holds: Callable[[Any, Any], bool]) -> list[str]:
    pairs = {key: (left[key], right[key]) for key in left}
    return [f"{what}: {' '.join(key)}: {a} and {b}" for key, (a, b) in pairs.items() if not holds(a, b)]


def _work(row: LayerActivity) -> tuple[Any, ...]:
    return row.compute_cycles, row.pe_array, row.acc, row.neuron, row.useful_operations, row.peak_operations


def _each(activity: Activity, value: Callable[[LayerActivity], Any]) -> dict[Key, Any]:
    return {key: value(row) for key, row in _rows(activity).items()}


def _same(a: Any, b: Any) -> bool:
    return bool(a == b)


def _no_more(a: Any, b: Any) -> bool:
    return bool(a <= b)


def _cycles(row: LayerActivity) -> int:
    return row.compute_cycles


def _useful(row: LayerActivity) -> int:
    return row.useful_operations


# samples


@_property
def the_order_of_samples_does_not_matter(pair: Pair, rng: Rng) -> list[str]:
    """Work of every row, in any order of the batch."""
    other = pair.sampled(rng.permutation(pair.batch)).activity()
    return _compared("permuted", _each(pair.counted, _work), _each(other, _work), _same)


@_property
def twice_the_samples_are_twice_the_operations(pair: Pair, _: Rng) -> list[str]:
    """Useful operations and neurons' updates of a batch in which each sample comes twice."""
    twice = pair.sampled([n for n in range(pair.batch) for _ in (0, 1)]).activity()

    def sized(row: LayerActivity) -> tuple[int, int, int]:
        return row.useful_operations, row.neuron.soma_element, row.neuron.grad_element

    doubled = {key: tuple(2 * n for n in value) for key, value in _each(pair.counted, sized).items()}
    return _compared("twice", doubled, _each(twice, sized), _same)


@_property
def a_silent_sample_adds_no_work_to_what_skips_zeros(pair: Pair, _: Rng) -> list[str]:
    """LUT reads of FC layers, and pairs of the Backward Engine in dual mode, with a sample of zeros more."""
    dual = pair.on(engines__backward__mode="dual", engines__forward__lut=True, engines__weight_update__lut=True)
    more = dual.sampled([*range(pair.batch), 0])
    masks = {n: a.copy() for n, a in more.members.items()}
    for name, array in masks.items():
        if not name.startswith("input.analog"):
            array[:, -1] = 0
    return _compared("silent", _skipping(dual), _skipping(replace(more, members=masks)), _same)


def _skipping(pair: Pair) -> dict[Key, int]:
    """Work that follows set bits: LUT reads of FC layers forward, pairs of convolutions backward."""
    kinds = {layer["name"]: layer["kind"] for layer in pair.meta["layers"]}
    found = {}
    for (name, phase), row in _rows(pair.counted).items():
        if kinds[name] == "fc" and phase == "forward":
            found[name, phase] = row.pe_array.lut_read
        elif kinds[name] == "conv" and phase == "backward":
            found[name, phase] = row.pe_array.fp16_multiply
    return found


# bits


def _thinned(rng: Rng) -> Callable[[Any], Any]:
    return lambda mask: mask & rng.integers(0, 256, mask.shape, np.uint8)


@_property
def fewer_bits_are_never_more_work(pair: Pair, rng: Rng) -> list[str]:
    """LUT reads of FC layers and pairs of the Backward Engine, with bits of any mask taken away."""
    dual = pair.on(engines__backward__mode="dual", engines__forward__lut=True)
    fewer = dual
    for kind in ("spikes", "window", "grad"):
        fewer = fewer.masked(kind, _thinned(rng))
    return _compared("thinned", _skipping(fewer), _skipping(dual), _no_more)


@_property
def fewer_gradients_are_never_slower(pair: Pair, rng: Rng) -> list[str]:
    """Compute cycles, where a position that no gradient feeds costs no more than one that one feeds."""
    fair = pair.on(engines__backward__empty_window_cycles=int(rng.integers(2)))
    fewer = fair.masked("grad", _thinned(rng)).activity()
    return _compared("thinned", _each(fewer, _cycles), _each(fair.counted, _cycles), _no_more)


@_property
def masks_that_an_engine_does_not_read_change_nothing(pair: Pair, rng: Rng) -> list[str]:
    """The forward pass and gradients, the backward pass and spikes."""

    def flipped(mask: Any) -> Any:
        return mask & rng.integers(0, 256, mask.shape, np.uint8)

    here = _each(pair.counted, _work)
    faults = []
    for kind, phases in (("grad", ("forward", "weight_update")), ("spikes", ("backward",))):
        there = _each(pair.masked(kind, flipped).activity(), _work)
        kept = {key: value for key, value in here.items() if key[1] in phases}
        faults += _compared(f"other {kind}", kept, there, _same)
    return faults


# modes and sizes


@_property
def skipping_zeros_is_never_more_work(pair: Pair, rng: Rng) -> list[str]:
    """Pairs of the four modes, and cycles where the same positions are dealt in the same way (see above)."""
    lanes = pick(rng, (1, 2, 4))
    fair = pair.on(engines__backward__empty_window_cycles=int(rng.integers(2)), engines__backward__parallelism=lanes)
    runs = {mode: fair.activity(mode=mode) for mode in ("dense", "input_only", "output_only", "dual")}
    faults = []
    for few, many, alike in (
        ("dual", "output_only", True),
        ("input_only", "dense", True),
        ("dual", "input_only", False),
        ("output_only", "dense", False),
    ):
        what = f"{few} over {many}"
        faults += _compared(f"pairs, {what}", _each(runs[few], _useful), _each(runs[many], _useful), _no_more)
        if alike or lanes == 1:
            faults += _compared(f"cycles, {what}", _each(runs[few], _cycles), _each(runs[many], _cycles), _no_more)
    return faults


@_property
def larger_arrays_never_compute_longer(pair: Pair, rng: Rng) -> list[str]:
    """Compute cycles with twice the rows or columns of one engine."""
    name, side = pick(rng, ("forward", "weight_update", "backward")), pick(rng, ("rows", "columns"))
    size = getattr(getattr(pair.arch.engines, name), side)
    larger = pair.on(**{f"engines__{name}__{side}": 2 * size}).activity()
    return _compared(f"{name} {side}", _each(larger, _cycles), _each(pair.counted, _cycles), _no_more)


@_property
def useful_operations_never_exceed_the_slots(pair: Pair, _: Rng) -> list[str]:
    """What lanes did, and what they could have done in the compute cycles."""
    activity = pair.counted
    return _compared("slots", _each(activity, _useful), _each(activity, lambda row: row.peak_operations), _no_more)


# time


@_property
def cycles_add_up(pair: Pair, _: Rng) -> list[str]:
    """Rows, and the batch group."""
    activity = pair.counted
    held = _each(activity, lambda row: row.compute_cycles + row.fill_cycles + row.stalls.total)
    faults = _compared("row", held, _each(activity, lambda row: row.end_cycle - row.start_cycle), _same)
    whole = activity.first_cycles + (activity.sub_batches - 1) * activity.steady_cycles + activity.update_cycles
    if whole != activity.batch_cycles:
        faults.append(f"batch: {whole} and {activity.batch_cycles}")
    return faults


@_property
def ideal_memory_is_never_slower(pair: Pair, _: Rng) -> list[str]:
    """The step whose transfers take no time, which no memory can hold up."""
    ideal, real = pair.activity(ideal_memory=True), pair.counted
    faults = []
    for name in ("first_cycles", "steady_cycles", "batch_cycles", "update_cycles"):
        if getattr(ideal, name) > getattr(real, name):
            faults.append(f"{name}: {getattr(ideal, name)} with ideal memory, {getattr(real, name)} without")
    return faults


@_property
def a_clock_and_memories_twice_as_fast_take_the_same_cycles(pair: Pair, _: Rng) -> list[str]:
    """Cycles know no seconds."""
    memory = {"memory__bandwidth_bytes_per_s": 2 * pair.arch.memory.bandwidth_bytes_per_s}
    twice = pair.on(clock_hz=2 * pair.arch.clock_hz, **memory).activity()
    return [] if twice == pair.counted else ["another activity at twice the clock and twice the bandwidth"]


@_property
def the_forward_pass_is_the_same_without_training(pair: Pair, _: Rng) -> list[str]:
    """Work of the forward rows of a trace that has no other phases."""
    members = {name: array for name, array in pair.members.items() if not name.endswith(".grad")}
    alone = replace(pair, meta={**pair.meta, "phases": ["forward"]}, members=members)
    forward = {key: value for key, value in _each(pair.counted, _work).items() if key[1] == "forward"}
    return _compared("alone", _each(alone.activity(), _work), forward, _same)


@_property
def names_change_no_number(pair: Pair, _: Rng) -> list[str]:
    """Layers, network, data set and machine under other names."""
    new = {layer["name"]: f"n{place}" for place, layer in enumerate(pair.meta["layers"])}
    layers = [
        {**layer, "name": new[layer["name"]], "inputs": [new.get(name, name) for name in layer["inputs"]]}
        for layer in pair.meta["layers"]
    ]
    members = {}
    for name, array in pair.members.items():
        layer, _, kind = name.rpartition(".")
        members[f"{new.get(layer, layer)}.{kind}"] = array
    meta = {**pair.meta, "layers": layers, "network": "another", "dataset": "another"}
    other = replace(pair.on(name="another"), meta=meta, members=members).activity()
    here = pair.counted
    renamed = replace(
        here,
        layers=tuple(replace(row, layer=new[row.layer]) for row in here.layers),
        memory=tuple(replace(part, layer=new[part.layer]) for part in here.memory),
    )
    return [] if other == renamed else ["another activity under other names"]


# energy


@cache
def _table(factor: float) -> EnergyTable:
    table = load_energy_table("28nm")
    return EnergyTable.model_validate(multiplied(table.model_dump(), Factors(factor, 1.0, factor), "x", with_sram=True))


@_property
def energies_scale_with_the_prices(pair: Pair, _: Rng) -> list[str]:
    """Every charge, under a table with every on-chip price times 4; off chip stays."""
    counts = count(pair.arch, pair.trace())
    try:
        once, four = (priced(counts, _table(factor)).cost for factor in (1.0, 4.0))
    except EnergyTableError:  # the table has no such LUT or macro
        return []
    wrong = [c.action for c, d in zip(once.charges, four.charges, strict=True) if 4 * c.energy_pj != d.energy_pj]
    faults = [f"charges that are not 4 times as high: {wrong}"] if wrong else []
    if once.offchip_pj != four.offchip_pj:
        faults.append("the energy off chip changed")
    return faults


@_property
def energy_is_the_sum_of_its_parts(pair: Pair, _: Rng) -> list[str]:
    """The total, its charges, its lines of the bill, its engines, and its rows with what leaks while they are idle."""
    try:
        result = simulate(pair.arch, pair.trace(), _table(1.0))
    except EnergyTableError:
        return []
    cost, activity = result.cost, result.activity
    rows = [math.fsum(cost.layer_energy_pj(row).values()) for row in range(len(activity.layers))]
    engines = [math.fsum(cost.engine_energy_j(name).values()) for name in ("forward", "weight_update", "backward")]
    sums = {
        "charges": 1e-12 * math.fsum(c.count * c.unit_pj for c in cost.charges),
        "bill": 1e-12 * math.fsum(line.energy_pj for line in cost.reconcile()),
        "engines": math.fsum(engines),
        "rows": 1e-12 * (math.fsum(rows) + cost.idle_leakage_pj),
    }
    return [
        f"{n}: {s} J of {cost.energy_j}" for n, s in sums.items() if not math.isclose(s, cost.energy_j, rel_tol=1e-9)
    ]


@_property
def one_chip_is_the_machine_itself(pair: Pair, _: Rng) -> list[str]:
    """The first point of several chips, and the rest of a result that has them."""
    trace = pair.trace()
    try:
        alone, joined = simulate(pair.arch, trace, _table(1.0)), simulate(pair.arch, trace, _table(1.0), chips=2)
    except EnergyTableError:
        return []
    assert joined.chips is not None
    faults = [] if alone.activity == joined.activity else ["another activity with chips"]
    for curve in (joined.chips.strong, joined.chips.weak):
        point = curve.points[0]
        if (point.cycles, point.link_bytes, point.speedup) != (alone.activity.batch_cycles, 0, 1.0):
            faults.append(
                f"one chip: {point.cycles} cycles, {point.link_bytes} bytes on links, speedup {point.speedup}"
            )
    return faults


# files


@_property
def a_trace_written_and_read_gives_the_same_bytes(pair: Pair, _: Rng) -> list[str]:
    """Two files of one content, and a file of what was read of one."""
    trace = pair.trace()
    first = trace.path.read_bytes()
    read = {name: _member(trace, name) for name in pair.members}
    second = replace(pair, members=read).trace().path.read_bytes()
    return [] if first == second else ["other bytes after reading and writing"]


def _member(trace: Any, name: str) -> Any:
    layer, _, kind = name.rpartition(".")
    if layer != "input":
        return trace.mask(layer, kind)
    return trace.input_analog() if kind == "analog" else trace.input_spikes()
