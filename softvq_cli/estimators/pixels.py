"""Convert the input of an estimator to the input of a network: 8-bit images, or numbers in their own units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softvq_cli.config import RunConfig, check, image_shape, pixel_range
from softvq_cli.datasets.vectors import checked
from softvq_cli.errors import InputError, UsageError, shown

WHITE = 255.0


def are_images(X: Any) -> bool:
    """Whether X is an array with more than two dimensions; scikit-learn checks everything else."""
    return isinstance(X, np.ndarray) and X.ndim > 2


def as_images(images: np.ndarray) -> np.ndarray:
    """Reshape (N, H, W, C) or (N, H, W) of any dtype to (N, H, W, C), C 1 or 3 (InputError: another shape)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"images must be an array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3) with N at least 1, not of shape "
            f"{images.shape}"
        )
    return images


def check_bytes(images: np.ndarray, otherwise: str) -> None:
    """Raise InputError unless the images are uint8: a model of 8-bit images would take 0 … 1 for nearly black images.

    ``otherwise`` tells the user in the message what to pass instead.
    """
    if images.dtype != np.uint8:
        raise InputError(f"the images are {images.dtype}, and {otherwise}")


@dataclass(frozen=True)
class Numbers:
    """The conversion of numbers to images: the shape of an image, and the numbers that are black and white.

    Nothing is rounded or clipped: new numbers outside the range of the training data are also outside [0, 255].
    """

    shape: tuple[int, ...]
    """(H, W, C)."""
    low: float = 0.0
    high: float = WHITE
    of_rows: bool = False
    """Whether the training data were rows (N, H*W*C) instead of images."""

    @classmethod
    def learned(cls, X: np.ndarray, shape: tuple[int, ...], *, of_rows: bool) -> Numbers:
        """Learn the value range of training rows (N, H*W*C); uint8 keeps 0 to 255.

        InputError: all values of X are equal, or their range is too large or too small for a float.
        """
        if X.dtype == np.uint8:
            return cls(shape, of_rows=of_rows)
        low, high = float(X.min()), float(X.max())
        if low == high:
            raise InputError("all numbers of X are equal: there is nothing to learn")
        if not math.isfinite(high - low) or WHITE / (high - low) in (0.0, math.inf):
            raise InputError(
                f"the numbers of X, from {low} to {high}, are too far apart or too close together: scale them first"
            )
        return cls(shape, low, high, of_rows)

    @classmethod
    def of(cls, config: RunConfig, shape: tuple[int, ...]) -> Numbers | None:
        """Rebuild it from a run on images of ``shape``, which stores :meth:`settings`; None for 8-bit images."""
        if len(shape) == 1:
            return Vectors(shape, of_rows=True)
        limits, of_rows = pixel_range(config.data.pixel_range), config.data.image_shape is not None
        if limits is None and not of_rows:
            return None
        return cls(shape, *(limits or (0.0, WHITE)), of_rows=of_rows)

    def settings(self) -> dict[str, str]:
        """The settings of a run that store this conversion."""
        settings = {"pixel_range": f"{self.low!r},{self.high!r}"}
        return settings | ({"image_shape": ",".join(map(str, self.shape))} if self.of_rows else {})

    def images(self, X: np.ndarray) -> np.ndarray:
        """Convert rows to images (N, H, W, C): uint8 if X and the range are 8-bit, else float32 from 0 to 255.

        InputError: the range is 0 to 255, but the values are fractions between 0 and 1.
        """
        of_bytes = X.dtype != np.uint8 and (self.low, self.high) == (0.0, WHITE) and len(X)
        if of_bytes and X.min() >= 0 and X.max() <= 1 and (X.round() != X).any():
            raise InputError(
                "these numbers are between 0 and 1, but the model was trained on 8-bit images: give 0 to 255"
            )
        if X.dtype != np.uint8 or (self.low, self.high) != (0.0, WHITE):
            X = ((X.astype(np.float64) - self.low) * (WHITE / (self.high - self.low))).astype(np.float32)
        return X.reshape(len(X), *self.shape)

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """Convert images of any shape (N, H, W, C) to the input of a network; uint8 images are unchanged."""
        return images if images.dtype == np.uint8 else replace(self, shape=images.shape[1:]).images(images)

    def restored(self, images: np.ndarray) -> np.ndarray:
        """Convert pixels in [0, 1], (N, H*W*C), to float32 rows (N, H*W*C) in the units of X."""
        scaled = self.low + images.astype(np.float64) * (self.high - self.low)
        return scaled.astype(np.float32)


class Vectors(Numbers):
    """Rows (N, D) for a model of vectors, which does the scaling itself."""

    def images(self, X: np.ndarray) -> np.ndarray:
        """X as float32 (N, D)."""
        return checked(X, "X")

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """Raise InputError: the model takes vectors, not images."""
        raise InputError(f"the model takes vectors, (N, {self.shape[0]}), and X has the shape {images.shape}")

    def restored(self, images: np.ndarray) -> np.ndarray:
        """Return the rows unchanged: a model of vectors decodes to the units of X."""
        return images


def row_shape(given: tuple[int, ...] | None, features: int) -> tuple[int, int, int]:
    """(H, W, C) of the image in a row with ``features`` values; (1, ``features``, 1) if ``given`` is None.

    UsageError: ``given`` is not a shape, or its number of values is not ``features``.
    """
    sides = (1, features, 1) if given is None else tuple(given) if np.iterable(given) else ()
    sides = (*sides, 1) if len(sides) == 2 else sides
    if len(sides) != 3 or sides[2] not in (1, 3):
        raise UsageError("{image_shape} is (H, W) or (H, W, C), C 1 or 3, not {}", shown(given))
    height, width, channels = image_shape(check("image_shape", ",".join(map(str, sides))))
    if height * width * channels != features:
        raise UsageError(
            "{image_shape} {} has {} values, but a row of X has {}", sides, height * width * channels, features
        )
    return height, width, channels
