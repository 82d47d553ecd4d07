"""Images above what the decoder makes of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 10
_LABELS = 0.85
"""Inches, for the words on the left."""
_GAP = 0.04
"""Between images, as a share of their width."""


def plot(path: str | os.PathLike[str], originals: np.ndarray, reconstructions: np.ndarray) -> None:
    """Draw each image above its reconstruction, ten pairs in a row.

    Args:
        path: ends in .png, .pdf or .svg.
        originals: (N, H, W, C), uint8, or floats in [0, 1]; C is 1 or 3.
        reconstructions: the same shape; values outside the range are clipped.

    Raises:
        InputError: other shapes, or no image.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    if originals.shape != reconstructions.shape:
        raise InputError(f"images of shape {originals.shape} have no reconstructions of shape {reconstructions.shape}")
    above, below = as_pixels(originals), as_pixels(reconstructions)
    n = len(above)
    columns = min(n, _COLUMNS)
    image = tiles(_in_turn(above, below, columns), columns)
    strips = 2 * -(-n // columns)
    width = (style.TEXT_WIDTH - _LABELS) / _COLUMNS * columns
    with style.figure(path, width + _LABELS, width / image.shape[1] * image.shape[0]) as drawing:
        axis = drawing.subplots()
        show(axis, image)
        middles = (np.arange(strips) + 0.5) * (len(image) / strips) - 0.5
        axis.set_yticks(middles, ["original", "reconstruction"] * (strips // 2))
        axis.tick_params(length=0)
        axis.set_anchor("E")  # what the layout leaves over goes to the words on the left


def _in_turn(above: np.ndarray, below: np.ndarray, columns: int) -> np.ndarray:
    """A row of originals, a row of their reconstructions, and so on; the last two rows are filled up with white."""
    full = -(-len(above) // columns) * columns
    filled = [np.pad(part, ((0, full - len(part)), *[(0, 0)] * 3), constant_values=255) for part in (above, below)]
    rows = [part.reshape(-1, columns, *part.shape[1:]) for part in filled]
    return np.stack(rows, axis=1).reshape(2 * full, *above.shape[1:])


def as_pixels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) from uint8 or floats in [0, 1], one or three channels.

    Raises:
        InputError: another shape, or no image.
    """
    if images.ndim != 4 or images.shape[3] not in {1, 3} or not images.size:
        raise InputError(f"images have the axes (N, height, width, 1 or 3 channels), not the shape {images.shape}")
    if images.dtype != np.uint8:
        images = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3))


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """One image of a grid of ``images``, uint8 (N, H, W, 3), with white gaps; a grid that is not full ends in white.

    Small images are enlarged, so that a gap is a pixel at least.
    """
    enlarged = max(1, round(1 / (_GAP * images.shape[2])))
    images = images.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    n, height, width, _ = images.shape
    rows, gap = -(-n // columns), max(1, round(_GAP * width))
    grid = np.full((rows * columns, height + gap, width + gap, 3), 255, np.uint8)
    grid[:n, :height, :width] = images
    grid = grid.reshape(rows, columns, *grid.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * grid.shape[1], -1, 3)[:-gap, :-gap]


def show(axis: Axes, image: np.ndarray) -> None:
    """Pixels as they are, without a frame."""
    axis.imshow(image, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
