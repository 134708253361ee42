"""The machines of a figure: those of a shipped sweep (workloads/sweeps), made of the setting's machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h2sim.arch import Arch
from h2sim.errors import ReproductionError
from h2sim.io import library
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting
from h2sim.sweeps.machines import Machines
from h2sim.sweeps.plan import unsized
from h2sim.sweeps.space import Space
from h2sim.sweeps.spec import load_spec


@dataclass(frozen=True)
class Variant:
    """One machine of a figure, and the parameters that make it."""

    parameters: dict[str, Any]
    arch: Arch


def variants(lab: Lab, setting: Setting, sweep: str, **fixed: Any) -> list[Variant]:
    """The machines of a sweep of that name, in its order. fixed: other values of its variables.

    Raises ReproductionError for a machine that the setting makes impossible.
    """
    base = lab.arch(setting)
    written = load_spec(library.find("sweep", sweep), tuple(f"{name}={_spelt(value)}" for name, value in fixed.items()))
    machines = Machines.of(written, base, [lab.table(setting)], unsized)
    found = []
    for choice in Space.of(written.spec, machines.admits, machines.deciding).grid():
        design = machines.design(choice)
        if design.fault:
            raise ReproductionError(design.fault)
        found.append(Variant(design.parameters, base.with_(design.arch)))
    return found


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
