"""Words that several reports share."""

from __future__ import annotations

from typing import Any

TITLES = {"forward": "Forward", "weight_update": "Weight update", "backward": "Backward"}


COMPONENTS = {"pe_array": "PE array", "acc": "Acc", "soma": "Soma", "grad": "Grad", "glb": "global buffers"}


def component(name: str) -> str:
    """A component of an engine, as people call it."""
    return COMPONENTS.get(name, spoken(name))


def source_line(source: dict[str, Any]) -> str:
    """Where a trace's masks came from, from the `source` of its metadata; synthetic ones are named in capitals."""
    kind = source.get("kind")
    if kind == "synthetic":
        return f"SYNTHETIC masks ({source.get('method', 'method not said')}), not from training"
    known = ("framework", "recipe", "epoch", "accuracy", "loss", "readout")
    return f"{kind}" + "".join(f", {name} {source[name]}" for name in known if name in source)


def spoken(name: str) -> str:
    """A name of the schema in words: weight_update is 'weight update'."""
    return name.replace("_", " ")


def shape(sizes: tuple[int, ...]) -> str:
    """3x32x32."""
    return "x".join(map(str, sizes))
