"""Images at another size: means of pixels where the old size is a multiple of the new one, else bilinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Bytes, Float32s, Float64s, Ints


@dataclass(frozen=True, eq=False)
class Pixels:
    """Reads images, float32 (n, C, H, W) in [0, 1] and of `size` (H, W), from pixels, uint8 (N, C, H, W)."""

    pixels: Bytes
    size: tuple[int, int]

    def __call__(self, indices: Ints) -> Float32s:
        return resized(self.pixels[indices].astype(np.float32) / np.float32(255), self.size)


def resized(images: Float32s, size: tuple[int, int]) -> Float32s:
    """Images, float32 (n, C, H, W), at another size (H, W).

    They are means of blocks of pixels where both old extents are multiples of the new ones, else bilinear.
    """
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images
    if height % size[0] == 0 and width % size[1] == 0:
        return _averaged(images, height // size[0], width // size[1])
    rows, columns = triangle_weights(height, size[0]), triangle_weights(width, size[1])
    return np.clip(rows @ images @ columns.T, 0.0, 1.0).astype(np.float32, copy=False)


def _averaged(images: Float32s, down: int, across: int) -> Float32s:
    """Means of blocks of down x across pixels, added row by row in float32: the order of torch's avg_pool2d."""
    total = np.zeros_like(images[..., ::down, ::across])
    for y in range(down):
        for x in range(across):
            total += images[..., y::down, x::across]
    return total / np.float32(down * across)


def triangle_weights(before: int, after: int) -> Float32s:
    """Weights of bilinear resizing in one dimension, float32 (after, before), as Pillow's BILINEAR has them.

    The weights of a new pixel are a triangle around its centre and sum to 1. On either side it is one old pixel wide,
    or one new pixel where that is wider, so that shrinking skips no pixel.
    """
    scale = before / after
    reach = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    distance = np.abs(np.arange(before) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    shares: Float64s = weights / weights.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)
