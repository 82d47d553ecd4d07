"""Arrays of images or vectors: .npz, .npy with labels next to it, .mat in SVHN's layout, and MNIST's idx files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from softvq_cli import npy
from softvq_cli.config import DataConfig, image_shape
from softvq_cli.datasets import cache, pixel_range, vectors
from softvq_cli.datasets.dataset import Dataset, training_rows
from softvq_cli.datasets.named import idx_header, read_idx
from softvq_cli.datasets.naming import Role, check_expansion, is_document, role_of, shorten
from softvq_cli.datasets.records import distinct_labels, numbered, second_split, unlabelled
from softvq_cli.errors import InputError, Message, one_line

ENDINGS = (".npz", ".npy", ".mat")
_IN_MEMORY = 1 << 30
_IMAGES = ("images", "image", "x", "data", "vectors", "embeddings", "embedding", "features", "z", "arr_0")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
"""What the arrays are called, those that win first."""
_CHANNELS = (1, 3)
Arrays = Mapping[str, Callable[[], np.ndarray]]
"""The arrays of a file by name, each read when it is asked for."""


@dataclass(frozen=True)
class _Part:
    """The arrays of one split."""

    role: Role | None
    name: str
    """Of the images in the file."""
    images: np.ndarray
    labels: np.ndarray | None
    labels_name: str | None


def read(path: Path, config: DataConfig) -> Dataset:
    """Images or vectors, labels and splits of an array file."""
    arrays: Arrays = {".npy": _npy, ".npz": _npz, ".mat": _mat}.get(path.suffix.lower(), _idx)(path)
    names, unused, notes = _parts(path, arrays)
    notes += [f"unused arrays in {path.name}: {shorten(unused, 8)}"] if unused else []
    parts = []
    for role, name, labels_name in names:
        images, labels = arrays[name](), None if labels_name is None else arrays[labels_name]()
        where = str(path) if path.suffix.lower() == ".npy" else f"{path}: {name}"
        if vectors.are_vectors(images, config):
            images = vectors.checked(images, where)
        else:
            images, note = _as_images(images, where, config.image_shape, _label_count(labels))
            notes += [note] if note and note not in notes else []
        parts.append(_Part(role, name, images, labels, labels_name))
    return _joined(path, parts, notes, config)


def _joined(path: Path, parts: list[_Part], notes: list[str], config: DataConfig) -> Dataset:
    """The training and the test split as one data set."""
    first = parts[0]
    for part in parts[1:]:
        if part.images.shape[1:] != first.images.shape[1:]:
            raise InputError(
                f"{path}: {first.name} has images of {first.images.shape[1:]}, "
                f"{part.name} has images of {part.images.shape[1:]}"
            )
    train = len(first.images) if len(parts) == 2 else None
    given = [(part.labels, len(part.images), f"{path}: {part.labels_name}", part.role) for part in parts]
    labels, names, label_notes = numbered(given, path.suffix == ".mat" and first.images.shape[1:] == (32, 32, 3))
    notes += label_notes
    images = first.images if train is None else _Joined([part.images for part in parts])
    content = b"" if labels is None else np.ascontiguousarray(labels).tobytes()
    stamp = [_key(path, config), hashlib.sha256(content).hexdigest()]
    if len(images.shape) == 2:
        pixels, limits = images[:] if isinstance(images, _Joined) else images, None
        notes.append(vectors.note_of(pixels))
    else:
        in_train = training_rows(len(images), labels, train, config)
        pixels, limits, range_notes = _bytes(images, path, in_train, config)
        notes += range_notes
    key = cache.key_of(*stamp, limits)
    return Dataset(
        path.name, "all", pixels, labels, names, notes=tuple(notes), pixel_range=limits, train=train, key=key
    )


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
    scale = pixel_range.scale_of(config.pixel_range)
    if images.dtype == np.uint8 and not isinstance(scale, tuple):
        return images[:] if isinstance(images, _Joined) else images, None, []
    if images.dtype == np.bool_:
        return _converted(images, _key(path, config), lambda block: block.astype(np.uint8) * np.uint8(255)), None, []
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
    key = cache.key_of(_key(path, config), limits)
    pixels = _converted(images, key, lambda block: pixel_range.to_bytes(block, limits))
    if config.pixel_range == "auto":
        pixel_range.check_contrast(str(path), pixels, train, limits)
    return pixels, pixel_range.text_of(limits), notes


def _converted(array: np.ndarray | _Joined, key: str, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``array`` as uint8, a slice at a time; on disk if it is large."""

    def fill(put: cache.Put) -> None:
        for start in range(0, len(array), 256):
            put(start, convert(array[start : start + 256]))

    if math.prod(array.shape) <= _IN_MEMORY:
        return cache.in_memory(array.shape, fill)
    return cache.find_or_store(key, array.shape, fill)


