"""Cautions: sentences on a machine, trace or energy table whose numbers would mislead although nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from h2sim.arch import Arch
from h2sim.energy import EnergyTable
from h2sim.energy.plausible import FACTOR, implausible
from h2sim.trace import Layer, Trace

LEAST_CLOCK_HZ = 10**6
LEAST_BYTES_PER_S = 10**6
MOST_BETWEEN = 0.01  # a nearly binary input: share of all values that are neither the lowest nor the highest
MOST_BETWEEN_ABOVE = 0.05  # ... and of those above the lowest: sparse counts are mostly the lowest
MOST_NAMED = 6
BATCH_NORM = (
    "the network has batch norm: its arithmetic is not modelled, and the gradient masks are those of the membrane's "
    "gradient dm, not of what batch norm sends on, which is dense: the Backward Engine looks better than it would be"
)


def cautions(arch: Arch, trace: Trace, table: EnergyTable) -> tuple[str, ...]:
    """What to tell beside the numbers of a run, a sentence each, in a fixed order; empty where all is as usual.

    Masks are counted once for an open trace, so that another machine on the same trace costs nothing.
    """
    return (*machine_cautions(arch), *trace_cautions(trace, arch.engines.backward.mode), *table_cautions(table))


def machine_cautions(arch: Arch) -> tuple[str, ...]:
    """A clock below 1 MHz, a memory or link below 1 MB/s: most likely a number without its unit."""
    found = []
    if arch.clock_hz < LEAST_CLOCK_HZ:
        found.append(_slow(arch, "clock_hz", arch.clock_hz, "Hz", "1 MHz", "MHz"))
    speeds = {"memory.bandwidth_bytes_per_s": arch.memory.bandwidth_bytes_per_s}
    if arch.interconnect:
        speeds["interconnect.link_bytes_per_s"] = arch.interconnect.link_bytes_per_s
    slow = {field: speed for field, speed in speeds.items() if speed < LEAST_BYTES_PER_S}
    return (*found, *(_slow(arch, field, speed, "B/s", "1 MB/s", "GB/s") for field, speed in slow.items()))


def trace_cautions(trace: Trace, mode: str = "dual") -> tuple[str, ...]:
    """Layers without a spike, windows that exclude nothing, a binary input stored as analog, batch norm.

    mode: of the Backward Engine; dense and input_only use no windows, so that theirs mislead nobody.
    """
    return (
        *_silent(trace),
        *(_open_windows(trace) if mode in ("output_only", "dual") else ()),
        *_nearly_binary(trace),
        *((BATCH_NORM,) if trace.meta.norm_unsaid else ()),
        *trace.broken_laws,
    )


def table_cautions(table: EnergyTable) -> tuple[str, ...]:
    """Prices more than 100 times outside the range of the shipped tables, all in one sentence."""
    found = [f"{o.entry} is {o.value:.4g} (shipped tables: {o.low:.4g} to {o.high:.4g})" for o in implausible(table)]
    if not found:
        return ()
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    listed = "; ".join(found[:MOST_NAMED]) + more
    return (
        f"energy table {table.name}: {_some(len(found), 'price')} more than {FACTOR:g} times below or above those of "
        f"every shipped table, perhaps in another unit: {listed}",
    )


def _slow(arch: Arch, field: str, value: int, unit: str, least: str, meant: str) -> str:
    return f"machine {arch.name}: {field} is {value} {unit}, below {least}: was {value} {meant} meant?"


def _silent(trace: Trace) -> Iterator[str]:
    maps = trace.maps
    spiking = [layer.name for layer in trace.meta.layers if layer.spiking]
    silent = [name for name in spiking if maps.set_spikes(name) == 0]
    if trace.has("input.spikes") and maps.set_spikes("input") == 0:
        yield "the network's input holds no spike: what reads it has next to nothing to do"
    if trace.has("input.counts") and not trace.input_counts().any():
        yield "the network's input holds nothing but counts of 0: what reads it has next to nothing to do"
    if silent and len(silent) == len(spiking):
        yield "no layer of the trace spikes even once: times and energies are those of an idle network"
    elif silent:
        yield f"{_names(silent)} without a single spike: what reads it has next to nothing to do"


def _open_windows(trace: Trace) -> Iterator[str]:
    if "backward" not in trace.meta.phases:
        return
    spiking = [layer for layer in trace.meta.layers if layer.spiking and trace.has(f"{layer.name}.window")]
    wide = [layer.name for layer in spiking if _all_in_window(trace, layer)]
    if wide:
        where = "every layer" if len(wide) == len(spiking) else _names(wide)
        yield (
            f"every window bit of {where} is set, as by a surrogate that nowhere ends (window_threshold 0): the "
            "Backward Engine skips nothing there by output sparsity, which can make a step up to twice as long; "
            "export with a window_threshold above 0 to leave small derivatives out"
        )


def _all_in_window(trace: Trace, layer: Layer) -> bool:
    neurons = trace.meta.timesteps * trace.meta.batch * layer.neurons
    return trace.maps.set_bits(layer.name, "window") == neurons


def _nearly_binary(trace: Trace) -> Iterator[str]:
    if not trace.has("input.analog"):
        return
    found = trace.maps.analog_range()
    few = found.between <= MOST_BETWEEN * found.values
    few_above = found.between <= MOST_BETWEEN_ABOVE * (found.values - found.at_low)
    if found.low < found.high and few and few_above:
        share = 100 * (1 - found.between / found.values)
        yield (
            f"{share:.4g} % of the analog input's values are {found.low:g} or {found.high:g}: a binary input seems to "
            "be stored as analog, so that its encode layer multiplies where spikes would be looked up"
        )


def _names(names: Sequence[str]) -> str:
    """`layer conv1`, `layers conv1, conv2`, at most MOST_NAMED of them."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"layer{'s' * (len(names) > 1)} {', '.join(names[:MOST_NAMED])}{more}"


def _some(count: int, what: str) -> str:
    return f"{count} {what}{' is' if count == 1 else 's are'}"
