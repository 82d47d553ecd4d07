"""The result of every loader: the images of one split, in memory or memory-mapped."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache
from softvq_cli.datasets.naming import shorten
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Split

_COPIED = 1 << 28
"""A selection of rows up to this size is copied, for faster reading; larger ones remain an index."""


@dataclass(frozen=True)
class Dataset:
    """The images of one split and their metadata."""

    name: str
    """The name given by the user, without folders: ``mnist``, ``flowers``."""
    split: Split
    images: np.ndarray
    """uint8 (N, H, W, C) with C 1 or 3, or vectors, float32 (N, D); may be a read-only memory map, or ``Rows`` of one.
    For the scikit-learn estimator, float input is float32, with 0 black and 255 white."""
    labels: np.ndarray | None
    """int64 (N,), indices into ``class_names``; None if this split has no labels."""
    class_names: tuple[str, ...]
    """One name per class, in the order of the labels; empty if no split has labels."""
    file_names: tuple[str, ...] | None = None
    """For an image folder: the path of each row relative to the folder, with forward slashes."""
    notes: tuple[str, ...] = ()
    """Notes on values that were dropped, mapped or rounded, and on problems of the data, one line each, in which
    settings are named (``softvq_cli.errors.Message``)."""
    pixel_range: str | None = None
    """The values that were mapped to black and white, as in the setting of that name; None: the images were 8-bit."""
    drawn: bool = False
    """Whether train and test were drawn at random, because the data have no splits of their own."""
    key: str | None = field(default=None, compare=False)
    """Identifies this content in the cache, so that values that need a pass over all images are computed once."""
    train: int | None = None
    """Only for the split ``all``: the first rows, this many, are the train split, the others the test split; None: the
    data have no splits. Labels may then be -1 in a split without labels if the other has some."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), or (D,) for vectors."""
        return tuple(int(side) for side in self.images.shape[1:])

    @property
    def of_vectors(self) -> bool:
        """Whether the rows are vectors instead of images."""
        return self.images.ndim == 2

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """A value derived from the images, cached with their stamp, because reading 10^6 images takes seconds."""
        if self.key is None:
            return compute()
        key = cache.key_of(name, self.key)
        value = cache.read_notes(key, ".fact")
        if value is None:
            value = compute()
            cache.write_notes(key, value, ".fact")
        return value

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels; data sets are equal if and only if their fingerprints are."""
        return str(self.remembered("fingerprint", self._digest))

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.images.shape, self.labels is not None)).encode())
        for block in blocks(self.images):
            digest.update(np.ascontiguousarray(block).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()


class Lazy:
    """A lazy array of images, read as needed: single rows, runs of rows, or all."""

    dtype: np.dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.ndim = shape, len(shape)

    @property
    def nbytes(self) -> int:
        """The size of all images."""
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The images of rows, int64 (n,), or of one row, int64 ()."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        wanted, *inner = key if isinstance(key, tuple) else (key,)
        if isinstance(wanted, slice):
            rows = np.arange(*wanted.indices(len(self)))
        else:
            rows = np.asarray(wanted)
            rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.where(rows < 0, rows + len(self), rows)
        images = self.take(rows)
        return images[(slice(None), *inner)] if inner else images

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in blocks(self):
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


class Rows(Lazy):
    """Some rows of an array, by index; nothing is copied until it is needed."""

    def __init__(self, images: np.ndarray | Lazy, rows: np.ndarray) -> None:
        super().__init__((len(rows), *images.shape[1:]))
        self.images, self.rows, self.dtype = images, rows, images.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows from the array."""
        return np.asarray(self.images[self.rows[rows]])