# ---- which array is what


def _parts(path: Path, arrays: Arrays) -> tuple[list[tuple[Role | None, str, str | None]], list[str], list[str]]:
    """(split, images, labels) of the training and the test split, or of the undivided whole; unused arrays; notes."""
    images, labels = (_by_role(arrays, words) for words in (_IMAGES, _LABELS))
    notes: list[str] = []
    if None in images:
        chosen: list[Role | None] = [None]
    elif "train" in images and len(images) > 1:
        marks = {role: distinct_labels(arrays[labels[role]]()) if role in labels else [] for role in images}
        second, notes = second_split([role for role in images if role is not None], unlabelled(marks))
        chosen = ["train", second]
    else:
        held = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path} needs the arrays images (and labels), or x_train and x_test; it holds {held}")
    parts = [(role, images[role], labels.get(role)) for role in chosen]
    with_labels = [name for _, _, name in parts if name is not None]
    unknown = shorten(sorted(name for name in arrays if _meaning(name) is None))
    if unknown and 0 < len(with_labels) < len(parts):
        other = " and ".join(f"labels of {name}" for _, name, label in parts if label is None)
        raise InputError(f"{path} has {with_labels[0]} but no {other}; rename them if they are among {unknown}")
    unused = set(arrays) - {name for _, *part in parts for name in part}
    return parts, sorted(unused), notes


def _by_role(arrays: Arrays, words: Sequence[str]) -> dict[Role | None, str]:
    """The array of each split that is called by one of these words, the first of them that there is."""
    meanings = {name: meaning for name in sorted(arrays) if (meaning := _meaning(name)) is not None}
    by_role: dict[Role | None, str] = {}
    for word in words:
        for name, (role, called) in meanings.items():
            if called == word:
                by_role.setdefault(role, name)
    return by_role


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


# ---- which axis is what


_ORDERS: dict[str, tuple[int | None, str, Callable[[np.ndarray], np.ndarray]]] = {
    "NHW": (0, "", lambda array: array[..., None]),
    "HWC": (None, "(H, W, C) of one image", lambda array: array[None]),
    "CHW": (None, "(C, H, W) of one image", lambda array: np.moveaxis(array, 0, -1)[None]),
    "NHWC": (0, "", lambda array: array),
    "NCHW": (0, "(N, C, H, W)", lambda array: np.moveaxis(array, 1, -1)),
    "HWCN": (3, "(H, W, C, N)", lambda array: np.moveaxis(array, -1, 0)),
}
"""Order of the axes → (which counts the images, what to call it if it is not the usual one, the view (N, H, W, C))."""


def _as_images(array: np.ndarray, where: str, setting: str | None, labels: int | None) -> tuple[np.ndarray, str]:
    """A view of (N, H, W, C), and a line on what was done to get it, perhaps empty.

    ``setting`` is ``image_shape``, with which (N, H·W·C) are images too; ``labels`` says how many labels go with it.
    """
    if array.ndim and array.size == 0:
        raise InputError(f"{where} is not an array of images: its shape is {array.shape}")
    if setting is not None:
        return _as_given(array, where, image_shape(setting), setting), ""
    ways = {order: _ORDERS[order][2](array) for order in _orders(array, labels)}
    if len(ways) == 1:
        ((order, images),) = ways.items()
        said = _ORDERS[order][1]
        return images, f"the axes of {where} are read as {said}" if said else ""
    shape = tuple(array.shape)
    if ways:
        text = " or ".join(_way(order, images) for order, images in ways.items())
        raise InputError("{} has the shape {}, which can be {}: choose with {image_shape}", where, shape, text)
    raise InputError(
        "{} has the shape {}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3), or have the channels first{}",
        *(where, shape, _flat_hint(array.shape[1]) if array.ndim == 2 else ""),
    )


