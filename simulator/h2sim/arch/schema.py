"""The arch file: every parameter of the simulated machine, checked on load.

Every field has a description, which `h2sim arch schema` and editors show. Its mark says where the value in
archconfigs/h2learn.yaml comes from: the source gives it [G], it is derived from figures that the source gives [D], or
it is assumed because the source is silent [A].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from h2sim.errors import ArchError
from h2sim.io.fields import with_fields
from h2sim.io.strict import Name, Strict, Version

Mode = Literal["dense", "input_only", "output_only", "dual"]
MODES: tuple[Mode, ...] = ("dense", "input_only", "output_only", "dual")

PowerGating = Literal["none", "engine", "buffer"]

Size = Annotated[int, Field(strict=True, ge=1, le=65536)]
Side = Annotated[int, Field(strict=True, ge=1, le=256)]
Lanes = Annotated[int, Field(strict=True, ge=1, le=1024)]
Planes = Annotated[int, Field(strict=True, ge=1, le=53)]
Cycles = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
BytesPerSecond = Annotated[int, Field(strict=True, ge=1, le=10**15)]


class TileSize(Strict):
    """Size of a feature-map tile (figure 3.1)."""

    height: Side = Field(description="[A] positions from top to bottom of a tile")
    width: Side = Field(
        description="[A] positions from left to right; 1x8 windows of the Weight Update Engine suggest 8"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_two(cls, value: Any) -> Any:
        """[height, width] is read too."""
        if isinstance(value, list | tuple) and len(value) == 2:
            return {"height": value[0], "width": value[1]}
        return value

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


class Buffer(Strict):
    """One global buffer (GLB) of two ping-pong halves, made of SRAM macros."""

    bytes: Annotated[int, Field(strict=True, ge=64, le=1 << 30)] = Field(
        description="[A] bytes of both ping-pong halves together"
    )
    word_bits: Annotated[int, Field(strict=True, ge=8, le=2048)] = Field(
        description="[A] bits of one word of a macro, a power of two"
    )
    banks: Annotated[int, Field(strict=True, ge=1, le=4096)] = Field(
        description="[A] SRAM macros that the buffer is cut into"
    )

    @field_validator("word_bits")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @model_validator(mode="after")
    def _whole_banks(self) -> Buffer:
        if self.bytes // self.banks * 8 < self.word_bits:
            got = f"{self.bytes} B in {self.banks} banks"
            raise ValueError(f"banks: a bank must hold one word of {self.word_bits} bits; got {got}")
        return self

    @property
    def half_bytes(self) -> int:
        """Bytes of one ping-pong half."""
        return self.bytes // 2


class ForwardBuffers(Strict):
    """Global buffers of the Forward Engine."""

    spikes: Buffer = Field(description="[A] input spikes, one bit each; also what pools and adds read")
    weights: Buffer = Field(description="[A] weights, FP16")
    psum: Buffer = Field(description="[A] partial sums, FP16")
    output: Buffer = Field(description="[A] results of Soma: spikes, window mask and compressed membrane potentials")


class WeightUpdateBuffers(Strict):
    """Global buffers of the Weight Update Engine."""

    gradients: Buffer = Field(description="[A] membrane gradients dm, FP16")
    spikes: Buffer = Field(description="[A] input spikes, one bit each")
    weight_gradients: Buffer = Field(description="[A] weight gradients dw, FP16")


class BackwardBuffers(Strict):
    """Global buffers of the Backward Engine."""

    gradients: Buffer = Field(description="[A] membrane gradients dm, FP16, and the mask of where they are not 0")
    weights: Buffer = Field(description="[A] weights, FP16")
    psum: Buffer = Field(description="[A] partial sums, FP16")
    state: Buffer = Field(description="[A] what Grad reads: spikes, window mask, compressed membrane potentials")
    output: Buffer = Field(description="[A] results of Grad: membrane gradients, FP16, and their mask")


class MostPlanes(Strict):
    """Up to how many bit planes a layer of counts passes through LUTs; with more it is multiplied, on the Backward
    Engine."""

    conv: Planes = Field(8, description="[A] of a convolution")
    fc: Planes = Field(3, description="[A] of a fully connected layer")


MOST_PLANES = MostPlanes(conv=8, fc=3)


class _Array(Strict):
    rows: Size
    columns: Size
    parallelism: Lanes

    @property
    def size(self) -> str:
        """`64x16x4`: rows, columns and lanes."""
        return f"{self.rows}x{self.columns}x{self.parallelism}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size})"

    __str__ = __repr__


class _LutArray(_Array):
    sub_luts: Annotated[int, Field(strict=True, ge=1, le=64)]
    sub_lut_size: Annotated[int, Field(strict=True, ge=2, le=4096)]
    lut: bool = Field(True, description="[G] whether PEs read sums from sub-LUTs; false: the baseline, which adds them")
    lut_double_buffered: bool = Field(
        False, description="[A] whether sub-LUTs are there twice, so that one set is programmed while the other is read"
    )

    @field_validator("sub_lut_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @property
    def sub_lut_inputs(self) -> int:
        """v, the number of bits that address one sub-LUT: log2 of its entries."""
        return self.sub_lut_size.bit_length() - 1


class ForwardEngine(_LutArray):
    """Forward Engine (section 3.2.1): rows are input channels, columns output channels."""

    rows: Size = Field(description="[G] PE rows: channels of the input spikes s^{l-1} at once")
    columns: Size = Field(description="[D] PE columns: output channels at once; from the 48 KB of LUT")
    parallelism: Lanes = Field(description="[G] lanes: samples and timesteps of a tile at once; read ports of a LUT")
    sub_luts: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="[G] sub-LUTs of a PE: one per row of a 3x3 window"
    )
    sub_lut_size: Annotated[int, Field(strict=True, ge=2, le=4096)] = Field(
        description="[G] entries of a sub-LUT, a power of two: all sums of log2(entries) weights"
    )
    lanes: Literal["batch_time", "samples"] = Field(
        "batch_time",
        description="[A] what the lanes take at once: tiles of any samples and timesteps, or samples of one timestep",
    )
    most_planes: MostPlanes = Field(
        default_factory=lambda: MOST_PLANES,
        description="[A] up to how many bit planes counts pass through the LUTs",
    )
    buffers: ForwardBuffers = Field(description="[A] global buffers")


class WeightUpdateEngine(_LutArray):
    """Weight Update Engine (section 3.2.2): rows are timesteps, columns channels of the membrane gradient."""

    rows: Size = Field(description="[G] PE rows: timesteps at once")
    columns: Size = Field(description="[G] PE columns: channels of the membrane gradient dm^l at once")
    parallelism: Lanes = Field(description="[G] lanes: offsets of the spikes at once; read ports of a LUT")
    sub_luts: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="[G] sub-LUTs of a PE: with two, a segment is 1x8 gradients"
    )
    sub_lut_size: Annotated[int, Field(strict=True, ge=2, le=4096)] = Field(
        description="[G] entries of a sub-LUT, a power of two: all sums of log2(entries) gradients"
    )
    lanes: Literal["offsets", "channels"] = Field(
        "offsets",
        description="[A] what the lanes take at once: offsets of any input channels, or channels at one kernel offset",
    )
    buffers: WeightUpdateBuffers = Field(description="[A] global buffers")


class BackwardEngine(_Array):
    """Backward Engine (section 3.2.3): rows are channels of dm^{l+1}, columns channels of ds^l."""

    rows: Size = Field(description="[G] PE rows: channels of the membrane gradient dm^{l+1} at once")
    columns: Size = Field(description="[G] PE columns: channels of the spike gradient ds^l at once")
    parallelism: Lanes = Field(description="[G] PEs of a group, each at another position")
    mode: Mode = Field(
        "dual",
        description="[G] which zeros are skipped: dense none, input_only those of dm, output_only those outside the "
        "window, dual both; all but dual are the source's baselines",
    )
    empty_window_cycles: Cycles = Field(1, description="[A] cycles of a position that no gradient feeds")
    tile_sync_cycles: Cycles = Field(4, description="[A] cycles between two tiles, in which all PEs wait")
    dm_compressed: bool = Field(False, description="[A] whether only the gradients that are not 0 travel from memory")
    encode_once: bool = Field(
        False,
        description="[A] whether an encoding layer whose input stands still is computed once, not at every timestep",
    )
    encode_gradient_once: bool = Field(
        False,
        description="[A] whether its weight gradient is computed once, from gradients summed over time",
    )
    buffers: BackwardBuffers = Field(description="[A] global buffers")


class Engines(Strict):
    """The three engines."""

    forward: ForwardEngine = Field(description="Forward Engine: currents and spikes (section 3.2.1)")
    weight_update: WeightUpdateEngine = Field(description="Weight Update Engine: weight gradients (section 3.2.2)")
    backward: BackwardEngine = Field(
        description="Backward Engine: spike gradients, and encoding layers (section 3.2.3)"
    )

    @property
    def sizes(self) -> str:
        """`forward 64x16x4, ...`: the array of every engine."""
        return f"forward {self.forward.size}, weight_update {self.weight_update.size}, backward {self.backward.size}"

    def __repr__(self) -> str:
        return f"Engines({self.sizes})"

    __str__ = __repr__


class Memory(Strict):
    """The three external memories (Mem 0, 1, 2), each of the same bandwidth."""

    bandwidth_bytes_per_s: BytesPerSecond = Field(description="[G] bytes per second of each memory (table 3.6)")
    first_access_cycles: Cycles = Field(0, description="[A] cycles before the first byte of a transfer")
    burst_bytes: Annotated[int, Field(strict=True, ge=64, le=1 << 30)] = Field(
        4096, description="[A] bytes that a memory moves for one stream before the next has its turn"
    )


class Latency(Strict):
    """Depths of pipeline stages in cycles; an engine's fill follows from them."""

    lut_read: Cycles = Field(description="[A] cycles of a read of a sub-LUT")
    fp16_add: Cycles = Field(description="[A] cycles of an FP16 adder; sums can still accumulate every cycle")
    fp16_multiply: Cycles = Field(description="[A] cycles of an FP16 multiplier")
    finder: Cycles = Field(description="[A] cycles in which the finders find an output ID and read its tag")
    soma: Cycles = Field(description="[A] cycles of the Soma unit")
    grad: Cycles = Field(description="[A] cycles of the Grad unit")


