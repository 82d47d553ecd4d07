"""Train and test: the data's own division, or one drawn by seed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.naming import Role
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Split

_IN_MEMORY = 1 << 30
"""Rows picked out of a larger array are written to the cache and mapped."""


@dataclass(frozen=True)
class Whole:
    """All images of a data set, whatever their split."""

    key: str
    """Stands for this content in the cache."""
    images: np.ndarray
    """uint8 (N, H, W, C)."""
    labels: np.ndarray | None
    """int64 (N,), or None; -1 in a split that has no labels where the other has."""
    class_names: tuple[str, ...] = ()
    file_names: tuple[str, ...] | None = None
    train: int | None = None
    """The first so many rows are the train split, the others the test split; None: not divided."""
    notes: tuple[str, ...] = ()
    """What was dropped, mapped or rounded, a line each."""
    pixel_range: str | None = None
    """The values that became black and white, as the setting of that name; None: bytes, as they were."""


def take(whole: Whole, name: str, config: DataConfig, split: Split) -> Dataset:
    """The rows of one split, in the order they have in the whole.

    Raises:
        InputError: it is not divided and too small to be.
    """
    rows: slice | np.ndarray
    if split == "all":
        rows = slice(None)
    elif whole.train is not None:
        rows = slice(whole.train) if split == "train" else slice(whole.train, None)
    else:
        train = training_rows(len(whole.images), whole.labels, None, config)
        if train.all() and whole.labels is not None and len(whole.images) > 1:
            raise InputError(
                f"each of the {len(whole.images)} images of {name} has a class of its own, so none can be held out "
                "as the test split; are these labels classes?"
            )
        if train.all() or not train.any():
            raise InputError(f"{name} has too few images to hold some out as the test split; add images")
        rows = np.flatnonzero(train if split == "train" else ~train)
    labels = None if whole.labels is None else whole.labels[rows]
    return Dataset(
        name=name,
        split=split,
        images=_images(whole, rows),
        labels=None if labels is None or (labels < 0).any() else labels,
        class_names=whole.class_names,
        file_names=None if whole.file_names is None else tuple(np.array(whole.file_names, dtype=object)[rows]),
        notes=(*whole.notes, *_odd(whole, config)),
        pixel_range=whole.pixel_range,
        drawn=whole.train is None,
    )


def second_split(roles: Collection[Role], bare: Mapping[Any, str]) -> tuple[Role, list[str]]:
    """The split that is the test split beside train, and what is to be said of the choice.

    Args:
        roles: all splits, train and others.
        bare: those without labels, and what shows it.
    """
    if "test" not in roles:
        return "validation", ["there is no test split: validation is used as such"]
    if "validation" in roles and "test" in bare and not bare.keys() & {"train", "validation"}:
        return "validation", [f"the test split has no labels ({bare['test']}): validation is used as such"]
    return "test", []


def training_rows(count: int, labels: np.ndarray | None, train: int | None, config: DataConfig) -> np.ndarray:
    """bool (N,): which of the rows are the training split."""
    if train is not None:
        return np.arange(count) < train
    groups = np.zeros(count, np.int64) if labels is None else labels
    return ~held_out_rows(groups, config.test_fraction, config.split_seed)


def _odd(whole: Whole, config: DataConfig) -> list[str]:
    """What makes labels or pixels worth nothing, a line each."""
    found = []
    if whole.labels is not None and len(whole.images) > 1:
        known = whole.labels[whole.labels >= 0]
        classes = len(np.unique(known))
        if classes == len(known):
            found.append(f"every one of the {classes} images has a class of its own: accuracies will say nothing")
    low, high = (0.0, 255.0) if whole.pixel_range is None else map(float, whole.pixel_range.split(","))
    if whole.pixel_range is not None and (share := _white_share(whole.images)) > _WHITE:
        found.append(
            Message(
                "{:.0%} of the pixels are white, as {:.6g} and all above it are: if their scale is another one, "
                "say so with {pixel_range}",
                *(share, high),
            )
        )
    brightest = _brightest(whole.images)
    if 0 < brightest <= _BLACK:
        most = f"{low:.6g},{low + (high - low) * brightest / 255:.3g}"
        found.append(
            Message(
                "no pixel is brighter than {} of 255, which is as good as black: if there are no other values, "
                "say so with {pixel_range} {}",
                *(brightest, "auto" if config.pixel_range == "full" else most),
            )
        )
    return found


_BLACK, _WHITE = 31, 0.9


def _white_share(images: np.ndarray) -> float:
    """Of the pixels of some images, evenly spaced."""
    some = images[:: max(1, len(images) // 64)]
    return float((some == 255).mean())


def _brightest(images: np.ndarray) -> int:
    """The largest pixel; ends early where one is bright enough not to matter."""
    brightest = 0
    for start in range(0, len(images), 256):
        brightest = max(brightest, int(images[start : start + 256].max()))
        if brightest > _BLACK:
            break
    return brightest


def held_out_rows(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw the test rows, the same share of every class.

    Of a class of two or more images at least one goes to each side; a class of one stays in train.

    Args:
        groups: int64 (N,), the class of each row.
        fraction: the share to hold out, in (0, 1).
        seed: decides the draw; so does the order of the rows.

    Returns:
        bool (N,), True for the test rows.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        share = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        held_out[generator.permutation(rows)[:share]] = True
    return held_out


def _images(whole: Whole, rows: slice | np.ndarray) -> np.ndarray:
    """Those rows; a slice costs nothing, a choice of rows is copied, to disk if it is large."""
    if isinstance(rows, slice):
        return whole.images[rows]
    shape = (len(rows), *whole.images.shape[1:])
    if math.prod(shape) <= _IN_MEMORY:
        chosen: np.ndarray = whole.images[rows]
        return chosen
    key = cache.key_of("rows", whole.key, cache.key_of(rows.tolist()))
    found = cache.find(key, shape)

    def fill(put: cache.Put) -> None:
        for start in range(0, len(rows), 256):
            put(start, whole.images[rows[start : start + 256]])

    return cache.store(key, shape, fill) if found is None else found
