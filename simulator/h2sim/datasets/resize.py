"""Images at another size: averaged where that is exact, else by a bilinear filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pixels:
    """Reads float32 images (n, C, H, W) in [0, 1] out of uint8 pixels (N, C, H, W), at `size` (H, W)."""

    pixels: np.ndarray
    size: tuple[int, int]

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return resized(self.pixels[indices].astype(np.float32) / np.float32(255), self.size)


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float32 images (n, C, H, W) at `size`: means of whole blocks of pixels where the size divides, else bilinear."""
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images
    if height % size[0] == 0 and width % size[1] == 0:
        return _averaged(images, height // size[0], width // size[1])
    rows, columns = triangle_weights(height, size[0]), triangle_weights(width, size[1])
    return np.clip(rows @ images @ columns.T, 0.0, 1.0)


def _averaged(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """The mean of down x across pixels, added row by row in float32: in the order of torch's avg_pool2d."""
    total = np.zeros_like(images[..., ::down, ::across])
    for y in range(down):
        for x in range(across):
            total += images[..., y::down, x::across]
    return total / np.float32(down * across)


def triangle_weights(before: int, after: int) -> np.ndarray:
    """Weights (after, before) float32 of bilinear resizing in one dimension, rows of sum 1.

    A triangle around each new pixel's centre, one old pixel wide on either side, or one new pixel where that is wider
    (so that shrinking skips no pixel): Pillow's BILINEAR.
    """
    scale = before / after
    reach = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    distance = np.abs(np.arange(before) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
