"""Images in NumPy's own files: .npz with ``images`` and ``labels`` (or Keras's names), .npy with labels beside it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from softvq_cli import npy
from softvq_cli.datasets import cache, limits
from softvq_cli.datasets.splits import Whole
from softvq_cli.errors import InputError, one_line

_IN_MEMORY = 1 << 30
_DIVIDED = ("x_train", "x_test")


def read_npy(path: Path) -> Whole:
    """Images (N, H, W) or (N, H, W, C) from NAME.npy, labels from NAME.labels.npy if that is there.

    Raises:
        InputError: a file is damaged, or holds something else.
    """
    labels_path = path.with_name(f"{path.stem}.labels.npy")
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    array = npy.map_file(path)
    if labels_path.exists():
        labels, names = _labels(npy.map_file(labels_path), len(array) if array.ndim else 0, str(labels_path))
    images, key = _images(array, str(path), _key(path, "npy"))
    return Whole(key, images, labels, names)


def read_npz(path: Path) -> Whole:
    """Images and labels from a .npz: ``images, labels``, ``x, y``, or ``x_train, y_train, x_test, y_test``.

    Raises:
        InputError: the file is damaged, is a bomb, or holds something else.
    """
    arrays = _Arrays(path)
    x, y = ("images", "labels") if "images" in arrays.names else ("x", "y")
    if x in arrays.names:
        images, key = _images(arrays.read(x), f"{path}: {x}", _key(path, x))
        if y not in arrays.names:
            return Whole(key, images, None)
        return Whole(key, images, *_labels(arrays.read(y), len(images), f"{path}: {y}"))
    if not set(_DIVIDED) <= arrays.names:
        found = ", ".join(sorted(arrays.names)[:8]) or "nothing"
        raise InputError(f"{path} needs the arrays images (and labels), or x_train and x_test; it holds {found}")
    return _divided(path, arrays)


def _divided(path: Path, arrays: _Arrays) -> Whole:
    """The Keras layout: x_train, x_test, perhaps y_train and y_test."""
    parts = [_images(arrays.read(name), f"{path}: {name}", _key(path, name))[0] for name in _DIVIDED]
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise InputError(f"{path}: x_train has images of {parts[0].shape[1:]}, x_test of {parts[1].shape[1:]}")
    counts = [len(part) for part in parts]
    key = _key(path, "divided")
    images = np.concatenate(parts)
    given = sorted(arrays.names & {"y_train", "y_test"})
    if not given:
        return Whole(key, images, None, train=counts[0])
    if len(given) == 1:
        raise InputError(f"{path} has {given[0]} alone; it needs both y_train and y_test, or none")
    values = [arrays.read(name) for name in ("y_train", "y_test")]
    for name, value, count in zip(("y_train", "y_test"), values, counts, strict=True):
        _check_labels(value, count, f"{path}: {name}")
    labels, names = _labels(np.concatenate([value.reshape(-1) for value in values]), len(images), f"{path}: labels")
    return Whole(key, images, labels, names, train=counts[0])


class _Arrays:
    """The arrays of a .npz by name, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # zipfile raises many kinds on damaged bytes
            raise InputError(f"{path} is damaged or no .npz file: {one_line(error)}") from error
        limits.check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
        self._infos = {info.filename.removesuffix(".npy"): info for info in infos}

    @property
    def names(self) -> set[str]:
        return set(self._infos)

    def read(self, name: str) -> np.ndarray:
        where, info = f"{self._path}: {name}", self._infos[name]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(info) as file:
                return npy.read_array(file, where, info.file_size)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{where} is damaged: {one_line(error)}") from error


def _images(array: np.ndarray, where: str, key: str) -> tuple[np.ndarray, str]:
    """(uint8 (N, H, W, C), key) from an array of pixels.

    Raises:
        InputError: the shape or the numbers are not those of images.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        hint = ""
        if array.ndim == 4 and array.shape[1] in (1, 3):
            hint = "; put the channels last: images.transpose(0, 2, 3, 1)"
        raise InputError(
            f"{where} has the shape {array.shape}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3){hint}"
        )
    if 0 in array.shape:
        raise InputError(f"{where} holds no images: its shape is {array.shape}")
    if array.dtype == np.uint8:
        return array, key
    if array.dtype == np.bool_:
        return _converted(array, key, lambda block: block.astype(np.uint8) * np.uint8(255)), key
    if array.dtype.kind == "f":
        return _converted(array, key, lambda block: _from_unit_range(block, where)), key
    raise InputError(f"{where} holds {array.dtype}; images are uint8 in 0..255, or floats in [0, 1]")


def _from_unit_range(block: np.ndarray, where: str) -> np.ndarray:
    low, high = float(block.min()), float(block.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN fails both
        raise InputError(f"{where} holds {low:.6g} to {high:.6g}; floats have to lie in [0, 1] without NaN")
    return np.rint(block.astype(np.float64) * 255.0).astype(np.uint8)


def _converted(array: np.ndarray, key: str, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``array`` as uint8, a slice at a time; on disk if it is large."""

    def fill(put: cache.Put) -> None:
        for start in range(0, len(array), 256):
            put(start, convert(array[start : start + 256]))

    if array.size > _IN_MEMORY:
        found = cache.find(key, array.shape)
        return cache.store(key, array.shape, fill) if found is None else found
    images = np.empty(array.shape, np.uint8)

    def put(row: int, pixels: np.ndarray) -> None:
        images[row : row + len(pixels)] = pixels

    fill(put)
    return images


def _check_labels(labels: np.ndarray, count: int, where: str) -> None:
    if labels.shape not in ((count,), (count, 1)):
        raise InputError(f"{where} has the shape {labels.shape}; {count} images need ({count},)")
    if labels.dtype.kind not in "iubU":
        raise InputError(f"{where} holds {labels.dtype}; labels are whole numbers or text")


def _labels(labels: np.ndarray, count: int, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(int64 (N,) in 0..k-1, the values as class names) from whole numbers or text."""
    _check_labels(labels, count, where)
    values, indices = np.unique(labels.reshape(-1), return_inverse=True)
    return indices.astype(np.int64).reshape(-1), tuple(str(value) for value in values)


def _key(path: Path, what: str) -> str:
    status = path.stat()
    return cache.key_of("array", os.path.abspath(path), status.st_size, status.st_mtime_ns, what)
