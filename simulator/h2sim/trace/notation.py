"""The source's notation of networks, `64C3S2(Encoding)-128C3-AP2-512FC-10FC`, as a trace's list of layers."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter, ValidationError

from h2sim.errors import NetworkError, at
from h2sim.trace.model import Chw

_WORDS = r"(?P<words>(?:\([A-Za-z]+\))*)"
_CONV = re.compile(r"(?P<out>\d{1,5})C(?P<kernel>\d{1,5})(?:S(?P<stride>\d{1,5}))?(?:G(?P<groups>\d{1,5}))?" + _WORDS)
_POOL = re.compile(r"(?P<mode>AP|MP)(?P<kernel>\d{1,5})" + _WORDS)
_FC = re.compile(r"(?P<out>\d{1,8})FC" + _WORDS)
_DROPOUT = re.compile(r"D(?P<percent>\d{1,2})")
_KNOWN = {"conv": ("Encoding", "BN"), "fc": ("BN", "Mean"), "pool": ("Spikes",)}
_NOTATION = re.compile(r"\d+(C|FC)[0-9A-Za-z()\-]*")
BATCH_NORM = {"kind": "batch"}


def is_notation(text: str) -> bool:
    """Whether a text may be a notation: it begins as a convolution or a fully connected layer."""
    return bool(_NOTATION.fullmatch(text))


def parse_notation(notation: str, input_shape: tuple[int, int, int], where: str | None = None) -> list[dict[str, Any]]:
    """The layer entries of a notation such as `64C3S2(Encoding)-128C3-AP2-512FC-10FC`.

    64C3S2: convolution to 64 channels, kernel 3 x 3, padding 3 // 2, stride 2 (1 where S is left out); (Encoding): it
    reads an analog input; AP2: average pool of 2 x 2; 512FC: fully connected to 512 features. The first FC flattens
    (C, H, W). Layers are named conv1, conv2, ..., pool1, ..., fc1, ...

    Of version 2: 64C3G4: the convolution's channels in 4 groups; 64C3(BN), 512FC(BN): batch norm before the neuron;
    MP2: maximum of 2 x 2 spikes, without neuron; AP2(Spikes): average of 2 x 2 spikes, without neuron; D20: dropout
    of 20 % (a gate, drop1, ...); 10FC(Mean): the last layer reads the mean over all timesteps.

    input_shape: (C, H, W). Raises NetworkError, which names `where` (by default the notation) and the wrong part.

    >>> [(layer["name"], layer["kind"]) for layer in parse_notation("32C3-AP2-10FC", (1, 28, 28))]
    [('conv1', 'conv'), ('pool1', 'pool'), ('fc1', 'fc')]
    """
    where = where or notation
    try:
        TypeAdapter(Chw).validate_python(input_shape)
    except ValidationError:
        wanted = "three positive integers C,H,W up to 65536"
        raise NetworkError(at(where, "input shape", wanted, repr(input_shape)[:60])) from None
    layers: list[dict[str, Any]] = []
    shape, counts, before = tuple(input_shape), {"conv": 0, "pool": 0, "fc": 0, "drop": 0}, "input"
    for part in notation.split("-"):
        layer = _layer(where, part, shape, before, counts)
        layers.append(layer)
        before = layer["name"]
        shape = tuple(layer["out_shape"]) if "out_shape" in layer else (layer["out_features"], 1, 1)
        if min(shape) < 1:
            raise NetworkError(at(where, part, "at least one position left", list(shape)))
    return layers


def _layer(where: str, part: str, shape: tuple[int, ...], before: str, counts: dict[str, int]) -> dict[str, Any]:
    found = {"conv": _CONV.fullmatch(part), "pool": _POOL.fullmatch(part), "fc": _FC.fullmatch(part),
             "drop": _DROPOUT.fullmatch(part)}  # fmt: skip
    family, match = next(((name, match) for name, match in found.items() if match), ("", None))
    if match is None:
        wanted = "such as 64C3, 64C3S2, 64C3(Encoding), AP2, MP2, D20 or 512FC"
        raise NetworkError(at(where, "layer", wanted, repr(part[:50])))
    words = _words(where, part, family, match)
    counts[family] += 1
    head = {"name": f"{family}{counts[family]}", "inputs": [before]}
    if family == "fc":
        more = {"spiking": False, "mean_over_time": True} if "Mean" in words else {}
        return {**head, "kind": "fc", "in_features": math.prod(shape), "out_features": int(match["out"]),
                **_norm(words), **more}  # fmt: skip
    if family == "drop":
        return {**head, **_gate(where, part, int(match["percent"]), shape)}
    return {**head, **_windows(where, part, match, family, shape, before, words)}


def _words(where: str, part: str, family: str, match: re.Match[str]) -> set[str]:
    """The words in brackets behind a layer."""
    words = set(re.findall(r"\w+", match.groupdict().get("words") or ""))
    known = _KNOWN.get(family, ())
    if match.groupdict().get("mode") == "MP":
        known = ()
    for word in sorted(words - set(known)):
        wanted = " or ".join(f"({name})" for name in known) or "no word in brackets"
        raise NetworkError(at(where, part[:50], wanted, f"({word})"))
    return words


def _norm(words: set[str]) -> dict[str, Any]:
    return {"norm": dict(BATCH_NORM)} if "BN" in words else {}


def _gate(where: str, part: str, percent: int, shape: tuple[int, ...]) -> dict[str, Any]:
    if not percent:
        raise NetworkError(at(where, part, "dropout of 1 to 99 percent", percent))
    scale = 1 / (1 - Fraction(percent, 100))
    return {"kind": "gate", "in_shape": list(shape), "out_shape": list(shape),
            "scale": [scale.numerator, scale.denominator]}  # fmt: skip


def _windows(
    where: str, part: str, match: re.Match[str], family: str, shape: tuple[int, ...], before: str, words: set[str]
) -> dict[str, Any]:
    """What a convolution or a pool says beside its name and input."""
    more: dict[str, Any] = {}
    if family == "conv":
        kernel, stride = int(match["kernel"]), int(match["stride"] or 1)
        padding, channels, kind = kernel // 2, int(match["out"]), "encode" if "Encoding" in words else "conv"
        more = {**({"groups": int(match["groups"])} if match["groups"] else {}), **_norm(words)}
    else:
        kernel = stride = int(match["kernel"])
        padding, channels, kind = 0, shape[0], "pool"
        if match["mode"] == "MP":
            more = {"mode": "max", "spiking": False}
        elif words:
            more = {"spiking": False}
    if min(kernel, stride) < 1:
        raise NetworkError(at(where, part, "a kernel and stride of at least 1", f"{kernel} and {stride}"))
    if kind == "encode" and before != "input":
        raise NetworkError(at(where, part, "(Encoding) on the first layer only", f"it after {before}"))
    out = [(size + 2 * padding - kernel) // stride + 1 for size in shape[1:]]
    return {
        "kind": kind, "in_shape": list(shape), "out_shape": [channels, *out], "kernel": [kernel] * 2,
        "stride": [stride] * 2, "padding": [padding] * 2, **more,
    }  # fmt: skip
