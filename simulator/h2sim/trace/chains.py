"""Whether the layers of a trace fit together: names, shapes that chain, kinds of operands that a machine can take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from h2sim.trace.model import VERSION, Layer, TraceMeta
from h2sim.trace.windows import padded, pool_size

Chw = tuple[int, int, int]
SEVERAL = ("add", "concat")  # kinds that read more than one input


def graph_faults(meta: TraceMeta) -> list[str]:
    """What does not fit, `layers.NAME: field: expected ...; got ...`; empty where all does."""
    faults: list[str] = []
    earlier: dict[str, Layer] = {}
    for layer in meta.layers:
        if layer.name in earlier:
            faults.append(f"layers: expected a name of its own for each layer; got {layer.name!r} twice")
        faults += [f"layers.{layer.name}: {fault}" for fault in _layer_faults(layer, earlier, meta)]
        earlier[layer.name] = layer
    readers = [layer for layer in meta.layers if "input" in layer.inputs]
    if not readers:
        return [*faults, "layers: expected one that reads 'input'; got none"]
    for layer in readers:
        found, wanted = layer.in_chw, meta.input_shape
        if layer.kind in SEVERAL and layer.inputs[0] != "input":
            continue  # held to the layer's own shapes
        if math.prod(found) != math.prod(wanted) if layer.kind == "fc" else found != wanted:
            faults.append(
                f"layers.{layer.name}: reads 'input': expected {list(wanted)} as its other readers; got {list(found)}"
            )
    return faults


def _layer_faults(layer: Layer, earlier: Mapping[str, Layer], meta: TraceMeta) -> list[str]:
    unknown = [name for name in layer.inputs if name != "input" and name not in earlier]
    if unknown:
        return [f"inputs: expected earlier layers or 'input'; got {_brief(unknown)}"]
    if fault := _number_fault(layer):
        return [fault]
    faults = list(_binary_faults(layer, earlier, meta))
    if meta.version != VERSION:
        faults += _mean_faults(layer, meta)
    before = {name: meta.input_shape if name == "input" else earlier[name].out_chw for name in layer.inputs}
    if not (layer.inputs == ("input",) and meta.input_shape != layer.in_chw):  # that is told once for all its readers
        faults += _chain_faults(layer, before)
    if layer.kind in ("conv", "encode"):
        faults += _window_faults(layer)
    if layer.kind == "pool":
        faults += _pool_faults(layer)
    return faults


def _number_fault(layer: Layer) -> str:
    n = len(layer.inputs)
    if layer.kind == "add" and layer.op != "sum" and n != 2:
        return f"inputs: expected two, a and b, for op {layer.op!r}; got {n}"
    if layer.kind in SEVERAL and n < 2:
        return f"inputs: expected two or more for kind {layer.kind!r}; got {n}"
    if layer.kind not in SEVERAL and n != 1:
        return f"inputs: expected one for kind {layer.kind!r}; got {n}"
    return ""


def _binary_faults(layer: Layer, earlier: Mapping[str, Layer], meta: TraceMeta) -> Iterator[str]:
    """In version 1 an encode layer reads the analog input and nothing else does; weights and pools read spikes.

    A pool may also average currents: a network that pools before it fires is a non-spiking conv and a pool.
    """
    if layer.kind == "encode" and ("input" not in layer.inputs or not meta.analog):
        got = list(layer.inputs) if "input" not in layer.inputs else f"'input' of {meta.input_kind}"
        yield f"inputs: expected 'input', the analog one, for kind 'encode'; got {got}"
    if meta.version != VERSION:
        return
    if layer.kind != "encode" and "input" in layer.inputs and meta.analog:
        yield f"inputs: expected spikes for kind {layer.kind!r}; got 'input', analog as an encode layer reads it"
        return
    currents = [name for name in layer.inputs if name in earlier and not earlier[name].spiking]
    if currents and layer.kind in ("conv", "fc"):
        yield f"inputs: expected spikes for kind {layer.kind!r}; got currents, not binary, of {currents[0]!r}"
    if layer.kind == "pool" and not layer.spiking:
        yield "spiking: expected true for kind 'pool': an average that goes on without LIF is not binary; got False"


def _mean_faults(layer: Layer, meta: TraceMeta) -> Iterator[str]:
    if layer.mean_over_time and (layer is not meta.layers[-1] or layer.spiking):
        where = "that fires" if layer.spiking else f"before {meta.layers[-1].name!r}"
        yield f"mean_over_time: expected of the last layer, which passes its current on; got one {where}"


def _chain_faults(layer: Layer, before: Mapping[str, Chw]) -> Iterator[str]:
    """What a layer reads has the shape that it states; a map that is made of others has theirs."""
    if layer.kind == "fc":
        ((name, shape),) = before.items()
        if math.prod(shape) != layer.in_features:
            yield f"in_features: expected {math.prod(shape)}, the neurons of {name!r}; got {layer.in_features}"
    elif layer.kind == "concat":
        yield from _concat_faults(layer, before)
    elif layer.op != "sum":
        yield from _product_faults(layer, before)
    else:
        for name, shape in before.items():
            if layer.in_chw != shape:
                yield f"in_shape: expected {list(shape)}, the output of {name!r}; got {list(layer.in_chw)}"
        if layer.kind == "upsample" and layer.factor:
            channels, height, width = layer.in_chw
            yield from _out_faults(layer, (channels, height * layer.factor[0], width * layer.factor[1]), "factor")
        elif layer.kind not in ("conv", "encode", "pool"):
            yield from _out_faults(layer, layer.in_chw, "")


def _concat_faults(layer: Layer, before: Mapping[str, Chw]) -> Iterator[str]:
    positions = layer.in_chw[1:]
    for name, shape in before.items():
        if shape[1:] != positions:
            yield f"inputs: expected maps of {list(positions)} positions; got {list(shape[1:])} of {name!r}"
    yield from _first_faults(layer, before)
    channels = sum(before[name][0] for name in layer.inputs)
    yield from _out_faults(layer, (channels, *positions), "the inputs' channels")


def _product_faults(layer: Layer, before: Mapping[str, Chw]) -> Iterator[str]:
    """Sizes of 1 are repeated, as in PyTorch."""
    channels, height, width = (max(sizes) for sizes in zip(*before.values(), strict=True))
    for name, shape in before.items():
        if any(n not in (1, wanted) for n, wanted in zip(shape, (channels, height, width), strict=True)):
            wanted = [channels, height, width]
            yield f"inputs: expected sizes of {wanted} or 1; got {list(shape)} of {name!r}"
    yield from _first_faults(layer, before)
    yield from _out_faults(layer, (channels, height, width), "the inputs' sizes")


def _first_faults(layer: Layer, before: Mapping[str, Chw]) -> Iterator[str]:
    shape = before[layer.inputs[0]]
    if layer.in_chw != shape:
        yield f"in_shape: expected {list(shape)}, that of its first input; got {list(layer.in_chw)}"


def _out_faults(layer: Layer, wanted: Chw, by: str) -> Iterator[str]:
    if layer.out_chw != wanted:
        why = f"by {by}" if by else "as in_shape"
        yield f"out_shape: expected {list(wanted)} {why}; got {list(layer.out_chw)}"


def _window_faults(layer: Layer) -> list[str]:
    """Output size by floor((H + 2p - k) / s) + 1."""
    assert layer.kernel is not None
    assert layer.stride is not None
    size = padded(layer)
    if any(n < k for n, k in zip(size, layer.kernel, strict=True)):
        return [f"kernel: expected at most the padded input, {size}; got {list(layer.kernel)}"]
    fit = [(n - k) // s + 1 for n, k, s in zip(size, layer.kernel, layer.stride, strict=True)]
    return _size_faults(layer, [layer.out_chw[0], *fit])


def _size_faults(layer: Layer, wanted: list[int]) -> list[str]:
    if list(layer.out_chw) != wanted:
        by = "in_shape, kernel, stride and padding"
        return [f"out_shape: expected {wanted} by {by}; got {list(layer.out_chw)}"]
    return []


def _pool_faults(layer: Layer) -> list[str]:
    """A pool keeps its channels; of what PyTorch divides an average by, only one rule can hold."""
    channels = layer.in_chw[0]
    faults = []
    if layer.divisor and (layer.adaptive or not layer.count_include_pad or layer.mode != "average"):
        other = "adaptive" if layer.adaptive else "mode" if layer.mode != "average" else "count_include_pad"
        faults.append(f"divisor: expected none beside {other}, which divides otherwise; got {layer.divisor}")
    if layer.adaptive:
        given = [n for n in ("kernel", "stride", "padding", "dilation") if getattr(layer, n) is not None]
        if given or layer.ceil_mode:
            got = [*given, *(["ceil_mode"] if layer.ceil_mode else [])]
            faults.append(f"adaptive: expected windows by in_shape and out_shape alone; got {', '.join(got)} as well")
        if layer.out_chw[0] != channels:
            faults.append(f"out_shape: expected {channels} channels, as in_shape; got {layer.out_chw[0]}")
        return faults
    assert layer.kernel is not None
    if layer.dilation and layer.mode != "max":
        faults.append(f"dilation: expected none for mode {layer.mode!r}; got {list(layer.dilation)}")
    if faults:
        return faults
    size, reach = padded(layer), [d * (k - 1) + 1 for d, k in zip(layer.dilation or (1, 1), layer.kernel, strict=True)]
    if any(n < r for n, r in zip(size, reach, strict=True)):
        return [f"kernel: expected at most the padded input, {size}; got {reach}"]
    if layer.is_map or layer.mode != "average" or layer.ceil_mode or not layer.count_include_pad:
        assert layer.padding is not None
        if any(2 * p > k for p, k in zip(layer.padding, layer.kernel, strict=True)):
            return [f"padding: expected at most half the kernel, {list(layer.kernel)}; got {list(layer.padding)}"]
    return _size_faults(layer, [channels, *pool_size(layer)])


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
