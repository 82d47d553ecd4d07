"""Images in arrays: .npz, .npy with labels beside it, and .mat in SVHN's layout."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softvq_cli import npy
from softvq_cli.config import DataConfig
from softvq_cli.datasets import axes, cache, limits, ranges
from softvq_cli.datasets.classes import distinct, numbered, unlabelled
from softvq_cli.datasets.naming import Role, role_of, shorten
from softvq_cli.datasets.progress import Progress
from softvq_cli.datasets.splits import Whole, second_split, training_rows
from softvq_cli.datasets.stamp import File
from softvq_cli.errors import InputError, one_line

ENDINGS = (".npz", ".npy", ".mat")
_IN_MEMORY = 1 << 30
_IMAGES = ("images", "image", "x", "data", "arr_0")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
"""What the arrays are called, those that win first."""


def read(path: Path, config: DataConfig, progress: Progress) -> Whole:
    """Images, labels and splits of an array file.

    Raises:
        InputError: the file is damaged, is a bomb, or holds something else.
    """
    suffix = path.suffix.lower()
    arrays: Mapping[str, Callable[[], np.ndarray]] = (
        _npy(path) if suffix == ".npy" else _npz(path) if suffix == ".npz" else _mat(path)
    )
    parts, unused, notes = _parts(path, arrays)
    notes += [f"arrays of {path.name} that are not used: {shorten(unused, 8)}"] if unused else []
    read_parts = []
    for part in parts:
        images, labels = arrays[part.images](), None if part.labels is None else arrays[part.labels]()
        where = f"{path}: {part.images}" if suffix != ".npy" else str(path)
        count = None if labels is None else axes.label_count(labels)
        images, note = axes.as_images(images, where, config.image_shape, count)
        notes += [note] if note and note not in notes else []
        read_parts.append((images, labels))
    return _joined(path, parts, read_parts, notes, config)


@dataclass(frozen=True)
class _Part:
    """The arrays of one split, by name."""

    role: Role | None
    images: str
    labels: str | None


def _joined(
    path: Path,
    parts: list[_Part],
    found: list[tuple[np.ndarray, np.ndarray | None]],
    notes: list[str],
    config: DataConfig,
) -> Whole:
    shapes = {images.shape[1:] for images, _ in found}
    if len(shapes) > 1:
        first, second = (
            f"{part.images} has images of {images.shape[1:]}" for part, (images, _) in zip(parts, found, strict=True)
        )
        raise InputError(f"{path}: {first}, {second}")
    counts = [len(images) for images, _ in found]
    train = counts[0] if len(found) == 2 else None
    given = [
        (labels, count, f"{path}: {part.labels}", part.role)
        for (_, labels), count, part in zip(found, counts, parts, strict=True)
    ]
    labels, names, said = numbered(given, path.suffix == ".mat" and found[0][0].shape[1:] == (32, 32, 3))
    notes += said
    images = found[0][0] if len(found) == 1 else _Joined([images for images, _ in found])
    mask = training_rows(sum(counts), labels, train, config)
    kept, chosen, note = _bytes(images, path, mask, config)
    return Whole(_key(path, config), kept, labels, names, train=train, notes=(*notes, *note), pixel_range=chosen)


class _Joined:
    """Two arrays, one after the other, of which a slice is read at a time."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])
        self.dtype = np.result_type(*parts)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        first = len(self.parts[0])
        return np.concatenate([self.parts[0][start:stop], self.parts[1][max(start - first, 0) : max(stop - first, 0)]])


def _bytes(
    images: np.ndarray | _Joined, path: Path, train: np.ndarray, config: DataConfig
) -> tuple[np.ndarray, str | None, list[str]]:
    """(uint8, the range that was used, notes) of pixels of any type."""
    scale = ranges.scale_of(config.pixel_range)
    if images.dtype == np.uint8 and not isinstance(scale, tuple):
        return images[:] if isinstance(images, _Joined) else images, None, []
    if images.dtype == np.bool_:
        return _converted(images, _key(path, config), lambda block: block.astype(np.uint8) * np.uint8(255)), None, []
    if images.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {images.dtype}; images are whole numbers or floats")
    low, high, trained = np.inf, -np.inf, (np.inf, -np.inf)
    for start in range(0, len(images), 256):
        block, chosen = images[start : start + 256], train[start : start + 256]
        found = ranges.extent(block, str(path))
        low, high = min(low, found[0]), max(high, found[1])
        if chosen.any():
            found = ranges.extent(block[chosen], str(path))
            trained = min(trained[0], found[0]), max(trained[1], found[1])
    if scale == "auto":
        scale = ranges.of_training(*trained, floats=images.dtype.kind == "f")
    elif scale == "full":
        scale = ranges.full_of(np.array([low, high], images.dtype), str(path))
    kind = f"{images.dtype.name} pixels"
    notes = [ranges.said(kind, scale, config.pixel_range)]
    if low < scale[0] or high > scale[1]:
        notes.append(f"pixels go from {low:.6g} to {high:.6g}: what lies outside of that range is cut off")
    key = cache.key_of(_key(path, config), scale)
    return _converted(images, key, lambda block: ranges.to_bytes(block, scale)), ranges.text_of(scale), notes


