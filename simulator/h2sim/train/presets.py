"""The training runs behind the committed traces."""

from __future__ import annotations

from dataclasses import dataclass

from h2sim.train.settings import Settings


@dataclass(frozen=True)
class Preset:
    """One committed trace. file: its path in the checkout. size: (H, W) of the images. settings: of the training
    run."""

    file: str
    size: tuple[int, int]
    settings: Settings


PRESETS = {
    "mnist-digits": Preset(
        "workloads/traces/mnist-digits.npz",
        (28, 28),
        Settings(network="mnist-small", dataset="mnist-5k", epochs=4, shift_pixels=2),
    ),
    "encode-residual": Preset(
        "tests/data/encode-residual.npz",
        (14, 14),
        Settings(network="encode-residual", dataset="mnist-5k", epochs=4, batch=16, learning_rate=2e-3, timesteps=8),
    ),
}
