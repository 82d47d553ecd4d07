"""A contact sheet: some images of every class, as they were read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from softvq_cli.plots import style, text
from softvq_cli.plots.reconstructions import as_pixels, show, tiles

COLUMNS = 10
MOST_ROWS = 25
_LABELS, _GAP = 1.4, 0.15
"""Inches, for the names on the left; and of these between a name and its images."""
_NAME_SIZE = 7.0
"""Points."""


def plot(
    path: str | os.PathLike[str],
    images: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    note: Callable[[str], None] = lambda _: None,
) -> int:
    """Draw the first images of each class in a row; without labels, images from all over the data set.

    Args:
        path: ends in .png, .pdf or .svg.
        images: uint8 (N, H, W, C), C is 1 or 3.
        labels: int64 (N,), or None.
        class_names: one a label.
        note: is told of characters that no font here has.

    Returns:
        How many classes there was no room for.

    Raises:
        InputError: no image.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    rows, names = _rows(len(images), labels, class_names)
    wide = max(map(len, rows))
    grid = np.full((len(rows) * wide, *images.shape[1:]), 255, np.uint8)
    for row, chosen in enumerate(rows):
        grid[row * wide : row * wide + len(chosen)] = images[chosen]
    picture = tiles(as_pixels(grid), wide)
    left = _LABELS if names else 0.0
    width = (style.TEXT_WIDTH - left) / COLUMNS * wide
    with style.figure(path, width + left, width / picture.shape[1] * picture.shape[0], note) as drawing:
        axis = drawing.subplots()
        show(axis, picture)
        if names:
            middles = (np.arange(len(rows)) + 0.5) * (len(picture) / len(rows)) - 0.5
            axis.set_yticks(middles, text.fitted(names, left - _GAP, _NAME_SIZE), size=_NAME_SIZE, parse_math=False)
            axis.tick_params(length=0)
            axis.set_anchor("E")
    return max(0, len(class_names) - MOST_ROWS) if names else 0


def _rows(count: int, labels: np.ndarray | None, class_names: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """The images of each row, and the name of each row's class."""
    if labels is None:
        spread = np.linspace(0, count - 1, min(count, COLUMNS * COLUMNS)).astype(np.int64)
        return np.array_split(spread, -(-len(spread) // COLUMNS)), []
    found = [(np.flatnonzero(labels == label)[:COLUMNS], name) for label, name in enumerate(class_names)]
    found = [(chosen, name) for chosen, name in found if len(chosen)][:MOST_ROWS]
    return [chosen for chosen, _ in found], [name for _, name in found]