def _label_count(labels: np.ndarray | None) -> int | None:
    """How many images these labels are for, where that is certain."""
    if labels is None or labels.ndim not in (1, 2):
        return None
    sizes = [size for size in labels.shape if size > 1]
    return math.prod(sizes) if len(sizes) <= 1 else None


def _way(order: str, images: np.ndarray) -> str:
    """One of several things that a shape may be, and how to say so."""
    height, width, channels = images.shape[1:]
    setting = (channels, height, width) if order in ("NCHW", "CHW") else (height, width, channels)
    count = f"{len(images)} images" if len(images) > 1 else "one image"
    return f"{count} of {height}x{width}x{channels} ({','.join(map(str, setting))})"


def _orders(array: np.ndarray, labels: int | None) -> list[str]:
    """The orders of axes that this shape may have."""
    shape, orders = array.shape, []
    if array.ndim == 3:
        orders = ["NHW"]
        if shape[2] in _CHANNELS and shape[:2] != (1, 1):
            orders.append("HWC")
        if shape[0] == 3 and shape[2] not in _CHANNELS:
            orders.append("CHW")
    elif array.ndim == 4:
        orders = [name for name, axis in (("NHWC", 3), ("NCHW", 1), ("HWCN", 2)) if shape[axis] in _CHANNELS]
        if labels is None and len(orders) > 1 and "HWCN" in orders:
            orders.remove("HWCN")  # only labels can tell that the images come last
        if {"NHWC", "NCHW"} <= set(orders) and shape[1:] == (1, 1, 1):
            orders.remove("NCHW")
    counts = {order: 1 if (axis := _ORDERS[order][0]) is None else shape[axis] for order in orders}
    return [order for order in orders if counts[order] == labels] or orders


def _as_given(array: np.ndarray, where: str, shape: tuple[int, int, int], setting: str) -> np.ndarray:
    """By the shape of one image: rows of it, or the array as it stands."""
    plain = shape[:2] if shape[2] == 1 else shape
    whole, rows = tuple(array.shape), tuple(array.shape[1:])
    if not (whole in (shape, plain) or rows in (shape, plain) or rows == (math.prod(shape),)):
        raise InputError("{} has the shape {}, which does not fit {image_shape} {}", where, whole, setting)
    images = array.reshape(1 if whole in (shape, plain) else len(array), *shape)
    return images if shape[2] in _CHANNELS else np.moveaxis(images, 1, -1)


