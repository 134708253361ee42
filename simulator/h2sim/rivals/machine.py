"""What every rival's arch file has in common, whatever the machine is; and those of machines with a clock."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import Field

from h2sim.arch.schema import Memory
from h2sim.io.strict import Name, Strict, Version

ARRAY = "array"  # the name of the only engine
Positive = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]
ValueBytes = Annotated[int, Field(strict=True, ge=1, le=8)]
Size = Annotated[int, Field(strict=True, ge=1, le=65536)]


class RivalMachine(Strict):
    """An arch file of another machine than H2Learn; `machine` says which, and so which schema holds."""

    version: Version = Field(1, description="version of the file's format")
    machine: Name = Field(description="kind of machine; it says which fields the file has")
    name: Name = Field(description="name that results carry")
    description: str = Field("", description="what the machine is, in a sentence")

    @property
    def sha256(self) -> str:
        """Hash of the machine as simulated, defaults and overrides included."""
        text = json.dumps(self.model_dump(mode="json", exclude={"version"}), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class ClockedMachine(RivalMachine):
    """What the file of such a machine says at least; name, clock_hz and memory are what the schedule asks for."""

    node_nm: Positive = Field(description="technology, nm")
    clock_hz: Annotated[int, Field(strict=True, ge=1, le=10**11)] = Field(description="cycles per second")
    memory: Memory = Field(description="external memory")

    @property
    def engine_names(self) -> tuple[str, ...]:
        """One array works through all layers."""
        return (ARRAY,)


def with_bandwidth(machine: RivalMachine, bytes_per_s: int) -> RivalMachine:
    """The machine with a memory of another bandwidth, which its name says; one without such a memory as it is."""
    if not isinstance(machine, ClockedMachine):
        return machine
    memory = machine.memory.model_copy(update={"bandwidth_bytes_per_s": bytes_per_s})
    return machine.model_copy(update={"memory": memory, "name": f"{machine.name} at {bytes_per_s / 1e9:g} GB/s"})
