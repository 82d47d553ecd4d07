"""Figures of images: reconstructions, contact sheets, codewords and codebook usage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.codes import entropy_bits
from softvq_cli.plots import style, text
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 10
MOST_ROWS = 25
"""Maximum number of rows in a contact sheet."""
_ROLES, _NAMES = 0.85, 1.4
"""Left margin in inches for "original" and "reconstruction", and for class names."""
_LONGEST = 20
"""Maximum length of a class name."""
_GAP = 0.04
"""Gap between images, relative to their width."""


def reconstructions(path: str | os.PathLike[str], originals: np.ndarray, decoded: np.ndarray) -> None:
    """Draw each image above its reconstruction, ten pairs per row; both uint8 (N, H, W, C), or floats in [0, 1]."""
    if originals.shape != decoded.shape:
        raise InputError(f"images of shape {originals.shape} have no reconstructions of shape {decoded.shape}")
    above, below = _as_pixels(originals), _as_pixels(decoded)
    columns = min(len(above), COLUMNS)
    rows = -(-len(above) // columns)
    # Rows of originals and of reconstructions alternate; the last two rows are padded with white.
    missing = ((0, rows * columns - len(above)), *[(0, 0)] * 3)
    filled = [np.pad(part, missing, constant_values=255) for part in (above, below)]
    strips = np.stack([part.reshape(rows, columns, *part.shape[1:]) for part in filled], axis=1)
    image = _tiles(strips.reshape(-1, *above.shape[1:]), columns)
    width = (style.TEXT_WIDTH - _ROLES) / COLUMNS * columns
    with style.panels(path, (width + _ROLES, width / image.shape[1] * image.shape[0])) as (_, [axis]):
        _show(axis, image)
        _name_rows(axis, ["original", "reconstruction"] * rows, image)


def contact_sheet(
    path: str | os.PathLike[str],
    images: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    reporter: Reporter | None = None,
) -> int:
    """Draw the first images of each class in one row; without labels, images evenly spaced over the data set.

    ``images`` are uint8 (N, H, W, C), C 1 or 3; ``reporter`` receives a note on characters that no installed font has.
    Returns the number of classes that did not fit.
    """
    rows, names = _sheet_rows(len(images), labels, class_names)
    wide = max(map(len, rows))
    grid = np.full((len(rows), wide, *images.shape[1:]), 255, np.uint8)
    for row, chosen in zip(grid, rows, strict=True):
        row[: len(chosen)] = images[chosen]
    picture = _tiles(_as_pixels(grid.reshape(-1, *images.shape[1:])), wide)
    left = _NAMES if names else 0.0
    width = (style.TEXT_WIDTH - left) / COLUMNS * wide
    size = width + left, width / picture.shape[1] * picture.shape[0]
    with style.panels(path, size, reporter=reporter) as (_, [axis]):
        _show(axis, picture)
        if names:
            _name_rows(axis, text.shortened(names, _LONGEST), picture)
    return max(0, len(class_names) - MOST_ROWS) if names else 0


def _sheet_rows(
    count: int, labels: np.ndarray | None, class_names: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """The images of each row, and the class name of each row."""
    if labels is None:
        spread = np.linspace(0, count - 1, min(count, COLUMNS * COLUMNS)).astype(np.int64)
        return np.array_split(spread, -(-len(spread) // COLUMNS)), []
    rows = [(np.flatnonzero(labels == label)[:COLUMNS], name) for label, name in enumerate(class_names)]
    rows = [(chosen, name) for chosen, name in rows if len(chosen)][:MOST_ROWS]
    return [chosen for chosen, _ in rows], [name for _, name in rows]


def codebook_usage(path: str | os.PathLike[str], counts: np.ndarray, *, dead: int | None = None) -> None:
    """Draw how often each code is used, most used first, with the perplexity and the number of dead codes.

    ``counts`` (K,) are numbers of images, or sums of posterior probabilities. In the latter case, ``dead`` is the
    number of codes that are not the most probable one for any image.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not counts.sum() > 0 or counts.min() < 0:
        raise InputError("the usage of a codebook is one count per code, not negative and not all zero")
    p = np.sort(counts)[::-1] / counts.sum()
    perplexity = 2 ** entropy_bits(counts)
    unused = f"{(p == 0).sum()} codes never used" if dead is None else f"{dead} codes are never the most probable"
    with style.panels(path, (style.COLUMN_WIDTH, 2.2)) as (_, [axis]):
        axis.bar(np.arange(1, len(p) + 1), p, width=0.8 if len(p) <= 200 else 1.0, color=style.ACCENT, linewidth=0)
        axis.axhline(1 / len(p), color=style.NEUTRAL, linewidth=0.8, linestyle="--", label=f"uniform, 1/{len(p)}")
        axis.plot([], [], " ", label=f"perplexity {perplexity:.1f} of {len(p)}")
        axis.plot([], [], " ", label=unused)
        share = "share of the images" if dead is None else "mean posterior"
        axis.set(xlabel="code, by use", ylabel=share, xlim=(0.2, len(p) + 0.8))
        axis.grid()
        axis.legend(handlelength=1.6)


