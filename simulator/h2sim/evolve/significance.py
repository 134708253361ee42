"""How much of a layer is signal (eq. 12 and 13), and how far an attack moves it (eq. 14 and 15)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import numpy as np

from h2sim.arrays import Floats

Reading = Literal["variance", "squared"]


def components(eigenvalues: Floats, share: float = 0.999, reading: Reading = "variance") -> int:
    """The least k of which the largest k eigenvalues hold `share` of the sum of all.

    eigenvalues: of the centred covariance. reading: of these themselves, the explained variance [A], or of their
    squares, eq. 13 to the letter.
    """
    values = np.sort(np.asarray(eigenvalues, np.float64))[::-1].clip(0)
    values = values**2 if reading == "squared" else values
    total = values.sum()
    if total == 0:
        return 0
    return int(np.searchsorted(np.cumsum(values) / total, share - 1e-12) + 1)


def eigenvalues(activations: Floats) -> Floats:
    """Eigenvalues of the centred covariance of a layer's pre-activations (samples or positions, filters), largest
    first."""
    rows = np.asarray(activations, np.float64)
    rows = rows - rows.mean(axis=0)
    found: Floats = np.linalg.eigvalsh(rows.T @ rows / max(1, len(rows) - 1))[::-1]
    return found


def significance(counts: list[int]) -> list[float]:
    """(k_n - k_(n-1)) / k_(n-1) of each layer, by what share it has more components than the one before; nan first."""
    pairs = pairwise(counts)
    return [math.nan, *((now - before) / before if before else math.nan for before, now in pairs)]


def noise_sensitivity(clean: Floats, attacked: Floats) -> float:
    """ANS: |a_adv - a| / |a| by the 2-norm of each sample (rows), the mean over samples [A]; samples of 0 are left out.

    Activations give eq. 14, spike counts eq. 15.
    """
    a, b = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (clean, attacked))
    size = np.linalg.norm(a, axis=1)
    there = size > 0
    if not there.any():
        return 0.0
    return float((np.linalg.norm(b - a, axis=1)[there] / size[there]).mean())