def rows_of(images: np.ndarray | Lazy, rows: np.ndarray) -> Any:
    """Select rows: a small copy, or an index into the images."""
    if isinstance(images, Rows):
        return rows_of(images.images, images.rows[rows])
    view = Rows(images, rows)
    return images[rows] if isinstance(images, np.ndarray) and view.nbytes <= _COPIED else view


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """The indices of all ``count`` rows, or of ``most`` evenly spaced ones: int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def blocks(images: np.ndarray | Lazy, size: int = 16 << 20) -> Iterator[np.ndarray]:
    """Yield the images in blocks of about ``size`` bytes, because they may be larger than memory."""
    step = max(1, size // max(1, math.prod(images.shape[1:]) * images.dtype.itemsize))
    for start in range(0, len(images), step):
        yield images[start : start + step]


def digests(rows: np.ndarray) -> list[bytes]:
    """A short hash of each row, by which equal rows are found."""
    return [hashlib.blake2b(row.data, digest_size=8).digest() for row in np.ascontiguousarray(rows)]


def part_of(whole: Dataset, config: DataConfig, split: Split) -> Dataset:
    """One split of all images, in the order of the whole."""
    rows: slice | np.ndarray
    if split == "all":
        rows = slice(None)
    elif whole.train is not None:
        rows = slice(whole.train) if split == "train" else slice(whole.train, None)
    else:
        train = training_rows(len(whole), whole.labels, None, config)
        if train.all() and whole.labels is not None and len(whole) > 1:
            raise InputError(
                f"each of the {len(whole)} images of {whole.name} has its own class, so none can be held out "
                "as the test split; are these labels classes?"
            )
        if train.all() or not train.any():
            raise InputError(f"{whole.name} has too few images for a test split; add images")
        rows = np.flatnonzero(train if split == "train" else ~train)
    labels = None if whole.labels is None else whole.labels[rows]
    notes = [*whole.notes, *_odd(whole, config), *_shared_note(whole, config, split, rows)]
    division = [split, *([] if whole.train is not None else [config.test_fraction, config.split_seed])]
    return dataclasses.replace(
        whole,
        split=split,
        key=None if whole.key is None else cache.key_of(whole.key, division),
        images=_images(whole, rows, split),
        labels=None if labels is None or (labels < 0).any() else labels,
        file_names=whole.file_names and tuple(np.array(whole.file_names, object)[rows]),
        notes=tuple(notes),
        drawn=whole.train is None,
        train=None,
    )


def _images(whole: Dataset, rows: slice | np.ndarray, split: Split) -> Any:
    """Select rows: a slice of the array, a small copy, or an index into the images."""
    images: Any = whole.images
    if isinstance(rows, slice) and isinstance(images, np.ndarray):
        return images[rows]
    rows = np.arange(len(images))[rows] if isinstance(rows, slice) else rows
    view = rows_of(images, rows)
    on_demand = not isinstance(images, np.ndarray | Rows)
    if on_demand and split == "test" and view.nbytes * 4 <= cache.limit():  # stored, because it is read often

        def copy(put: cache.Put) -> None:
            done = 0
            for block in blocks(view):
                put(done, block)
                done += len(block)

        key = cache.key_of(whole.key, hashlib.sha256(rows.tobytes()).hexdigest())
        return cache.find_or_store(key, view.shape, copy)
    return view


def _shared_note(whole: Dataset, config: DataConfig, split: Split, rows: slice | np.ndarray) -> list[str]:
    """A note if test images are also in the training split; it needs a pass, so only if the result can be cached."""
    if split != "train" or whole.key is None:
        return []
    trained = np.zeros(len(whole), bool)
    trained[rows] = True

    def shared() -> int:
        rows = [*zip(chain.from_iterable(map(digests, blocks(whole.images))), trained.tolist(), strict=True)]
        known = {digest for digest, in_train in rows if in_train}
        return sum(digest in known for digest, in_train in rows if not in_train)

    count = whole.remembered(f"shared {config.test_fraction} {config.split_seed}", shared)
    kind = "vectors" if whole.of_vectors else "images"
    return [f"{count} of {int((~trained).sum())} test {kind} are in the training split too"] if count else []


def training_rows(count: int, labels: np.ndarray | None, train: int | None, config: DataConfig) -> np.ndarray:
    """Which rows belong to the training split: bool (N,)."""
    if train is not None:
        return np.arange(count) < train
    groups = np.zeros(count, np.int64) if labels is None else labels
    return ~held_out_rows(groups, config.test_fraction, config.split_seed)


def held_out_rows(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw the test rows, the same fraction of every class.

    If a class has at least two images, each split gets at least one; a single image stays in train.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        share = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        held_out[generator.permutation(rows)[:share]] = True
    return held_out


# ---- problems of labels or pixels

_BLACK, _WHITE = 31, 0.9


def _odd(whole: Dataset, config: DataConfig) -> list[str]:
    lines = _odd_labels(whole)
    if whole.of_vectors:
        return lines
    low, high = (0.0, 255.0) if whole.pixel_range is None else map(float, whole.pixel_range.split(","))
    share = 0.0 if whole.pixel_range is None else float((whole.images[:: max(1, len(whole) // 64)] == 255).mean())
    if share > _WHITE:
        text = "{:.0%} of the pixels are white, because {:.6g} and all values above it are white: if this is wrong, "
        lines.append(Message(text + "give the range with {pixel_range}", share, high))
    brightest = _brightest(whole.images)
    if 0 < brightest <= _BLACK:
        text = "no pixel is brighter than {} of 255, so the images look black: if there are no larger values, "
        most = f"{low:.6g},{low + (high - low) * brightest / 255:.3g}"
        # With the full range of a type, the type is not known here.
        given = "auto" if config.pixel_range == "full" else most
        lines.append(Message(text + "give the range with {pixel_range} {}", brightest, given))
    return lines


def _odd_labels(whole: Dataset) -> list[str]:
    """Report one class per image, classes that only the test split has, and nearly equal class names."""
    lines = []
    if whole.labels is not None and len(whole) > 1:
        labels = whole.labels[whole.labels >= 0]
        if len(np.unique(labels)) == len(labels):
            lines.append(f"every one of the {len(labels)} images has its own class: accuracies will be meaningless")
    if whole.labels is not None and whole.train is not None:
        train, test = ({*np.unique(part).tolist()} for part in np.split(whole.labels, [whole.train]))
        unseen = [whole.class_names[label] for label in sorted(test - train) if label >= 0 and train != {-1}]
        if unseen:
            lines.append(f"classes of the test split that are missing in the training split: {shorten(unseen, 8)}")
    alike: dict[str, list[str]] = {}
    for name in whole.class_names:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    same_names = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if same_names:
        lines.append(f"class names that differ only in case or spaces: {shorten(same_names)}")
    return lines


def _brightest(images: np.ndarray | Lazy) -> int:
    """The largest pixel; stops at the first one that is bright enough."""
    brightest = 0
    for block in blocks(images, 1 << 20):
        brightest = max(brightest, int(block.max()))
        if brightest > _BLACK:
            break
    return brightest