def _converted(array: np.ndarray | _Joined, key: str, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``array`` as uint8, a slice at a time; on disk if it is large."""

    def fill(put: cache.Put) -> None:
        for start in range(0, len(array), 256):
            put(start, convert(array[start : start + 256]))

    if np.prod(array.shape, dtype=np.int64) > _IN_MEMORY:
        found = cache.find(key, array.shape)
        return cache.store(key, array.shape, fill) if found is None else found
    images = np.empty(array.shape, np.uint8)

    def put(row: int, pixels: np.ndarray) -> None:
        images[row : row + len(pixels)] = pixels

    fill(put)
    return images


# ---- which array is what


def _parts(path: Path, arrays: Mapping[str, Callable[[], np.ndarray]]) -> tuple[list[_Part], list[str], list[str]]:
    """The arrays of the training and the test split, or of the undivided whole; those that are not used; notes."""
    found: dict[tuple[Role | None, str], str] = {}
    for kind, words in (("images", _IMAGES), ("labels", _LABELS)):
        for word in words:
            for name in sorted(arrays):
                what = _meaning(name)
                if what is not None and what[1] == word:
                    found.setdefault((what[0], kind), name)
    roles: list[Role | None] = [role for role, kind in found if kind == "images"]
    notes: list[str] = []
    if None in roles:
        chosen: list[Role | None] = [None]
    elif "train" in roles and ("test" in roles or "validation" in roles):
        labels = {role: found.get((role, "labels")) for role in roles}
        bare = unlabelled({role: [] if name is None else distinct(arrays[name]()) for role, name in labels.items()})
        second, notes = second_split([role for role in roles if role is not None], bare)
        chosen = ["train", second]
    else:
        held = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path} needs the arrays images (and labels), or x_train and x_test; it holds {held}")
    parts = [_Part(role, found[role, "images"], found.get((role, "labels"))) for role in chosen]
    with_labels = [part.labels for part in parts if part.labels is not None]
    unknown = shorten(sorted(name for name in arrays if _meaning(name) is None))
    if unknown and with_labels and len(with_labels) < len(parts):
        other = " and ".join(f"labels of {part.images}" for part in parts if part.labels is None)
        raise InputError(f"{path} has {with_labels[0]} but no {other}; call them so if they are one of {unknown}")
    used = {name for part in parts for name in (part.images, part.labels)}
    return parts, sorted(set(arrays) - used), notes


def _meaning(name: str) -> tuple[Role | None, str] | None:
    """(split, word) of ``x_train``, ``train_images``, ``Xtest``, ``labels``; None where it says neither."""
    lower = name.lower()
    words = "|".join(_IMAGES + _LABELS)
    if lower in _IMAGES + _LABELS:
        return None, lower
    for pattern in (rf"(?P<word>{words})[_-]?(?P<split>.+)", rf"(?P<split>.+?)[_-]?(?P<word>{words})"):
        match = re.fullmatch(pattern, lower)
        role = role_of(match["split"]) if match else None
        if match and role is not None:
            return role, match["word"]
    return None


# ---- the files


def _npy(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The images, mapped, and ``NAME.labels.npy`` if it is there."""
    labels = path.with_name(f"{path.stem}.labels.npy")
    found: dict[str, Callable[[], np.ndarray]] = {"images": lambda: npy.map_file(path)}
    if labels.exists():
        found["labels"] = lambda: npy.map_file(labels)
    return found


def _npz(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The arrays of a .npz by name, each read when it is asked for."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises many kinds on damaged bytes
        raise InputError(f"{path} is damaged or no .npz file: {one_line(error)}") from error
    limits.check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))

    def reader(name: str, info: zipfile.ZipInfo) -> Callable[[], np.ndarray]:
        return lambda: _npz_array(path, name, info)

    named = {info.filename.removesuffix(".npy"): info for info in infos}
    return {name: reader(name, info) for name, info in named.items()}


def _npz_array(path: Path, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            return npy.read_array(file, f"{path}: {name}", info.file_size)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {name} is damaged: {one_line(error)}") from error


def _mat(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The arrays of a MATLAB file up to version 7."""
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"{path} is of MATLAB's version 7.3; save it with -v7, or as .npz") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # scipy raises many kinds on damaged bytes
        raise InputError(f"{path} is damaged or no .mat file: {one_line(error)}") from error

    def reader(value: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: value

    return {name: reader(value) for name, value in content.items() if isinstance(value, np.ndarray)}


def _key(path: Path, config: DataConfig) -> str:
    return cache.key_of("array", str(path.resolve()), File.at("", path).status, config.image_shape)
