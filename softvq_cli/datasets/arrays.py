"""Arrays of images or vectors: .npz, .npy with a separate label file, .mat in SVHN's layout, MNIST's idx files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli import npy
from softvq_cli.config import DataConfig, image_shape
from softvq_cli.datasets import cache, matlab, pixel_range, vectors
from softvq_cli.datasets.dataset import Dataset, Lazy, rows_of, training_rows
from softvq_cli.datasets.images import regular
from softvq_cli.datasets.named import read_idx
from softvq_cli.datasets.naming import ROLES, Role, check_expansion, is_document, role_of, shorten
from softvq_cli.datasets.records import Coded, Division, divide
from softvq_cli.errors import InputError, Message
from softvq_cli.files import reading

ENDINGS = (".npz", ".npy", ".mat")
_IN_MEMORY = 1 << 30
_IMAGES = ("images", "image", "x", "data", "vectors", "embeddings", "embedding", "features", "z", "arr_0")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
"""Names of label arrays, in order of precedence."""
_CHANNELS = (1, 3)
Arrays = Mapping[str, Callable[[], np.ndarray]]
"""The arrays of a file by name; each is read on demand."""


def read(path: Path, config: DataConfig) -> Dataset:
    """Read the images or vectors, labels and splits of an array file."""
    arrays: Arrays = {".npy": _npy, ".npz": _npz, ".mat": _mat}.get(path.suffix.lower(), _idx)(path)
    parts, notes = _parts(path, arrays)
    if config.label_column == "none":
        parts = {role: (name, None) for role, (name, _) in parts.items()}
    views: dict[Role | None, np.ndarray] = {}
    labels: list[np.ndarray | None] = []
    for role, (name, labels_name) in parts.items():
        images, given = arrays[name](), None if labels_name is None else arrays[labels_name]()
        where = str(path) if path.suffix.lower() == ".npy" else f"{path}: {name}"
        if images.ndim == 2 and images.dtype.kind == "f" and config.image_shape is None:
            images = vectors.checked(images, where)
        else:
            images, note = _as_images(images, where, config.image_shape)
            notes += [note] if note and note not in notes else []
        views[role] = images
        labels.append(None if given is None else _flat(given, len(images), f"{path}: {labels_name}", notes))
    return _dataset(path, *_divided(path, views, labels, notes), config)


def _divided(
    path: Path, views: Mapping[Role | None, np.ndarray], labels: Sequence[np.ndarray | None], notes: list[str]
) -> tuple[np.ndarray | Lazy, Division]:
    """Concatenate the images of train and test, and their labels."""
    shapes = {role: view.shape[1:] for role, view in views.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{shape} in {role}" for role, shape in shapes.items())
        raise InputError(f"{path}: all images must have one size; they have {sizes}")
    whole = np.concatenate([*views.values()]) if len(views) > 1 else next(iter(views.values()))
    counts = [*map(len, views.values())]
    roles = Coded([*views], np.repeat(np.arange(len(views)), counts))
    svhn = path.suffix == ".mat" and whole.shape[1:] == (32, 32, 3)
    cells = _coded(labels, counts, svhn, notes)
    division = divide(str(path), roles, cells, name=lambda row: f"row {row}", notes=notes)
    return whole if len(division.rows) == len(whole) else rows_of(whole, division.rows), division


def _coded(labels: Sequence[np.ndarray | None], counts: Sequence[int], svhn: bool, notes: list[str]) -> Coded | None:
    """The labels of all splits together; NaN, and rows of a split without labels, have none."""
    given = [part for part in labels if part is not None]
    if not given:
        return None
    values, codes = np.unique(np.concatenate(given), return_inverse=True)
    if svhn and values.dtype.kind in "iu" and values.min() >= 1 and values.max() == 10:
        values = values % 10
        notes.append("label 10 is read as the digit 0, as in SVHN")
    has_labels = np.repeat([part is not None for part in labels], counts)
    whole = np.full(len(has_labels), len(values))
    whole[has_labels] = codes.reshape(-1)
    return Coded([*values.tolist(), None], whole)


def _flat(labels: np.ndarray, count: int, where: str, notes: list[str]) -> np.ndarray:
    """One scalar label per image: (N,) numbers or text."""
    if labels.dtype.kind not in "iubfUS":
        raise InputError(f"{where} holds {labels.dtype}; labels are whole numbers or text")
    if labels.shape in ((count,), (count, 1), (1, count)):
        small = labels.dtype.kind == "u" and labels.max(initial=0) < 1 << 63
        return np.asarray(labels.reshape(-1).astype(np.int64) if small else labels.reshape(-1))
    one_hot = labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1 and labels.dtype.kind not in "US"
    if one_hot and ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
        notes.append(f"{where} is one-hot: the place of the 1 is the label")
        return np.asarray(labels.argmax(axis=1), np.int64)
    raise InputError(f"{where} has the shape {labels.shape}; {count} images need ({count},)")


def _dataset(path: Path, images: np.ndarray | Lazy, division: Division, config: DataConfig) -> Dataset:
    labels, train, notes = division.labels, division.train, division.notes
    content = b"" if labels is None else np.ascontiguousarray(labels).tobytes()
    key = [_key(path, config), hashlib.sha256(content + division.rows.tobytes()).hexdigest()]
    limits: str | None = None
    if len(images.shape) == 2:
        pixels: Any = images
        text = "vectors of {} numbers (rows that are images need {image_shape} H,W,C)"
        notes.append(Message(text, images.shape[1]))
    else:
        rows = training_rows(len(images), labels, train, config)
        pixels, limits, range_notes = _bytes(images, path, rows, config, cache.key_of(*key))
        notes += range_notes
    return Dataset(
        path.name,
        *("all", pixels, labels, division.class_names),
        notes=tuple(notes),
        pixel_range=limits,
        train=train,
        key=cache.key_of(*key, limits),
    )


def _bytes(
    images: np.ndarray | Lazy, path: Path, train: np.ndarray, config: DataConfig, key: str
) -> tuple[Any, str | None, list[str]]:
    """Convert pixels of any dtype: (uint8, value range, notes); ``key`` identifies them in the cache."""
    scale = pixel_range.scale_of(config.pixel_range)
    if images.dtype == np.uint8 and not isinstance(scale, tuple):
        return images, None, []
    if images.dtype == np.bool_:
        return _converted(images, key, lambda block: block.astype(np.uint8) * np.uint8(255)), None, []
    if images.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {images.dtype}; images are whole numbers or floats")
    low, high, trained, missing = np.inf, -np.inf, (np.inf, -np.inf), 0
    for start in range(0, len(images), 256):
        block, chosen = images[start : start + 256], train[start : start + 256]
        if isinstance(scale, tuple) and not (finite := np.isfinite(block)).all():
            missing, block, chosen = missing + int((~finite).sum()), block[finite], np.zeros(0, bool)
        extent = pixel_range.extent(block, str(path))
        low, high = min(low, extent[0]), max(high, extent[1])
        if chosen.any():
            extent = pixel_range.extent(block[chosen], str(path))
            trained = min(trained[0], extent[0]), max(trained[1], extent[1])
    if scale == "auto":
        scale = pixel_range.of_training(*trained, floats=images.dtype.kind == "f")
    elif scale == "full":
        scale = pixel_range.full_of(np.array([low, high], images.dtype), str(path))
    limits = scale
    notes = [pixel_range.described(f"{images.dtype.name} pixels", limits, config.pixel_range)]
    if low < limits[0] or high > limits[1]:
        notes.append(f"pixels go from {low:.6g} to {high:.6g}: values outside this range are clipped")
    if missing:
        notes.append(f"{missing} values: {pixel_range.NOTES['nan']}")
    pixels = _converted(images, cache.key_of(key, limits), lambda block: pixel_range.to_bytes(block, limits))
    if config.pixel_range == "auto":
        pixel_range.check_contrast(str(path), pixels, train, limits, lambda rows: (images[row] for row in rows))
    return pixels, pixel_range.text_of(limits), notes


def _converted(array: np.ndarray | Lazy, key: str, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Convert ``array`` to uint8, one slice at a time; on disk if it is large."""

    def fill(put: cache.Put) -> None:
        for start in range(0, len(array), 256):
            put(start, convert(array[start : start + 256]))

    if math.prod(array.shape) <= _IN_MEMORY:
        return cache.in_memory(array.shape, fill)
    return cache.find_or_store(key, array.shape, fill)


