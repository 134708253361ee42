"""Several chips that share a batch group: each runs other samples, then their weight gradients are added up (3.2.4).

The source says no more than that. The rest is assumed here [A]. The chips that have work form a ring. Every chip's
weight gradients lie in its Mem 2, cut into as many chunks as the ring has chips, all padded to the largest. In each of
chips - 1 steps a chip sends one chunk to the next chip and adds the chunk that it receives to its own (reduce-scatter).
In chips - 1 more steps the sums go round (all-gather). Additions are as fast as the links. All chips step together. The
all-reduce does not overlap with the sub-batches. After it every chip updates its own copy of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.activity import Activity
from h2sim.arch.schema import Arch, Interconnect
from h2sim.arrays import Array
from h2sim.errors import ArchError, H2SimError, at
from h2sim.memory.schedule import transfer_cycles
from h2sim.memory.traffic import VALUE_BYTES
from h2sim.trace import TraceMeta

MOST_CHIPS = 1024
ADDING_TRANSFERS, COPYING_TRANSFERS = 3, 2  # of a chunk in Mem 2: read to send, (read to add,) write
UPDATE_TRANSFERS = 4  # of all values: w and dw read, w written to Mem 0 and 1


@dataclass(frozen=True)
class AllReduce:
    """What one all-reduce takes: its cycles, and of all chips together the bytes over links, the bytes in and out of
    Mem 2, and the additions."""

    cycles: int = 0
    link_bytes: int = 0
    memory_bytes: int = 0
    additions: int = 0


@dataclass(frozen=True, kw_only=True)
class GroupRun:
    """What a batch group of `sub_batches` takes on `chips`.

    working: chips that have at least one sub-batch; sub_batches_per_chip: what the busiest chip has; cycles: until the
    last weight is written; idle_chip_cycles: cycles of all chips together in which a chip has no sub-batch, no
    all-reduce and no update; update_bytes: to and from the memories of all chips for the update.
    """

    chips: int
    working: int
    sub_batches: int
    sub_batches_per_chip: int
    cycles: int
    idle_chip_cycles: int
    update_bytes: int
    all_reduce: AllReduce


def check_chips(arch: Arch, chips: object) -> None:
    """Checks a number of chips. Raises H2SimError unless it is from 1 to 1024, ArchError for several without links."""
    if type(chips) is not int or not 1 <= chips <= MOST_CHIPS:
        raise H2SimError(at("--chips", "number of chips", f"an integer from 1 to {MOST_CHIPS}", repr(chips)))
    if chips > 1:
        _links(arch)


def _links(arch: Arch) -> Interconnect:
    if arch.interconnect is None:
        wanted = "link_bytes_per_s, hop_cycles and energy_pj_per_bit, for several chips"
        raise ArchError(at(arch.name, "interconnect", wanted, "none"))
    return arch.interconnect


def gradient_values(meta: TraceMeta) -> int:
    """How many weight gradients the chips add up: one per weight and bias, 0 for a step without weight update."""
    return sum(layer.parameters for layer in meta.layers) if "weight_update" in meta.phases else 0


def gradient_bytes(meta: TraceMeta) -> int:
    """Bytes of the weight gradients that the chips add up, in FP16."""
    return VALUE_BYTES * gradient_values(meta)


def group_run(
    arch: Arch, activity: Activity, values: int, chips: int, sub_batches: int, ideal_memory: bool = False
) -> GroupRun:
    """What a batch group takes on several chips, with its sub-batches dealt out as evenly as possible.

    values: weight gradients to add up (gradient_values). A chip that gets no sub-batch stays out of the ring. On one
    chip, `cycles` are the activity's batch_cycles.
    """
    working, most = min(chips, sub_batches), -(-sub_batches // chips)
    ring = all_reduce(arch, values, working, ideal_memory)
    end = ring.cycles + activity.update_cycles
    cycles = activity.first_cycles + (most - 1) * activity.steady_cycles + end
    busy = working * (activity.first_cycles + end) + (sub_batches - working) * activity.steady_cycles
    update_bytes = working * UPDATE_TRANSFERS * VALUE_BYTES * values
    return GroupRun(
        chips=chips,
        working=working,
        sub_batches=sub_batches,
        sub_batches_per_chip=most,
        cycles=cycles,
        idle_chip_cycles=chips * cycles - busy,
        update_bytes=update_bytes,
        all_reduce=ring,
    )


def all_reduce(arch: Arch, values: int, chips: int, ideal_memory: bool = False) -> AllReduce:
    """What an all-reduce of `values` takes, in closed form; `stepped_all_reduce` is its stepped twin.

    It has 2 * (chips - 1) steps. A step lasts max(cycles of its link, cycles of its Mem 2) + hop_cycles. Raises
    ArchError for several chips without links.
    """
    if chips == 1 or values == 0:
        return AllReduce()
    links, size = _links(arch), VALUE_BYTES * -(-values // chips)
    link, memory = _link_cycles(arch, links, size), _memory_cycles(arch, size, ideal_memory)
    adding, copying = (max(link, n * memory) for n in (ADDING_TRANSFERS, COPYING_TRANSFERS))
    steps, moved = chips - 1, (chips - 1) * chips * size
    return AllReduce(
        steps * (adding + copying + 2 * links.hop_cycles),
        2 * moved,
        (ADDING_TRANSFERS + COPYING_TRANSFERS) * moved,
        moved // VALUE_BYTES,
    )


def stepped_all_reduce(arch: Arch, gradients: Array, ideal_memory: bool = False) -> tuple[Array, AllReduce]:
    """The ring of `all_reduce` step by step, with values: returns the sums, (chips, values), and what they took.

    gradients: (chips, values), one row per chip. Every chunk is added up in one order and then copied, so that all
    chips hold the same bits whatever the dtype.
    """
    chips, values = gradients.shape
    if chips == 1 or values == 0:
        return gradients.copy(), AllReduce()
    links, chunk_values = _links(arch), -(-values // chips)
    held = np.zeros((chips, chips * chunk_values), gradients.dtype)
    held[:, :values] = gradients
    held = held.reshape(chips, chips, chunk_values)
    chunk_bytes = VALUE_BYTES * chunk_values
    cycles = link_bytes = memory_bytes = additions = 0
    for adding in (True, False):
        for step in range(chips - 1):
            sent = [(chip - step + (not adding)) % chips for chip in range(chips)]
            carried = [held[chip, sent[chip]].copy() for chip in range(chips)]
            slowest = 0
            for chip in range(chips):
                chunk, arrived = sent[chip - 1], carried[chip - 1]
                transfers = 1  # the chunk that goes out is read
                if adding:
                    arrived = arrived + held[chip, chunk]
                    transfers += 1
                    additions += chunk_values
                held[chip, chunk] = arrived
                transfers += 1
                memory = sum(_memory_cycles(arch, chunk_bytes, ideal_memory) for _ in range(transfers))
                slowest = max(slowest, memory, _link_cycles(arch, links, chunk_bytes))
                link_bytes += chunk_bytes
                memory_bytes += transfers * chunk_bytes
            cycles += slowest + links.hop_cycles
    return held.reshape(chips, -1)[:, :values], AllReduce(cycles, link_bytes, memory_bytes, additions)


def _link_cycles(arch: Arch, links: Interconnect, n_bytes: int) -> int:
    return -(-n_bytes * arch.clock_hz // links.link_bytes_per_s)


def _memory_cycles(arch: Arch, n_bytes: int, ideal_memory: bool) -> int:
    return int(transfer_cycles(arch, np.array([n_bytes], np.int64), ideal_memory)[0])