def _flat_hint(columns: int) -> str:
    """What rows of so many numbers may be."""
    shape = "H,W,C"
    for channels in _CHANNELS:
        side = math.isqrt(columns // channels)
        if side * side * channels == columns:
            first = "" if channels == 1 else f", or {channels},{side},{side} where the channels come first"
            shape = f"{side},{side},{channels}{first}"
            break
    return Message("; if its rows are images, give {image_shape} {}", shape)


# ---- the files

_IDX = re.compile(r"(?P<set>.*?)(?P<kind>images?|labels?)?[-._]idx\d?(?:-[a-z0-9]+)?(?:\.gz)?", re.IGNORECASE)
"""``train-images-idx3-ubyte``, ``emnist-letters-test-labels-idx1-ubyte.gz``, ``images.idx``."""


def is_array(path: Path) -> bool:
    """Whether this is a file of arrays, or a folder that holds nothing but idx files and documents."""
    if not path.is_dir():
        return path.name.lower().endswith(ENDINGS) or _IDX.fullmatch(path.name) is not None
    try:
        names = [name for name in os.listdir(path) if not name.startswith(".") and not is_document(name)]
    except OSError:
        return False
    return bool(names) and all(_IDX.fullmatch(name) for name in names)


def _idx(path: Path) -> Arrays:
    """The arrays of the idx files that belong together: those of ``path``, a folder, or of the set of ``path``, a file.

    A file has its labels and the other split next to it, by its name.
    """
    folder = path if path.is_dir() else path.parent
    sets: dict[str, dict[str, Path]] = {}
    for name in sorted(os.listdir(folder), reverse=True):  # what is unpacked wins over a .gz
        match = _IDX.fullmatch(name)
        if match is None or (not path.is_dir() and match["kind"] is None and name != path.name):
            continue
        words = [word for word in re.split(r"[-._]+", match["set"]) if word]
        roles = [word for word in words if word.lower() == "t10k" or role_of(word) is not None]
        role = None if len(roles) != 1 else "test" if roles[0].lower() == "t10k" else role_of(roles[0])
        kind = "labels" if (match["kind"] or "images").lower().startswith("label") else "images"
        rest = " ".join(word for word in words if word not in roles or role is None)
        sets.setdefault(rest, {})[kind if role is None else f"{kind}_{role}"] = folder / name
    if path.is_dir():
        if len(sets) > 1:
            raise InputError(
                f"{path} contains several sets of idx files, {shorten(sorted(sets))}: give the path of one file"
            )
        (chosen,) = sets.values()
    else:
        given = _unpacked_name(path)
        chosen = next(files for files in sets.values() if given in map(_unpacked_name, files.values()))
    if not any(name.startswith("images") for name in chosen):
        raise InputError(f"{path} holds labels, but there are no images next to it")
    if sum(name.startswith("images_") for name in chosen) == 1:  # one split alone is the whole
        chosen = {name.partition("_")[0]: file for name, file in chosen.items()}
    return {name: partial(_idx_array, file) for name, file in chosen.items()}


def _unpacked_name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _idx_array(path: Path) -> np.ndarray:
    """The array in an idx file; its size is compared with what its header says before it is unpacked."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            start = file.read(4)
            start += file.read(4 * start[3]) if len(start) == 4 else b""
            header = idx_header(start)
            size = 0 if header is None else math.prod(header[1]) * header[0].itemsize
            check_expansion(path, path.stat().st_size, size)
            if path.suffix != ".gz" and path.stat().st_size != len(start) + size:
                size = 0  # it is damaged, which is found below without reading it
            return read_idx(start + file.read(size + 1), str(path), "")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except (EOFError, zlib.error, MemoryError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from error


def _npy(path: Path) -> Arrays:
    """The images, mapped, and ``NAME.labels.npy`` if it is there."""
    labels = path.with_name(f"{path.stem}.labels.npy")
    files = {"images": path} | ({"labels": labels} if labels.exists() else {})
    return {name: partial(npy.map_file, file) for name, file in files.items()}


def _npz(path: Path) -> Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises many kinds on damaged bytes
        raise InputError(f"{path} is damaged or not an .npz file: {one_line(error)}") from error
    check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
    by_name = {info.filename.removesuffix(".npy"): info for info in infos}
    return {name: partial(_npz_array, path, name, info) for name, info in by_name.items()}


def _npz_array(path: Path, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            return npy.read_array(file, f"{path}: {name}", info.file_size)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {name} is damaged: {one_line(error)}") from error


def _mat(path: Path) -> Arrays:
    """The arrays of a MATLAB file up to version 7."""
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"{path} has MATLAB's format 7.3; save it with -v7, or as .npz") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # scipy raises many kinds on damaged bytes
        raise InputError(f"{path} is damaged or not a .mat file: {one_line(error)}") from error
    return {name: partial(np.asarray, value) for name, value in content.items() if isinstance(value, np.ndarray)}


def _key(path: Path, config: DataConfig) -> str:
    files = [path] if not path.is_dir() and path.name.lower().endswith(ENDINGS) else []
    folder = path if path.is_dir() else path.parent
    files = files or sorted(file for file in folder.iterdir() if _IDX.fullmatch(file.name))
    stamps = [cache.File.at("", file).status for file in files]
    return cache.key_of("array", str(path.resolve()), stamps, config.image_shape)
