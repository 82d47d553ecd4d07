"""What an estimator is given → what the networks take: images, or rows of numbers with a scale of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softvq_cli.config import RunConfig, check, image_shape, pixel_range
from softvq_cli.errors import InputError, UsageError, param, shown

WHITE = 255.0


def as_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) with C 1 or 3, of (N, H, W, C) or (N, H, W).

    Raises:
        InputError: it is no such array.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise InputError(
            f"images must be a uint8 array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), N at least 1, "
            f"not {images.dtype} of shape {images.shape}; numbers of another type are given as rows (N, H*W*C), with "
            f"{param('image_shape')} in the estimator"
        )
    return images


@dataclass(frozen=True)
class Rows:
    """How rows (N, H*W*C) become images: their shape, and the numbers that are black and white.

    Nothing is rounded or clipped: a number outside the range, which only new rows can have, lies outside [0, 255] too.
    """

    shape: tuple[int, int, int]
    """(H, W, C)."""
    low: float = 0.0
    high: float = WHITE

    @classmethod
    def learned(cls, X: np.ndarray, shape: tuple[int, ...] | None) -> Rows:
        """For the rows that a network is trained on; bytes keep their scale.

        Raises:
            UsageError: ``shape`` is none, or has another number of values than a row.
            InputError: all numbers of X are equal, or lie too far apart for their difference to be a float.
        """
        whole = _shape(shape, X.shape[1])
        if X.dtype == np.uint8:
            return cls(whole)
        low, high = float(X.min()), float(X.max())
        if low == high:
            raise InputError("all numbers of X are equal: there is nothing to learn")
        if not math.isfinite(high - low) or WHITE / (high - low) in (0.0, math.inf):
            raise InputError(f"the numbers of X, from {low} to {high}, are too far apart or too near: scale them first")
        return cls(whole, low, high)

    @classmethod
    def of(cls, config: RunConfig) -> Rows | None:
        """As :meth:`settings` wrote it into a run's configuration; None for a run on images."""
        if config.data.image_shape is None:
            return None
        return cls(image_shape(config.data.image_shape), *(pixel_range(config.data.pixel_range) or (0.0, WHITE)))

    def settings(self) -> dict[str, str]:
        """The settings of a run that say the same."""
        return {"image_shape": ",".join(map(str, self.shape)), "pixel_range": f"{self.low!r},{self.high!r}"}

    def images(self, X: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, C) of bytes that keep their scale, else float32 with black 0 and white 255."""
        if X.dtype != np.uint8 or (self.low, self.high) != (0.0, WHITE):
            X = ((X.astype(np.float64) - self.low) * (WHITE / (self.high - self.low))).astype(np.float32)
        return X.reshape(len(X), *self.shape)

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """Images on [0, 1] → float32 rows (N, H*W*C) in the units of X."""
        scaled = self.low + images.reshape(len(images), -1).astype(np.float64) * (self.high - self.low)
        return scaled.astype(np.float32)


def _shape(given: tuple[int, ...] | None, features: int) -> tuple[int, int, int]:
    """(H, W, C); a row without a shape is an image of one line."""
    sides = (1, features, 1) if given is None else tuple(given) if np.iterable(given) else ()
    sides = (*sides, 1) if len(sides) == 2 else sides
    if len(sides) != 3 or sides[2] not in (1, 3):
        raise UsageError(f"{param('image_shape')} is (H, W) or (H, W, C), C 1 or 3, not {shown(given)}")
    height, width, channels = image_shape(check("image_shape", ",".join(map(str, sides))))
    if height * width * channels != features:
        raise UsageError(
            f"{param('image_shape')} {sides} has {height * width * channels} values, and a row of X has {features}"
        )
    return height, width, channels
