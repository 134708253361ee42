"""The arch file: every parameter of the simulated machine, checked on load.

Marks in archconfigs/h2learn.yaml say which values the source gives [G], which follow from its figures
[D] and which are assumed [A].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from h2sim.errors import ArchError
from h2sim.io.fields import with_fields
from h2sim.io.strict import Strict, Version

Mode = Literal["dense", "input_only", "output_only", "dual"]
MODES: tuple[Mode, ...] = ("dense", "input_only", "output_only", "dual")

Size = Annotated[int, Field(strict=True, ge=1, le=65536)]
Cycles = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class TileSize(Strict):
    """Positions of a feature-map tile (figure 3.1)."""

    height: Annotated[int, Field(strict=True, ge=1, le=256)]
    width: Annotated[int, Field(strict=True, ge=1, le=256)]

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
    """One global buffer: `bytes` in all, both ping-pong halves, cut into `banks` SRAM macros of `word_bits` words."""

    bytes: Annotated[int, Field(strict=True, ge=64, le=1 << 30)]
    word_bits: Annotated[int, Field(strict=True, ge=8, le=2048)]
    banks: Annotated[int, Field(strict=True, ge=1, le=4096)]

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
        """One ping-pong half."""
        return self.bytes // 2


class ForwardBuffers(Strict):
    """GLBs of the Forward Engine."""

    spikes: Buffer
    weights: Buffer
    psum: Buffer
    output: Buffer


class WeightUpdateBuffers(Strict):
    """GLBs of the Weight Update Engine."""

    gradients: Buffer
    spikes: Buffer
    weight_gradients: Buffer


class BackwardBuffers(Strict):
    """GLBs of the Backward Engine."""

    gradients: Buffer
    weights: Buffer
    psum: Buffer
    state: Buffer
    output: Buffer


class _Array(Strict):
    rows: Size
    columns: Size
    parallelism: Annotated[int, Field(strict=True, ge=1, le=1024)]


class _LutArray(_Array):
    sub_luts: Annotated[int, Field(strict=True, ge=1, le=64)]
    sub_lut_size: Annotated[int, Field(strict=True, ge=2, le=4096)]
    lut: bool = True
    lut_double_buffered: bool = False

    @field_validator("sub_lut_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @property
    def sub_lut_inputs(self) -> int:
        """v: the spikes that address one sub-LUT, log2 of its entries."""
        return self.sub_lut_size.bit_length() - 1


class ForwardEngine(_LutArray):
    """Forward Engine (section 3.2.1): rows are input channels, columns output channels."""

    buffers: ForwardBuffers


class WeightUpdateEngine(_LutArray):
    """Weight Update Engine (section 3.2.2): rows are timesteps, columns channels of the membrane gradient."""

    buffers: WeightUpdateBuffers


class BackwardEngine(_Array):
    """Backward Engine (section 3.2.3): rows are channels of dm^{l+1}, columns channels of ds^l."""

    mode: Mode = "dual"
    empty_window_cycles: Cycles = 1
    tile_sync_cycles: Cycles = 4
    dm_compressed: bool = False
    encode_once: bool = False
    buffers: BackwardBuffers


class Engines(Strict):
    """The three engines."""

    forward: ForwardEngine
    weight_update: WeightUpdateEngine
    backward: BackwardEngine


class Memory(Strict):
    """The three external memories (Mem 0, 1, 2), each of the same bandwidth."""

    bandwidth_bytes_per_s: Annotated[int, Field(strict=True, ge=1, le=10**15)]
    first_access_cycles: Cycles = 0


class Latency(Strict):
    """Stage depths of the pipelines in cycles; the fill of an engine follows from them."""

    lut_read: Cycles
    fp16_add: Cycles
    fp16_multiply: Cycles
    finder: Cycles
    soma: Cycles
    grad: Cycles


class Pipeline(Strict):
    """Overlap over sub-batches (figure 3.9)."""

    sub_batches_per_batch: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    accumulate_weight_gradients: bool = True


class Interconnect(Strict):
    """Links that join several chips in a ring (section 3.2.4); each chip sends to one and hears from another at once.

    link_bytes_per_s: of one link in one direction; hop_cycles: from the last byte sent to the next step's first.
    """

    link_bytes_per_s: Annotated[int, Field(strict=True, ge=1, le=10**15)]
    hop_cycles: Cycles
    energy_pj_per_bit: Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]


class Arch(Strict):
    """A whole H2Learn; rivals have other kinds of files. interconnect is asked for only where several work together."""

    machine: Literal["h2learn"] = "h2learn"
    version: Version = 1
    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: str = ""
    clock_hz: Annotated[int, Field(strict=True, ge=1, le=10**11)]
    tile: TileSize
    engines: Engines
    memory: Memory
    latency: Latency
    pipeline: Pipeline
    interconnect: Interconnect | None = None

    @property
    def engine_names(self) -> tuple[str, ...]:
        """The names of the engines, as rows of a result carry them."""
        return tuple(Engines.model_fields)

    def with_(self, changes: Mapping[str, object]) -> Arch:
        """The same machine with other values at these dotted paths: `arch.with_({"engines.backward.rows": 32})`.

        Raises ArchError: one line per fault, as for a file.
        """
        return with_fields(self, changes, self.name, ArchError)