# ---- which array is what


def _parts(path: Path, arrays: Arrays) -> tuple[dict[Role | None, tuple[str, str | None]], list[str]]:
    """Split → (images, labels), or those of the undivided data; and notes on the other arrays."""
    images, labels = (_by_role(arrays, words) for words in (_IMAGES, _LABELS))
    if None not in images and not ("train" in images and len(images) > 1):
        names = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path} needs the arrays images (and labels), or x_train and x_test; it holds {names}")
    splits = [None] if None in images else [role for role in ROLES if role in images]
    parts = {role: (images[role], labels.get(role)) for role in splits}
    used = {name for pair in parts.values() for name in pair}
    without = [name for name, its_labels in parts.values() if its_labels is None]
    unknown = sorted(name for name in arrays if _meaning(name) is None)
    if unknown and 0 < len(without) < len(parts):
        raise InputError(
            f"{path} has no labels of {shorten(without)}; rename them if they are among {shorten(unknown)}"
        )
    unused = sorted(set(arrays) - used)
    return parts, [f"unused arrays in {path.name}: {shorten(unused, 8)}"] if unused else []


def _by_role(arrays: Arrays, words: Sequence[str]) -> dict[Role | None, str]:
    """The array of each split whose name has one of these words, in order of precedence."""
    meanings = {name: meaning for name in sorted(arrays) if (meaning := _meaning(name)) is not None}
    by_role: dict[Role | None, str] = {}
    for word in words:
        for name, (role, called) in meanings.items():
            if called == word:
                by_role.setdefault(role, name)
    return by_role