class Pipeline(Strict):
    """Overlap over sub-batches (figure 3.9)."""

    sub_batches_per_batch: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        description="[A] sub-batches of a batch group, after which weights are updated"
    )
    accumulate_weight_gradients: bool = Field(
        True, description="[A] whether a sub-batch adds its weight gradients to those of the group in Mem 2"
    )


class Normalisation(Strict):
    """What a normalisation with statistics of the step costs, such as batch norm in training."""

    model: Literal["two_pass", "none"] = Field(
        "two_pass",
        description="[A] two_pass: what is normalised is written, and read again when its statistics are there, in the "
        "forward and in the backward pass; none: it costs nothing, which flatters the machine",
    )


NORMALISATION = Normalisation(model="two_pass")


class Interconnect(Strict):
    """Links that join several chips in a ring (section 3.2.4); a chip sends and receives at the same time."""

    link_bytes_per_s: BytesPerSecond = Field(description="[A] bytes per second of one link in one direction")
    hop_cycles: Cycles = Field(description="[A] cycles from the last byte of a step to the first byte of the next step")
    energy_pj_per_bit: Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)] = Field(
        description="[A] pJ that a link takes for one bit"
    )


class Arch(Strict):
    """A whole H2Learn; rivals have other kinds of files."""

    machine: Literal["h2learn"] = Field("h2learn", description="kind of machine; a rival's file names another")
    version: Version = Field(1, description="version of the file's format")
    name: Annotated[Name, Field(min_length=1, max_length=100)] = Field(description="name that results carry")
    description: str = Field("", description="what the machine is, in a sentence")
    clock_hz: Annotated[int, Field(strict=True, ge=1, le=10**11)] = Field(
        description="[G] cycles per second (table 3.6)"
    )
    tile: TileSize = Field(description="[A] size of the tiles that feature maps are cut into")
    engines: Engines = Field(description="the three engines")
    memory: Memory = Field(description="the three external memories")
    latency: Latency = Field(description="[A] depths of pipeline stages in cycles")
    pipeline: Pipeline = Field(description="overlap over sub-batches")
    normalisation: Normalisation = Field(
        default_factory=lambda: NORMALISATION, description="[A] what batch norm costs in training"
    )
    power_gating: PowerGating = Field(
        "none",
        description="[A] what stops leaking while idle: none; engine: an engine and its buffers between its jobs; "
        "buffer: besides, each buffer while its engine's job does not use it",
    )
    interconnect: Interconnect | None = Field(
        None, description="[A] links between chips; needed only where several chips work together"
    )

    @property
    def engine_names(self) -> tuple[str, ...]:
        """The names of the engines, as rows of a result carry them."""
        return tuple(Engines.model_fields)

    def with_(self, changes: Mapping[str, object]) -> Arch:
        """The same machine with other values at these dotted paths: `arch.with_({"engines.backward.rows": 32})`.

        Raises ArchError: one line per fault, as for a file.

        >>> import h2sim
        >>> wide = h2sim.load_arch("h2learn").with_({"engines.backward.rows": 32})
        >>> wide.engines.backward.size
        '32x64x4'
        """
        return with_fields(self, changes, self.name, ArchError)

    def __repr__(self) -> str:
        gb_per_s = self.memory.bandwidth_bytes_per_s / 1e9
        return f"Arch({self.name!r}: {self.clock_hz / 1e6:g} MHz, {self.engines.sizes}, {gb_per_s:g} GB/s)"

    __str__ = __repr__
