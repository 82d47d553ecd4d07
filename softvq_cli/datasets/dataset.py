"""What every loader returns: the images of one split, in memory or mapped from a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from softvq_cli.words import Split


@dataclass(frozen=True)
class Dataset:
    """The images of one split and what is known of them."""

    name: str
    """What the user called it, without folders: ``mnist``, ``flowers``."""
    split: Split
    images: np.ndarray
    """uint8 (N, H, W, C), C is 1 or 3; may be a read-only memory map. The scikit-learn estimator's are float32 of the
    same scale, black 0 and white 255, where it was given floats."""
    labels: np.ndarray | None
    """int64 (N,), indices into ``class_names``, or None: this split has none."""
    class_names: tuple[str, ...]
    """One name a class, in the order of the labels; empty where no split of the data has labels."""
    file_names: tuple[str, ...] | None = None
    """For an image folder: one path a row, relative to the folder, with forward slashes."""
    notes: tuple[str, ...] = ()
    """What was dropped, mapped or rounded when the data were read, and what is odd about them: a line each, in which
    settings are named (:class:`softvq_cli.errors.Message`)."""
    pixel_range: str | None = None
    """The values that became black and white, as the setting of that name; None: the images were bytes."""
    drawn: bool = False
    """Train and test were drawn: the data do not divide themselves."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.images.shape[1:]
        return int(height), int(width), int(channels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels: two data sets are the same data iff it is equal."""
        digest = hashlib.sha256(repr((self.images.shape, self.labels is not None)).encode())
        for start in range(0, len(self.images), 4096):  # a slice at a time: it may be a map
            digest.update(np.ascontiguousarray(self.images[start : start + 4096]).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()