def codewords(path: str | os.PathLike[str], decoded: np.ndarray, counts: np.ndarray) -> None:
    """Draw the decoded codewords (K, H, W, C), ordered by ``counts`` (K,), most used first."""
    pixels = _as_pixels(decoded)
    if np.shape(counts) != (len(pixels),):
        raise InputError(f"{np.shape(counts)} counts for {len(pixels)} codewords")
    pixels = pixels[np.argsort(-np.asarray(counts), kind="stable")]
    columns = min(len(pixels), int(np.ceil(np.sqrt(2 * len(pixels)))))
    image = _tiles(pixels, columns)
    width = style.TEXT_WIDTH * min(1, columns / 12)
    with style.panels(path, (width, width * image.shape[0] / image.shape[1])) as (_, [axis]):
        _show(axis, image)


def _as_pixels(images: np.ndarray) -> np.ndarray:
    """Convert uint8 or floats in [0, 1] with one or three channels to uint8 (N, H, W, 3)."""
    if images.ndim != 4 or images.shape[3] not in {1, 3} or not images.size:
        raise InputError(f"images have the axes (N, height, width, 1 or 3 channels), not the shape {images.shape}")
    if images.dtype != np.uint8:
        images = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange ``images``, uint8 (N, H, W, 3), in a grid with white gaps; small images are enlarged."""
    enlarged = max(1, round(1 / (_GAP * images.shape[2])))  # so that a gap is at least one pixel
    images = images.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    gap = max(1, round(_GAP * images.shape[2]))
    padded = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return tiled(padded, columns, fill=255)[:-gap, :-gap]


def tiled(images: np.ndarray, columns: int, fill: int) -> np.ndarray:
    """Arrange ``images`` (N, H, W, C) in a grid, row by row; the rest of the last row is ``fill``."""
    rows = -(-len(images) // columns)
    full = np.pad(images, ((0, rows * columns - len(images)), *[(0, 0)] * 3), constant_values=fill)
    height, width, channels = images.shape[1:]
    grid = full.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def _show(axis: Axes, image: np.ndarray) -> None:
    """Show an image without interpolation or frame."""
    axis.imshow(image, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _name_rows(axis: Axes, names: Sequence[str], image: np.ndarray) -> None:
    """Write the names on the left, each at the middle of its row of images."""
    middles = (np.arange(len(names)) + 0.5) * (len(image) / len(names)) - 0.5
    axis.set_yticks(middles, names)
    axis.tick_params(length=0)
    axis.set_anchor("E")  # remaining space goes to the names


def code_maps(images: np.ndarray, codes: np.ndarray, grid: int) -> np.ndarray:
    """Greyscale images (n, H, W, C), overlaid with the colours of their codes: uint8 (n, H, W, 3).

    ``codes`` are int (n, grid²·G), position by position; with several stages, the first is shown.
    """
    n, height, width = images.shape[:3]
    first = codes.reshape(n, grid, grid, -1)[..., 0]
    # Multiples of the golden ratio give consecutive numbers distant hues.
    hue = 6 * (first * 0.6180339887 % 1)[..., None]
    colours = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)  # (n, grid, grid, 3)
    rows, columns = np.arange(height) * grid // height, np.arange(width) * grid // width
    over = colours[:, rows][:, :, columns]
    return np.asarray(np.rint(images.mean(axis=3, keepdims=True) / 2 + 127.5 * over), np.uint8)
