"""Arrays of images or vectors: .npz, .npy with labels next to it, .mat in SVHN's layout, and MNIST's idx files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from softvq_cli import npy
from softvq_cli.config import DataConfig, image_shape
from softvq_cli.datasets import cache, limits, pixel_range, vectors
from softvq_cli.datasets.dataset import Dataset, training_rows
from softvq_cli.datasets.labels import distinct, numbered, unlabelled
from softvq_cli.datasets.named import idx_header, read_idx
from softvq_cli.datasets.naming import Role, is_document, role_of, shorten
from softvq_cli.datasets.records import second_split
from softvq_cli.errors import InputError, Message, one_line

ENDINGS = (".npz", ".npy", ".mat")
_IN_MEMORY = 1 << 30
_IMAGES = ("images", "image", "x", "data", "vectors", "embeddings", "embedding", "features", "z", "arr_0")
_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
"""What the arrays are called, those that win first."""
_CHANNELS = (1, 3)
_AXES = {
    "NCHW": "(N, C, H, W)",
    "HWCN": "(H, W, C, N)",
    "CHW": "(C, H, W) of one image",
    "HWC": "(H, W, C) of one image",
}


def read(path: Path, config: DataConfig) -> Dataset:
    """Images, labels and splits of an array file.

    Raises:
        InputError: the file is damaged, is a bomb, or holds something else.
    """
    suffix = path.suffix.lower()
    arrays: Mapping[str, Callable[[], np.ndarray]] = (
        _npy(path)
        if suffix == ".npy"
        else _npz(path)
        if suffix == ".npz"
        else _mat(path)
        if suffix == ".mat"
        else _idx(path)
    )
    parts, unused, notes = _parts(path, arrays)
    notes += [f"arrays of {path.name} that are not used: {shorten(unused, 8)}"] if unused else []
    read_parts = []
    for part in parts:
        images, labels = arrays[part.images](), None if part.labels is None else arrays[part.labels]()
        if vectors.are_vectors(images, config):
            read_parts.append((vectors.checked(images, f"{path}: {part.images}"), labels))
            continue
        where = f"{path}: {part.images}" if suffix != ".npy" else str(path)
        count = None if labels is None else _label_count(labels)
        images, note = _as_images(images, where, config.image_shape, count)
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
) -> Dataset:
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
    if len(images.shape) == 2:
        whole = images[:] if isinstance(images, _Joined) else images
        notes.append(vectors.note_of(whole))
        return Dataset(path.name, "all", whole, labels, names, notes=tuple(notes), train=train)
    mask = training_rows(sum(counts), labels, train, config)
    kept, chosen, note = _bytes(images, path, mask, config)
    notes += note
    content = b"" if labels is None else np.ascontiguousarray(labels).tobytes()
    key = cache.key_of(_key(path, config), chosen, hashlib.sha256(content).hexdigest())
    return Dataset(path.name, "all", kept, labels, names, notes=tuple(notes), pixel_range=chosen, train=train, key=key)


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
        found = pixel_range.extent(block, str(path))
        low, high = min(low, found[0]), max(high, found[1])
        if chosen.any():
            found = pixel_range.extent(block[chosen], str(path))
            trained = min(trained[0], found[0]), max(trained[1], found[1])
    if scale == "auto":
        scale = pixel_range.of_training(*trained, floats=images.dtype.kind == "f")
    elif scale == "full":
        scale = pixel_range.full_of(np.array([low, high], images.dtype), str(path))
    kind = f"{images.dtype.name} pixels"
    notes = [pixel_range.described(kind, scale, config.pixel_range)]
    if low < scale[0] or high > scale[1]:
        notes.append(f"pixels go from {low:.6g} to {high:.6g}: what lies outside of that range is cut off")
    if missing:
        notes.append(f"{missing} values: {pixel_range.NOTES['nan']}")
    key = cache.key_of(_key(path, config), scale)
    result = _converted(images, key, lambda block: pixel_range.to_bytes(block, scale))
    if config.pixel_range == "auto":
        pixel_range.check_contrast(str(path), result, train, scale)
    return result, pixel_range.text_of(scale), notes


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


# ---- which axis is what


def _as_images(array: np.ndarray, where: str, setting: str | None, labels: int | None) -> tuple[np.ndarray, str]:
    """A view of (N, H, W, C), and a line on what was done to get it, perhaps empty.

    Args:
        array: (N, H, W), (N, H, W, C), (N, C, H, W), with labels (H, W, C, N), or with ``setting`` (N, H·W·C).
        where: what to call it.
        setting: ``image_shape``, the shape of one image.
        labels: how many labels go with it.

    Raises:
        InputError: it is no array of images, or may be one in two ways.
    """
    if array.ndim and array.size == 0:
        raise InputError(f"{where} holds no images: its shape is {array.shape}")
    if setting is not None:
        return _as_given(array, where, image_shape(setting), setting)
    ways = {order: _reshaped(array, order) for order in _orders(array, labels)}
    if len(ways) == 1:
        ((order, images),) = ways.items()
        return images, "" if order in ("NHW", "NHWC") else f"the axes of {where} are taken as {_AXES[order]}"
    shape = tuple(array.shape)
    if ways:
        text = " or ".join(_way(order, images) for order, images in ways.items())
        raise InputError("{} has the shape {}, which may be {}: say which with {image_shape}", where, shape, text)
    raise InputError(
        "{} has the shape {}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3), or with the channels first{}",
        *(where, shape, _flat_hint(array.shape[1]) if array.ndim == 2 else ""),
    )


def _label_count(labels: np.ndarray) -> int | None:
    """How many images these labels are for, where that is certain."""
    sizes = [size for size in labels.shape if size > 1]
    return math.prod(sizes) if len(sizes) <= 1 and labels.ndim in (1, 2) else None


def _way(order: str, images: np.ndarray) -> str:
    """One of several things that a shape may be, and how to say so."""
    height, width, channels = images.shape[1:]
    setting = (channels, height, width) if order in ("NCHW", "CHW") else (height, width, channels)
    count = f"{len(images)} images" if len(images) > 1 else "one image"
    return f"{count} of {height}x{width}x{channels} ({','.join(map(str, setting))})"


def _orders(array: np.ndarray, labels: int | None) -> list[str]:
    """The orders of axes that this shape may have."""
    shape = array.shape
    if array.ndim == 3:
        orders = ["NHW"]
        if shape[2] in _CHANNELS and shape[:2] != (1, 1):
            orders.append("HWC")
        if shape[0] == 3 and shape[2] not in _CHANNELS:
            orders.append("CHW")
        count = {"NHW": shape[0], "HWC": 1, "CHW": 1}
    elif array.ndim == 4:
        orders = [name for name, axis in (("NHWC", 3), ("NCHW", 1), ("HWCN", 2)) if shape[axis] in _CHANNELS]
        count = {"NHWC": shape[0], "NCHW": shape[0], "HWCN": shape[3]}
        if labels is None and len(orders) > 1 and "HWCN" in orders:
            orders.remove("HWCN")  # only labels can tell that the images come last
        if {"NHWC", "NCHW"} <= set(orders) and shape[1] == 1 and shape[2:] == (1, 1):
            orders.remove("NCHW")
    else:
        return []
    return [name for name in orders if count[name] == labels] or orders


def _reshaped(array: np.ndarray, order: str) -> np.ndarray:
    """(N, H, W, C)."""
    if order == "NHW":
        return array[..., None]
    if order in ("HWC", "CHW"):
        return (array if order == "HWC" else np.moveaxis(array, 0, -1))[None]
    return {"NHWC": array, "NCHW": np.moveaxis(array, 1, -1), "HWCN": np.moveaxis(array, -1, 0)}[order]


def _as_given(array: np.ndarray, where: str, shape: tuple[int, int, int], setting: str) -> tuple[np.ndarray, str]:
    """By the shape of one image: rows of it, or the array as it stands."""
    channels_first = shape[2] not in _CHANNELS
    plain = shape[:2] if shape[2] == 1 else shape
    if array.ndim == 2 and array.shape[1] == math.prod(shape):
        array = array.reshape(len(array), *shape)
    elif tuple(array.shape) in (shape, plain):
        array = array.reshape(1, *shape)
    elif tuple(array.shape[1:]) in (shape, plain):
        array = array.reshape(len(array), *shape)
    else:
        raise InputError("{} has the shape {}, which does not fit {image_shape} {}", where, tuple(array.shape), setting)
    return np.moveaxis(array, 1, -1) if channels_first else array, ""


def _flat_hint(columns: int) -> str:
    """What rows of so many numbers may be."""
    for channels in (1, 3):
        side = math.isqrt(columns // channels)
        if side * side * channels == columns:
            colour = f"{side},{side},3, or 3,{side},{side} where the channels come first"
            return Message(
                "; if its rows are images, {image_shape} {}", f"{side},{side},1" if channels == 1 else colour
            )
    return Message("; if its rows are images, say which with {image_shape} H,W,C")


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


def _idx(path: Path) -> dict[str, Callable[[], np.ndarray]]:
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
            raise InputError(f"{path} holds several sets of idx files, {shorten(sorted(sets))}: give a file of one")
        (chosen,) = sets.values()
    else:
        given = _unpacked_name(path)
        chosen = next(files for files in sets.values() if given in map(_unpacked_name, files.values()))
    if not any(name.startswith("images") for name in chosen):
        raise InputError(f"{path} holds labels, and there are no images next to it")
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
            limits.check_expansion(path, path.stat().st_size, size)
            if path.suffix != ".gz" and path.stat().st_size != len(start) + size:
                size = 0  # it is damaged, which is found below without reading it
            return read_idx(start + file.read(size + 1), str(path), "")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except (EOFError, zlib.error, MemoryError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from error


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
    files = [path] if not path.is_dir() and path.name.lower().endswith(ENDINGS) else []
    folder = path if path.is_dir() else path.parent
    files = files or sorted(file for file in folder.iterdir() if _IDX.fullmatch(file.name))
    stamps = [cache.File.at("", file).status for file in files]
    return cache.key_of("array", str(path.resolve()), stamps, config.image_shape)
