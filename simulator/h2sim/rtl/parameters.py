"""The parameters of the RTL: sizes and pipeline depths of an arch file, and widths of the integer data path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h2sim.arch.schema import Arch, BackwardEngine, ForwardEngine, WeightUpdateEngine
from h2sim.errors import ArchError
from h2sim.rtl.primitives import tree_levels

FINDER_CYCLES = 2  # output ID found; tag read
SYNC_CYCLES = 2  # every group's idle flag registered; the array's AND and the broadcast of the next tile
TILE_SYNC_CYCLES = SYNC_CYCLES + FINDER_CYCLES
EMPTY_WINDOW_CYCLES = 1  # an empty tag leaves the finder in the cycle in which it arrived
MOST_ADD_CYCLES = 2  # programming entry 3 needs entry 1 two cycles after it was issued


@dataclass(frozen=True)
class Widths:
    """Widths of the integer data path, in bits.

    operand_bits: of operands; sum_bits: of LUT entries and partial sums; fraction_bits: behind the point of membrane
    potentials and gradients. Sums of counts of B bit planes are up to 2**B - 1 times those of spikes.
    """

    operand_bits: int = 16
    sum_bits: int = 24
    fraction_bits: int = 8
    psum_blocks: int = 2  # halves of the partial-sum buffer: output tiles that the neuron unit may be behind
    plane_bits: int = 3  # of a plane's number in the LUT engines: counts have up to 2**plane_bits bit planes
    most_samples: int = 64  # of the layer, batch x timestep: the depth of the partial-sum buffer

    @property
    def state_bits(self) -> int:
        """Bits of a membrane potential or gradient."""
        return self.sum_bits + self.fraction_bits

    @property
    def ring_bits(self) -> int:
        """Bits that number the halves of the partial-sum buffer."""
        return max(1, (self.psum_blocks - 1).bit_length())


@dataclass(frozen=True, kw_only=True)
class ArrayParameters:
    """The parameters that all engines have: array, tile, depths of adders and of Soma, and widths."""

    name: str
    rows: int
    columns: int
    parallelism: int
    tile: tuple[int, int]
    add_cycles: int
    soma_cycles: int
    widths: Widths

    @property
    def operand_bits(self) -> int:
        return self.widths.operand_bits

    @property
    def sum_bits(self) -> int:
        return self.widths.sum_bits

    @property
    def positions(self) -> int:
        """Positions of a whole tile."""
        return self.tile[0] * self.tile[1]

    @property
    def state_words(self) -> int:
        """Neurons per lane whose state the neuron unit keeps: those of a tile, of every sample of a timestep."""
        return self.widths.most_samples * self.tile[0] * -(-self.tile[1] // self.parallelism)


@dataclass(frozen=True, kw_only=True)
class LutParameters(ArrayParameters):
    """The parameters of a LUT engine. neurons: whether Soma follows Acc, as in the Forward Engine."""

    sub_luts: int
    inputs: int
    double_buffered: bool
    read_cycles: int
    neurons: bool
    half_words: int  # words per lane of one half of the partial-sum buffer, or of the weight-gradient buffer

    @property
    def entries(self) -> int:
        return 1 << self.inputs

    @property
    def entry_bits(self) -> int:
        return self.inputs

    @property
    def plane_bits(self) -> int:
        return self.widths.plane_bits

    @property
    def spike_bits(self) -> int:
        """Spikes of one window, which one lane of one row reads in a cycle."""
        return self.sub_luts * self.inputs

    @property
    def word_bits(self) -> int:
        """Address bits of one half of the partial-sum buffer."""
        return max(1, (self.half_words - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Address bits of the partial-sum buffer: the half, then the word. Weight gradients have one half only."""
        return self.word_bits + (self.widths.ring_bits if self.neurons else 0)

    @property
    def tree_cycles(self) -> int:
        """Cycles from a PE's read to the output of the Acc tree."""
        levels = tree_levels(self.sub_luts) + tree_levels(self.rows)
        return self.add_cycles - 1 + self.read_cycles + levels * self.add_cycles


