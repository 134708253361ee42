"""The fields of a NIR node as numbers and shapes. Every function raises a Refusal, which names the node, for others."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from h2sim.export.obstacles import Obstacle, Refusal, refusal
from h2sim.io.faults import show
from h2sim.trace.model import MOST_NEURONS

MOST_EXTENT = 65536
Geometry = dict[str, list[int]]
Shape = tuple[int, ...]


def fault(key: str, wanted: str, got: object, rewrite: str = "") -> Refusal:
    """`key: expected ...; got ... (rewrite)`, of a node as a whole."""
    return Refusal(Obstacle(key, f"expected {wanted}; got {got}", rewrite))


def integers(key: str, what: str, value: Any, shape: Shape, least: int, most: int) -> tuple[int, ...]:
    """The whole numbers in a value of this shape."""
    wanted = f"{'a whole number' if shape == (1,) else f'{shape[0]} whole numbers'} from {least} to {most}"
    try:
        found = np.atleast_1d(np.asarray(value)).reshape(shape)
        whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and bool((found == np.floor(found)).all()))
        numbers = tuple(int(number) for number in found) if whole else ()
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if not numbers or not all(least <= number <= most for number in numbers):
        raise refusal(key, what, wanted, show(value.tolist() if isinstance(value, np.ndarray) else value))
    return numbers


def pair(key: str, what: str, value: Any, least: int) -> list[int]:
    """Both numbers of what may be one for both."""
    n_values = math.prod(size_of(key, what, value))
    both = integers(key, what, value, (1,) if n_values == 1 else (2,), least, MOST_EXTENT)
    return list(both * 2 if len(both) == 1 else both)


def size_of(key: str, what: str, value: Any) -> Shape:
    """The shape of an array, whatever library it is of."""
    try:
        return tuple(int(size) for size in np.shape(value))
    except ValueError:
        raise refusal(key, what, "an array", "lists of several lengths") from None


def input_shape(key: str, stated: Any) -> tuple[Shape, bool]:
    """The shape (C, H, W) or (F,) that an Input states, and whether a batch of 1 was in front of it."""
    shape = next(iter(stated.values()), None) if isinstance(stated, dict) else stated
    listed: list[Any] = [] if shape is None else np.atleast_1d(np.asarray(shape, object)).tolist()
    sizes: Shape = np.shape(np.asarray(listed, object)) if listed else ()
    batched = sizes in ((2,), (4,)) and listed[0] == 1  # no other reading of (1, F) and (1, C, H, W)
    if batched:
        shape, sizes = listed[1:], (len(listed) - 1,)
    if len(sizes) != 1 or sizes[0] not in (1, 3):
        got = show(shape.tolist() if isinstance(shape, np.ndarray) else shape)
        rewrite = "export it with one sample, or state the shape in the Input node"
        raise fault(key, "an input of shape (C, H, W) or (F,), without a batch", got, rewrite)
    most = MOST_NEURONS if sizes[0] == 1 else MOST_EXTENT
    return integers(key, "input of shape (C, H, W) or (F,)", shape, sizes, 1, most), batched


def geometry(key: str, kernel: Any, stride: Any, padding: Any) -> Geometry:
    """kernel, stride and padding of windows."""
    sizes = pair(key, "kernel", kernel, 1)
    text = padding.decode("latin1") if isinstance(padding, bytes) else padding
    if isinstance(text, str):
        if text not in ("same", "valid") or (text == "same" and any(size % 2 == 0 for size in sizes)):
            wanted = "numbers, 'valid', or 'same' with an odd kernel, as padding"
            raise fault(key, wanted, f"{show(text)} with kernel {sizes}")
        padding = [size // 2 if text == "same" else 0 for size in sizes]
    strides, paddings = pair(key, "stride", stride, 1), pair(key, "padding", padding, 0)
    return {"kernel": sizes, "stride": strides, "padding": paddings}


def windows(key: str, shape: Shape, channels: int, found: Geometry) -> Shape:
    """The shape (channels, H, W) that windows over (C, H, W) make."""
    if len(shape) != 3:
        raise fault(key, "an input of shape (C, H, W)", list(shape))
    sizes = zip(shape[1:], found["kernel"], found["stride"], found["padding"], strict=True)
    out = [(size + 2 * p - k) // s + 1 for size, k, s, p in sizes]
    if min(out) < 1 or max(out) > MOST_EXTENT:
        raise fault(key, "a window that fits its input", f"{found} on {list(shape)}")
    return (int(channels), *out)


def check_dilation(key: str, node: Any) -> None:
    """Raises a Refusal for a Conv2d whose windows are not dense."""
    dilation = pair(key, "dilation", node.dilation, 1)
    if dilation != [1, 1]:
        raise fault(key, "dilation 1: the machine's windows are dense", dilation, "set dilation to 1")


def convolution(key: str, node: Any, shape: Shape) -> tuple[dict[str, Any], Shape]:
    """A Conv2d's entry in a trace's layer, and the shape that it makes of (C, H, W)."""
    weight = size_of(key, "weight", node.weight)
    (groups,) = integers(key, "groups", node.groups, (1,), 1, MOST_EXTENT)
    if len(shape) == 3 and (shape[0] % groups or (weight and weight[0] % groups)):
        raise fault(key, f"groups that divide {shape[0]} and {weight[0]} channels", groups)
    if len(weight) != 4 or len(shape) != 3 or weight[1] != shape[0] // groups or not weight[0]:
        wanted = f"a weight (C, {shape[0] // groups}, kh, kw) of (C, H, W)"
        raise fault(key, wanted, f"{weight} on {list(shape)}")
    if node.input_shape is not None and pair(key, "input_shape", node.input_shape, 1) != list(shape[1:]):
        raise fault(key, f"an input_shape of {list(shape[1:])}", show(node.input_shape))
    found = geometry(key, weight[2:], node.stride, node.padding)
    entry = {**found, "groups": groups} if groups > 1 else found
    return entry, windows(key, shape, weight[0], found)


def check_neurons(key: str, node: Any, shape: Shape) -> None:
    """Raises a Refusal unless there is a threshold for each neuron, each channel, or for all of them."""
    found = size_of(key, "v_threshold", node.v_threshold)
    if repeated(found, shape) is None:
        raise fault(key, f"neurons of shape {list(shape)}", list(found))


def repeated(found: Shape, shape: Shape) -> str | None:
    """What an array of numbers for a map of this shape has: 'one' for all, one for each 'channel' or 'element'.

    None if it does not fit. Sizes of 1 in front of it, as a batch has, say nothing.
    """
    own = found[len(found) - len(shape) :] if len(found) > len(shape) else found
    if math.prod(found[: len(found) - len(own)]) != 1:
        return None
    if math.prod(own) == 1:
        return "one"
    if own in (shape[:1], (shape[0], *[1] * (len(shape) - 1))):
        return "channel"
    fits = all(size in (1, wanted) for size, wanted in zip(own[::-1], shape[::-1], strict=False))
    return "element" if fits else None


def factors(key: str, value: Any, shape: Shape) -> tuple[str, Fraction | None]:
    """What a Scale's numbers are for a map of this shape, by their values: see `repeated`; and one above 0 for all."""
    size = size_of(key, "scale", value)
    each = repeated(size, shape)
    if each is None:
        raise fault(key, f"one factor, or factors of shape {list(shape)}", list(size))
    try:
        numbers = np.asarray(value, np.float64).reshape(size[max(0, len(size) - len(shape)) :])
    except (TypeError, ValueError, RuntimeError):
        return each, None
    if (numbers == numbers.flat[0]).all():
        return "one", _fraction(float(numbers.flat[0]))
    if len(shape) == 3 and numbers.shape == shape and (numbers == numbers[:, :1, :1]).all():
        return "channel", None
    return each, None


def _fraction(number: float) -> Fraction | None:
    """A number above 0 as a fraction, the simplest that is the same to a millionth."""
    if not 0 < number < math.inf:
        return None
    simple = Fraction(number).limit_denominator(1000)
    return simple if abs(float(simple) - number) <= 1e-6 * number else Fraction(number)
