"""Thumbnails: all images of a kind in one picture, and arrays of numbers, as text that a page can hold."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from typing import Any

import numpy as np
from PIL import Image

_MOST_PIXELS = 24_000_000
"""Of one picture: a browser holds four bytes each. Where more images do not fit, their thumbnails are smaller."""
_LARGEST_TILE = 64
"""Pixels a side of a thumbnail."""
_QUALITY = 70
"""Of WebP: a digit of MNIST takes about 140 bytes, an image of CIFAR-10 about 250."""

_EXACT = 1_000_000
"""Numbers in a picture up to which it loses nothing: 8x8 pixels would be smeared otherwise."""


class Sprites:
    """The pictures of a page; what several runs show alike is stored once."""

    def __init__(self) -> None:
        self.pictures: dict[str, dict[str, Any]] = {}
        """Key → ``src`` (a data URL) and the grid: ``columns``, ``width`` and ``height`` of a tile, in pixels."""
        self._known: dict[str, str] = {}

    def add(self, images: np.ndarray) -> str:
        """The key of the picture of ``images``, uint8 (n, H, W, C), C 1 or 3; they lie row by row."""
        images = np.ascontiguousarray(images)
        digest = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
        if digest not in self._known:
            self._known[digest] = key = f"s{len(self.pictures)}"
            self.pictures[key] = _picture(images)
        return self._known[digest]


def numbers(array: np.ndarray) -> dict[str, Any]:
    """Numbers as text: the smallest type that holds them, and base64 of its bytes, lowest byte first."""
    if array.dtype.kind == "f":
        array = array.astype("<f4")
    else:
        fitting = ("<u1", "<u2", "<u4") if not array.size or array.min() >= 0 else ("<i4",)
        largest = int(array.max()) if array.size else 0
        array = array.astype(next(kind for kind in fitting if largest <= np.iinfo(kind).max))
    return {"type": array.dtype.name, "data": base64.b64encode(array.tobytes()).decode()}


def rounded(array: np.ndarray) -> dict[str, Any]:
    """The same in half the space, for floats from 0 up that are only looked at: whole multiples of ``unit``."""
    unit = float(array.max(initial=0.0)) / np.iinfo("<u2").max or 1.0
    return {**numbers(np.rint(array / unit).astype(np.int64)), "unit": unit}


def _picture(images: np.ndarray) -> dict[str, Any]:
    side = min(_LARGEST_TILE, math.isqrt(_MOST_PIXELS // len(images)))
    tiles = _shrunk(images, side)
    n, height, width, channels = tiles.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    grid = np.zeros((rows * columns, height, width, channels), np.uint8)
    grid[:n] = tiles
    grid = grid.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(grid if channels == 3 else grid[:, :, 0]).save(
        file, "WEBP", quality=_QUALITY, lossless=grid.size <= _EXACT
    )
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return {"src": source, "columns": columns, "rows": rows, "width": width, "height": height}


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Images whose larger side is at most ``side`` pixels."""
    height, width = images.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [
        np.asarray(Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).resize(size)) for image in images
    ]
    return np.stack(small).reshape(len(images), size[1], size[0], images.shape[3])