def _meaning(name: str) -> tuple[Role | None, str] | None:
    """(split, word) of a name like ``x_train``, ``train_images``, ``Xtest``, ``labels``; None if it has neither."""
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


# ---- which axis is what

_ORDERS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "NHW": ("", lambda array: array[..., None]),
    "HWC": ("(H, W, C) of one image", lambda array: array[None]),
    "CHW": ("(C, H, W) of one image", lambda array: np.moveaxis(array, 0, -1)[None]),
    "NHWC": ("", lambda array: array),
    "NCHW": ("(N, C, H, W)", lambda array: np.moveaxis(array, 1, -1)),
    "HWCN": ("(H, W, C, N)", lambda array: np.moveaxis(array, -1, 0)),
}
"""Order of the axes → (its name if it is unusual, a function to the view (N, H, W, C))."""


def _as_images(array: np.ndarray, where: str, setting: str | None) -> tuple[np.ndarray, str]:
    """A view of shape (N, H, W, C), and a note on how it was obtained, which may be empty.

    ``setting`` is ``image_shape``, with which (N, H·W·C) is accepted too.
    """
    shape = tuple(array.shape)
    if array.ndim and array.size == 0:
        raise InputError(f"{where} is not an array of images: its shape is {shape}")
    if setting is not None:
        return _as_given(array, where, image_shape(setting), setting), ""
    orders = _orders(shape)
    if len(orders) == 1:
        unusual, view = _ORDERS[orders[0]]
        return view(array), f"the axes of {where} are read as {unusual}" if unusual else ""
    if not orders:
        raise InputError(
            "{} has the shape {}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3), or have the channels first{}",
            *(where, shape, _flat_hint(shape[1]) if array.ndim == 2 else ""),
        )
    ways = []
    for order in orders:
        count, height, width, channels = _ORDERS[order][1](array).shape
        given = (channels, height, width) if order in ("NCHW", "CHW") else (height, width, channels)
        images = f"{count} images" if count > 1 else "one image"
        ways.append(f"{images} of {height}x{width}x{channels} ({','.join(map(str, given))})")
    raise InputError("{} has the shape {}, which can be {}: choose with {image_shape}", where, shape, " or ".join(ways))


def _orders(shape: tuple[int, ...]) -> list[str]:
    if len(shape) == 3:
        single = ["HWC"] if shape[2] in _CHANNELS and shape[:2] != (1, 1) else []
        return ["NHW", *single, *(["CHW"] if shape[0] == 3 and shape[2] not in _CHANNELS else [])]
    if len(shape) != 4 or shape[1:] == (1, 1, 1):
        return ["NHWC"] if len(shape) == 4 else []
    orders = [name for name, axis in (("NHWC", 3), ("NCHW", 1), ("HWCN", 2)) if shape[axis] in _CHANNELS]
    return [order for order in orders if order != "HWCN" or len(orders) == 1]


def _as_given(array: np.ndarray, where: str, shape: tuple[int, int, int], setting: str) -> np.ndarray:
    """Interpret the array by the shape of one image: as rows of images, or as an array of images."""
    plain = shape[:2] if shape[2] == 1 else shape
    whole, rows = tuple(array.shape), tuple(array.shape[1:])
    if not (whole in (shape, plain) or rows in (shape, plain) or rows == (math.prod(shape),)):
        raise InputError("{} has the shape {}, which does not fit {image_shape} {}", where, whole, setting)
    images = array.reshape(1 if whole in (shape, plain) else len(array), *shape)
    return images if shape[2] in _CHANNELS else np.moveaxis(images, 1, -1)


