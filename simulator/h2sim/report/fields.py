"""Meaning of every field of the files that users write: machines' arch files and energy tables, from their schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from pydantic import BaseModel

from h2sim.io.faults import model_in

TABLE = "energy table"


@cache
def file_fields() -> Mapping[str, Mapping[str, str]]:
    """For each kind of file (h2learn, each rival, energy table): dotted path -> meaning."""
    return {kind: dict(described(model)) for kind, model in _schemas().items()}


def described(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, meaning) of each field of a model, a holder before what it holds; entries of lists left out.

    A field's meaning is its description, or else the first line of the docstring of the model that it holds.
    """
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        own = (inner.__doc__ or "").strip().partition("\n")[0] if inner else ""
        yield before + name, field.description or own
        if inner:
            yield from described(inner, f"{before}{name}.")


def _schemas() -> dict[str, type[BaseModel]]:
    from h2sim.arch import Arch
    from h2sim.energy import EnergyTable
    from h2sim.rivals.registry import H2LEARN, kinds, rival

    return {H2LEARN: Arch, **{kind: rival(kind).schema for kind in kinds()}, TABLE: EnergyTable}
