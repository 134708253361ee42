"""What part a module plays in a trace: weights, norm, neuron, read-out, map, or one that the machine cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from h2sim.export.neurons import neuron_of
from h2sim.export.protocol import NeuronSpec, ReadOut

RoleName = Literal["conv", "linear", "norm", "neuron", "readout", "map"]

_CONV = "the machine convolves in two dimensions, forwards"
_RECURRENT = "recurrent connections, which the machine does not have"
_REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Conv1d",), _CONV, "write it as a Conv2d over (C, L, 1)"),
    (("Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _CONV, "enlarge with nn.Upsample instead"),
    (("RNNBase", "RNNCellBase"), _RECURRENT, ""),
    (("MultiheadAttention",), "attention, which is planned and not yet there", ""),
    (("Bilinear", "Embedding"), "the machine multiplies what it reads by weights", ""),
)
_NORMS = ("_BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm", "_InstanceNorm")
_MAPS = (
    "MaxPool2d", "AvgPool2d", "AdaptiveMaxPool2d", "AdaptiveAvgPool2d", "LPPool2d", "FractionalMaxPool2d", "Upsample",
    "_DropoutNd", "Dropout", "Dropout2d", "ReLU",
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """A module's part in a trace. reason: why no trace can hold it; None if one can. rewrite: what would do instead."""

    name: RoleName | None
    reason: str | None = None
    rewrite: str = ""
    neuron: NeuronSpec | None = None
    readout: ReadOut | None = None


def role_of(module: nn.Module, path: str) -> Role | None:
    """The part of a module in a trace; None for a container, and for a module that no role fits.

    A module without role is an error only if a layer reads what it computed. A map is a module whose operations the
    exporter follows one by one. Raises ExportError for an `h2sim_neuron` that returns something else than a NeuronSpec.
    """
    neuron = neuron_of(module, path)
    if isinstance(neuron, NeuronSpec):
        return Role("neuron", neuron=neuron)
    if isinstance(neuron, ReadOut):
        return Role("readout", readout=neuron)
    if neuron is not None:
        return Role(None, neuron)
    bases = {cls.__name__ for cls in type(module).__mro__}
    for names, reason, rewrite in _REFUSED:
        if bases & set(names):
            return Role(None, reason, rewrite)
    if isinstance(module, nn.Conv2d):
        return _weights("conv", _conv_fault(module) or _own_forward(module, nn.Conv2d))
    if isinstance(module, nn.Linear):
        return _weights("linear", _own_forward(module, nn.Linear))
    if bases & set(_NORMS):
        return Role("norm")
    return Role("map") if bases & set(_MAPS) else None


Fault = tuple[str, str]  # why no trace can hold a module, and what would do instead


def _weights(name: RoleName, fault: Fault | None) -> Role:
    return Role(name) if fault is None else Role(name, *fault)


def _own_forward(module: nn.Module, base: type[nn.Module]) -> Fault | None:
    """A reason why a subclass is not the layer that it inherits from: its own forward, unless it is SpikingJelly's."""
    forward = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    if forward is base or (forward.__module__.startswith("spikingjelly.") and forward.__name__ == base.__name__):
        return None
    return (
        f"{type(module).__name__} computes in a way of its own, not as {base.__name__}",
        f"call an nn.{base.__name__}",
    )


def _conv_fault(module: Any) -> Fault | None:
    if tuple(module.dilation) != (1, 1):
        return f"dilation {tuple(module.dilation)}; the machine's windows are dense (1, 1)", "set dilation=1"
    if module.padding_mode != "zeros":
        return f"padding_mode {module.padding_mode!r}; the machine pads with zeros", "set padding_mode='zeros'"
    if module.padding == "same" and any(size % 2 == 0 for size in module.kernel_size):
        return "padding 'same' of an even kernel pads one side more than the other", "take an odd kernel"
    return None


def pair(value: Any) -> tuple[int, int]:
    """Both numbers of what torch takes as one or two."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def conv_geometry(module: Any) -> dict[str, Any]:
    """kernel, stride, padding and groups (where there are several) of a convolution."""
    kernel = list(pair(module.kernel_size))
    if module.padding in ("same", "valid"):
        padding = [size // 2 if module.padding == "same" else 0 for size in kernel]
    else:
        padding = list(pair(module.padding))
    found = {"kernel": kernel, "stride": list(pair(module.stride)), "padding": padding}
    return {**found, "groups": module.groups} if module.groups > 1 else found