def _flat_hint(columns: int) -> str:
    sides = ((math.isqrt(columns // channels), channels) for channels in _CHANNELS)
    shape = next(
        (f"{side},{side},{channels}" for side, channels in sides if side * side * channels == columns), "H,W,C"
    )
    return Message("; if its rows are images, give {image_shape} {}", shape)


# ---- the files

_IDX = re.compile(r"(?P<set>.*?)(?P<kind>images?|labels?)?[-._]idx\d?(?:-[a-z0-9]+)?(?:\.gz)?", re.IGNORECASE)
"""Matches ``train-images-idx3-ubyte``, ``emnist-letters-test-labels-idx1-ubyte.gz``, ``images.idx``."""


def is_array(path: Path) -> bool:
    """Whether ``path`` is a file of arrays, or a folder with only idx files and documents."""
    if not path.is_dir():
        return path.name.lower().endswith(ENDINGS) or _IDX.fullmatch(path.name) is not None
    try:
        with os.scandir(path) as entries:  # stops at the first image of a large folder
            names = (entry.name for entry in entries if not (entry.name.startswith(".") or is_document(entry.name)))
            first = next(names, None)
            return first is not None and _IDX.fullmatch(first) is not None and all(map(_IDX.fullmatch, names))
    except OSError:
        return False


def _idx_files(path: Path) -> list[Path]:
    folder = path if path.is_dir() else path.parent
    return sorted(file for file in folder.iterdir() if _IDX.fullmatch(file.name) and not file.is_dir())


def _idx(path: Path) -> Arrays:
    """The arrays of related idx files: those in the folder ``path``, or those that belong to the file ``path``.

    The labels and the other split of a file are next to it and identified by name.
    """
    sets: dict[str, dict[str, Path]] = {}
    for file in reversed(_idx_files(path)):  # unpacked files take precedence over .gz
        match = _IDX.fullmatch(file.name)
        if match is None or (not path.is_dir() and match["kind"] is None and file != path):
            continue
        words = [word for word in re.split(r"[-._]+", match["set"].lower().replace("t10k", "test")) if word]
        roles = [word for word in words if role_of(word) is not None]
        role = role_of(roles[0]) if len(roles) == 1 else None
        kind = "labels" if (match["kind"] or "").lower().startswith("label") else "images"
        rest = " ".join(word for word in words if word not in roles or role is None)
        part = kind if role is None else f"{kind}_{role}"
        other = sets.setdefault(rest, {}).get(part, file)
        if _unpacked_name(other) != _unpacked_name(file):
            raise InputError(f"{path}: {other.name} and {file.name} are the same part of one set; remove one of them")
        sets[rest][part] = file
    if path.is_dir():
        if len(sets) > 1:
            names = shorten(sorted(sets))
            raise InputError(f"{path} contains several sets of idx files, {names}: give the path of one file")
        (chosen,) = sets.values()
    else:
        given = _unpacked_name(path)
        chosen = next(files for files in sets.values() if given in map(_unpacked_name, files.values()))
    if not any(name.startswith("images") for name in chosen):
        raise InputError(f"{path} holds labels, but there are no images next to it")
    if sum(name.startswith("images_") for name in chosen) == 1:  # a single split is treated as undivided data
        chosen = {name.partition("_")[0]: file for name, file in chosen.items()}
    return {name: partial(_idx_array, file) for name, file in chosen.items()}


def _unpacked_name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _idx_array(path: Path) -> np.ndarray:
    packed = regular(path).suffix == ".gz"
    with reading(path, "an idx file"), gzip.open(path) if packed else open(path, "rb") as file:
        return read_idx(file, path.stat().st_size, str(path))


def _npy(path: Path) -> Arrays:
    """The memory-mapped images, and ``NAME.labels.npy`` if it exists."""
    labels = path.with_name(f"{path.stem}.labels.npy")
    files = {"images": path} | ({"labels": labels} if os.path.lexists(labels) else {})
    return {name: partial(npy.map_file, regular(file)) for name, file in files.items()}


def _npz(path: Path) -> Arrays:
    with reading(path, "an .npz file"), zipfile.ZipFile(regular(path)) as archive:
        infos = archive.infolist()
    check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
    by_name = {info.filename.removesuffix(".npy"): info for info in infos}
    return {name: partial(_npz_array, path, name, info) for name, info in by_name.items()}


def _npz_array(path: Path, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    with reading(f"{path}: {name}", "an .npz file"), zipfile.ZipFile(path) as archive, archive.open(info) as file:
        return npy.read_array(file, f"{path}: {name}", info.file_size)


def _mat(path: Path) -> Arrays:
    with reading(path, "an .mat file"):
        content = matlab.read(path, regular(path).read_bytes())
    return {name: partial(_real, path, name, array) for name, array in content.items()}


def _real(path: Path, name: str, array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise InputError(f"{path}: {name} is not an array of real numbers")
    return array


def _key(path: Path, config: DataConfig) -> str:
    """A cache key from the status of image files, which are too large to hash."""
    paths = [path] if path.name.lower().endswith(ENDINGS) and not path.is_dir() else _idx_files(path)
    files = cache.Files()
    for file in paths:
        files.add(file.name, file)
    return cache.key_of("array", str(path.resolve()), files.status.tolist(), config.image_shape)