@dataclass(frozen=True, kw_only=True)
class BackwardParameters(ArrayParameters):
    """The parameters of the Backward Engine. kernel: the largest that it is built for."""

    kernel: tuple[int, int]
    multiply_cycles: int
    grad_cycles: int

    @property
    def id_bits(self) -> int:
        """Bits of an output ID, which is y * tile width + x."""
        return max(1, (self.positions - 1).bit_length())

    def row_of(self, output_id: int) -> int:
        return output_id // self.tile[1]

    def column_of(self, output_id: int) -> int:
        return output_id % self.tile[1]

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def tap_bits(self) -> int:
        return max(1, (self.taps - 1).bit_length())

    @property
    def buffer_ids(self) -> int:
        """Depth of an output ID buffer and of a PE's partial-sum buffer: a PE's share of a tile."""
        return -(-self.positions // self.parallelism)

    @property
    def word_bits(self) -> int:
        """Address bits of one half of the partial-sum buffer."""
        return max(1, (self.widths.most_samples * self.buffer_ids - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Address bits of the partial-sum buffer: the half, then the word."""
        return self.word_bits + self.widths.ring_bits

    @property
    def mac_cycles(self) -> int:
        """Cycles from the one that finds a pair to the one in which its finished sum is in the PE's buffer."""
        return 1 + self.multiply_cycles + self.add_cycles

    @property
    def acc_cycles(self) -> int:
        """Cycles from a PE's buffer, through a register, to the partial-sum buffer."""
        return 1 + (tree_levels(self.rows) + 1) * self.add_cycles


def forward_parameters(arch: Arch, widths: Widths) -> LutParameters:
    """The Forward Engine of an arch. Raises ArchError for what the RTL does not build."""
    words = -(-widths.most_samples // arch.engines.forward.parallelism) * _positions(arch)
    return _lut(arch, "engines.forward", arch.engines.forward, widths, True, words)


def weight_update_parameters(arch: Arch, widths: Widths, most_offsets: int) -> LutParameters:
    """The Weight Update Engine of an arch. Raises ArchError for what the RTL does not build.

    most_offsets: pairs of channel and kernel offset for which its weight-gradient buffer has room.
    """
    engine = arch.engines.weight_update
    return _lut(arch, "engines.weight_update", engine, widths, False, -(-most_offsets // engine.parallelism))


def of_engine(arch: Arch, engine: str, widths: Widths, kernel: tuple[int, int]) -> LutParameters | BackwardParameters:
    """An engine of an arch in its own size: it has room for the weight gradients that half of their buffer holds."""
    if engine == "forward":
        return forward_parameters(arch, widths)
    if engine == "weight_update":
        update = arch.engines.weight_update
        return weight_update_parameters(arch, widths, update.buffers.weight_gradients.half_bytes // 2 // update.columns)
    return backward_parameters(arch, widths, kernel)


def _positions(arch: Arch) -> int:
    return arch.tile.height * arch.tile.width


def _lut(
    arch: Arch, field: str, engine: ForwardEngine | WeightUpdateEngine, widths: Widths, neurons: bool, words: int
) -> LutParameters:
    _check(arch, f"{field}.lut", engine.lut, [True], "only the LUT engines are built")
    _check(
        arch, "latency.fp16_add", arch.latency.fp16_add, range(1, MOST_ADD_CYCLES + 1), "deeper adders do not keep up"
    )
    _check(arch, "latency.lut_read", arch.latency.lut_read, range(1, 17), "the LUT's output is registered")
    _check(arch, "latency.soma", arch.latency.soma, range(1, 65), "Soma's output is registered")
    return LutParameters(
        name="forward" if neurons else "weight_update",
        **_array(arch, engine, widths),
        sub_luts=engine.sub_luts,
        inputs=engine.sub_lut_inputs,
        double_buffered=engine.lut_double_buffered,
        read_cycles=arch.latency.lut_read,
        neurons=neurons,
        half_words=words,
    )


def _array(arch: Arch, engine: ForwardEngine | WeightUpdateEngine | BackwardEngine, widths: Widths) -> dict[str, Any]:
    """The parameters that all engines have."""
    return {
        "rows": engine.rows,
        "columns": engine.columns,
        "parallelism": engine.parallelism,
        "tile": (arch.tile.height, arch.tile.width),
        "add_cycles": arch.latency.fp16_add,
        "soma_cycles": arch.latency.soma,
        "widths": widths,
    }


def backward_parameters(arch: Arch, widths: Widths, kernel: tuple[int, int]) -> BackwardParameters:
    """The Backward Engine of an arch. Raises ArchError for what the RTL does not build."""
    engine: BackwardEngine = arch.engines.backward
    latency = arch.latency
    why = "the RTL's pipeline has this many"
    _check(arch, "engines.backward.tile_sync_cycles", engine.tile_sync_cycles, [TILE_SYNC_CYCLES], why)
    _check(arch, "engines.backward.empty_window_cycles", engine.empty_window_cycles, [EMPTY_WINDOW_CYCLES], why)
    _check(arch, "latency.finder", latency.finder, [FINDER_CYCLES], why)
    for name in ("fp16_add", "fp16_multiply", "soma", "grad"):
        _check(arch, f"latency.{name}", getattr(latency, name), range(1, 65), "its output is registered")
    return BackwardParameters(
        name="backward",
        **_array(arch, engine, widths),
        kernel=kernel,
        multiply_cycles=latency.fp16_multiply,
        grad_cycles=latency.grad,
    )


def _check(arch: Arch, field: str, got: object, expected: range | list[int], why: str) -> None:
    if got not in expected:
        wanted = f"{expected[0]} to {expected[-1]}" if len(expected) > 1 else str(expected[0]).lower()
        raise ArchError(f"{arch.name}: {field}: expected {wanted} ({why}); got {str(got).lower()}")
