"""What every loader returns: the images of one split, in memory or mapped from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache
from softvq_cli.datasets.naming import shorten
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Split

_COPIED = 1 << 28
"""A choice of rows of at most so many bytes is copied, which makes it faster to read; else it stays an index."""


@dataclass(frozen=True)
class Dataset:
    """The images of one split and what is known of them."""

    name: str
    """What the user called it, without folders: ``mnist``, ``flowers``."""
    split: Split
    images: np.ndarray
    """uint8 (N, H, W, C), C is 1 or 3, or vectors, float32 (N, D); may be a read-only memory map, or ``Rows`` of
    one. The scikit-learn estimator's are float32, black 0 and white 255, where it was given floats."""
    labels: np.ndarray | None
    """int64 (N,), indices into ``class_names``, or None: this split has none."""
    class_names: tuple[str, ...]
    """One name a class, in the order of the labels; empty where no split of the data has labels."""
    file_names: tuple[str, ...] | None = None
    """For an image folder: one path a row, relative to the folder, with forward slashes."""
    notes: tuple[str, ...] = ()
    """What was dropped, mapped or rounded when the data were read, and what is odd about them: a line each, in which
    settings are named (``softvq_cli.errors.Message``)."""
    pixel_range: str | None = None
    """The values that became black and white, as the setting of that name; None: the images were bytes."""
    drawn: bool = False
    """Train and test were drawn: the data do not divide themselves."""
    key: str | None = field(default=None, compare=False)
    """Stands for this content in the cache, so that what costs a pass over all images is computed once."""
    train: int | None = None
    """Of all images: the first so many are the train split, the others the test split; None: not divided. Then labels
    may be -1, in a split that has none where the other has."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), or (D,) of vectors."""
        return tuple(int(side) for side in self.images.shape[1:])

    @property
    def of_vectors(self) -> bool:
        """Whether the rows are vectors and not images."""
        return self.images.ndim == 2

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """A number or text that follows from the images, kept with their stamp: 10^6 images cost seconds to read."""
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
        """SHA-256 of shape, pixels and labels: two data sets are the same data iff it is equal."""
        return str(self.remembered("fingerprint", self._digest))

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.images.shape, self.labels is not None)).encode())
        for block in blocks(self.images):
            digest.update(np.ascontiguousarray(block).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()


class Lazy:
    """What an array of images would be, as far as it is read: rows, runs of rows, all of them."""

    dtype: np.dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.ndim = shape, len(shape)

    @property
    def nbytes(self) -> int:
        """Of all images."""
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The images of some rows, int64 (n,), or of one, int64 ()."""
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
    """Some rows of an array, by index: nothing is copied before it is asked for."""

    def __init__(self, images: np.ndarray | Lazy, rows: np.ndarray) -> None:
        super().__init__((len(rows), *images.shape[1:]))
        self.images, self.rows, self.dtype = images, rows, images.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """From the array."""
        return np.asarray(self.images[self.rows[rows]])


def rows_of(images: np.ndarray | Lazy, rows: np.ndarray) -> Any:
    """Those rows: a small copy, or an index into the images."""
    if isinstance(images, Rows):
        return rows_of(images.images, images.rows[rows])
    view = Rows(images, rows)
    return images[rows] if isinstance(images, np.ndarray) and view.nbytes <= _COPIED else view


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """int64: the numbers of all ``count`` rows, or of ``most`` of them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def blocks(images: np.ndarray | Lazy, size: int = 16 << 20) -> Iterator[np.ndarray]:
    """The images a piece of about ``size`` bytes at a time: they may be larger than memory."""
    step = max(1, size // max(1, math.prod(images.shape[1:]) * images.dtype.itemsize))
    for start in range(0, len(images), step):
        yield images[start : start + step]


def part_of(whole: Dataset, config: DataConfig, split: Split) -> Dataset:
    """One split of all images, in the order that they have in the whole."""
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
    """Those rows: a part of the array, a small copy, or an index into the images."""
    images: Any = whole.images
    if isinstance(rows, slice) and isinstance(images, np.ndarray):
        return images[rows]
    rows = np.arange(len(images))[rows] if isinstance(rows, slice) else rows
    view = rows_of(images, rows)
    on_demand = not isinstance(images, np.ndarray | Rows)
    if on_demand and split == "test" and view.nbytes * 4 <= cache.limit():  # it is read again and again

        def copy(put: cache.Put) -> None:
            done = 0
            for block in blocks(view):
                put(done, block)
                done += len(block)

        key = cache.key_of(whole.key, hashlib.sha256(rows.tobytes()).hexdigest())
        return cache.find_or_store(key, view.shape, copy)
    return view


def _shared_note(whole: Dataset, config: DataConfig, split: Split, rows: slice | np.ndarray) -> list[str]:
    """How many images of the test split are also in the training split; it takes a pass, so only where that is kept."""
    if split != "train" or whole.key is None:
        return []
    trained = np.zeros(len(whole), bool)
    trained[rows] = True

    def shared() -> int:
        images = (np.ascontiguousarray(image) for block in blocks(whole.images) for image in block)
        digests = [hashlib.blake2b(image.data, digest_size=8).digest() for image in images]
        known = {digest for digest, in_train in zip(digests, trained.tolist(), strict=True) if in_train}
        return sum(digest in known for digest, in_train in zip(digests, trained.tolist(), strict=True) if not in_train)

    count = whole.remembered(f"shared {config.test_fraction} {config.split_seed}", shared)
    kind = "vectors" if whole.of_vectors else "images"
    return [f"{count} of {int((~trained).sum())} test {kind} are in the training split too"] if count else []


def training_rows(count: int, labels: np.ndarray | None, train: int | None, config: DataConfig) -> np.ndarray:
    """bool (N,): which of the rows are the training split."""
    if train is not None:
        return np.arange(count) < train
    groups = np.zeros(count, np.int64) if labels is None else labels
    return ~held_out_rows(groups, config.test_fraction, config.split_seed)


def held_out_rows(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw the test rows, the same share of every class.

    Of a class of two or more images at least one goes to each side; a class of one stays in train.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        share = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        held_out[generator.permutation(rows)[:share]] = True
    return held_out


# ---- what makes labels or pixels worth nothing

_BLACK, _WHITE = 31, 0.9


def _odd(whole: Dataset, config: DataConfig) -> list[str]:
    """What is odd about the labels or the pixels, a line each."""
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
        # Of a type's full range it is not known here which type that is.
        given = "auto" if config.pixel_range == "full" else most
        lines.append(Message(text + "give the range with {pixel_range} {}", brightest, given))
    return lines


def _odd_labels(whole: Dataset) -> list[str]:
    """A class for every image, classes that only the test split has, and names that are nearly the same."""
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
    """The largest pixel; ends early where one is bright enough not to matter."""
    brightest = 0
    for block in blocks(images, 1 << 20):
        brightest = max(brightest, int(block.max()))
        if brightest > _BLACK:
            break
    return brightest
