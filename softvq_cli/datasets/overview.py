"""The data in numbers, so that a person can see whether the program understood them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.load import load
from softvq_cli.reporter import Reporter
from softvq_cli.words import Split


@dataclass(frozen=True)
class Overview:
    """Counts and what is odd."""

    name: str
    image_shape: tuple[int, ...]
    counts: dict[str, int]
    """Images of the training and of the test split."""
    classes: dict[str, dict[str, int]]
    """Class → split → images; empty without labels."""
    drawn: bool
    """The test split was drawn; the data have none of their own."""
    pixels: tuple[float, float]
    """The smallest and the largest, of 0 to 255; of vectors the smallest and the largest number."""
    pixel_range: str | None
    """The values that became 0 and 255; None: the images were bytes."""
    duplicates: int
    """Images that are equal to one before them in the same split."""
    shared: int
    """Images of the test split that are in the training split too."""
    constant: int
    """Images of one value all over, or vectors of one number."""
    fingerprints: dict[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"notes": [*map(str, self.notes)]}


def look(config: DataConfig, reporter: Reporter | None = None) -> tuple[Overview, Dataset, Dataset]:
    """Both splits and what they hold in numbers; raises as :func:`softvq_cli.datasets.load`."""
    train, test = load(config, "train", reporter=reporter), load(config, "test", reporter=reporter)
    splits: dict[Split, Dataset] = {"train": train, "test": test}
    digests = {name: _each(split, _digest) for name, split in splits.items()}
    kind = float if train.of_vectors else int
    overview = Overview(
        name=train.name,
        image_shape=train.image_shape,
        counts={name: len(split) for name, split in splits.items()},
        classes=_classes(splits),
        drawn=train.drawn,
        pixels=(
            kind(min(_extreme(split, np.min) for split in splits.values())),
            kind(max(_extreme(split, np.max) for split in splits.values())),
        ),
        pixel_range=train.pixel_range,
        duplicates=sum(len(split) - len(set(split)) for split in digests.values()),
        shared=sum(map(set(digests["train"]).__contains__, digests["test"])),
        constant=sum(sum(_each(split, _is_constant)) for split in splits.values()),
        fingerprints={name: split.fingerprint for name, split in splits.items()},
        notes=train.notes,
    )
    return overview, train, test


def _classes(splits: dict[Split, Dataset]) -> dict[str, dict[str, int]]:
    classes: dict[str, dict[str, int]] = {}
    for name, split in splits.items():
        if split.labels is not None:
            counts = np.bincount(split.labels, minlength=len(split.class_names))
            for class_name, count in zip(split.class_names, counts.tolist(), strict=True):
                classes.setdefault(class_name, {})[name] = count
    return classes


def _each(dataset: Dataset, measure: Callable[[np.ndarray], Any]) -> list[Any]:
    return [measure(image) for image in dataset.images]


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _is_constant(image: np.ndarray) -> bool:
    return bool((image == (image[0] if image.ndim == 1 else image[0, 0])).all())


def _extreme(dataset: Dataset, extreme: Callable[[Any], Any]) -> float:
    return float(extreme([extreme(dataset.images[start : start + 256]) for start in range(0, len(dataset), 256)]))
