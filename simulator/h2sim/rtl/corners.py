"""The corners of the random layers: sizes that a machine does not divide, strides, counts. They are drawn often.

Lanes are samples, pairs of channel and kernel offset, input features, or positions, as the engine has them. A corner is
named after the layer's own numbers, whatever the lanes of the engine are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from h2sim.shapes import ConvShape, FcShape

BATCH_BELOW_P = "batch below P"
SAMPLES_BELOW_P = "batch x timesteps below P"
PARTIAL_LANES = "C_in not a multiple of P"
PARTIAL_COLUMNS = "channels not a multiple of the columns"
PARTIAL_ROWS = "channels not a multiple of the rows"
STRIDE_2 = "stride 2"
COUNTS = "counts of several bit planes"
CORNERS = (BATCH_BELOW_P, SAMPLES_BELOW_P, PARTIAL_LANES, PARTIAL_COLUMNS, PARTIAL_ROWS, STRIDE_2, COUNTS)
OFTEN = 0.4  # how often each corner is drawn on purpose; it is also met by chance


def corners_drawn(planes: int) -> tuple[str, ...]:
    """The corners in which layers may lie whose operands have at most so many bit planes."""
    return CORNERS if planes > 1 else tuple(corner for corner in CORNERS if corner != COUNTS)


def corners_of(kind: str, shape: ConvShape | FcShape, engine: Any, planes: int) -> tuple[str, ...]:
    """The corners in which a layer of some kind (draw.KINDS) lies on an engine, in the order of CORNERS."""
    if isinstance(shape, ConvShape):
        inputs, outputs, stride = shape.in_channels, shape.out_channels, shape.stride
    else:
        inputs, outputs, stride = shape.in_features, shape.out_features, (1, 1)
    on_columns = inputs if kind.startswith("backward") else outputs
    on_rows = outputs if kind.startswith("backward") else inputs
    lies = {
        BATCH_BELOW_P: shape.batch < engine.parallelism,
        SAMPLES_BELOW_P: shape.samples < engine.parallelism,
        PARTIAL_LANES: inputs % engine.parallelism > 0,
        PARTIAL_COLUMNS: on_columns % engine.columns > 0,
        PARTIAL_ROWS: kind in ("backward_conv", "backward_fc", "encode_forward") and on_rows % engine.rows > 0,
        STRIDE_2: stride == (2, 2),
        COUNTS: planes > 1,
    }
    return tuple(corner for corner in CORNERS if lies[corner])


def often(rng: np.random.Generator) -> bool:
    """Whether the next number is drawn from its corner."""
    return bool(rng.random() < OFTEN)


def below(rng: np.random.Generator, most: int, parallelism: int) -> int:
    """A number from 1 to `most`, often one below P."""
    return int(rng.integers(1, (min(most, parallelism - 1) if often(rng) and parallelism > 1 else most) + 1))


def odd_to(rng: np.random.Generator, most: int, parallelism: int) -> int:
    """A number from 1 to `most`, often one that P does not divide, where there is one."""
    drawn = int(rng.integers(1, most + 1))
    if often(rng) and parallelism > 1 and drawn % parallelism == 0:
        return drawn - 1
    return drawn
