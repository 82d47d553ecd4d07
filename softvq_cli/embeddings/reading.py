"""Embedding files are mapped, not loaded, and checked: nothing in them is believed or executed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli import npy
from softvq_cli.config import RunConfig
from softvq_cli.embeddings import table
from softvq_cli.embeddings.files import FORMAT, VERSION, Embedding, first_row_not_finite, info_path, labels_path
from softvq_cli.errors import InputError, UsageError, shown
from softvq_cli.files import read_json


def read(
    path: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None, *, indices: bool = False
) -> Embedding:
    """Open an embedding file, ours or any two-dimensional ``.npy`` of numbers.

    Args:
        path: the ``.npy`` file, or a Parquet table with a column ``vector``, and ``label`` where there are labels.
        labels: a ``.npy`` of whole numbers, one a row; without it ``NAME.labels.npy`` is used if it is there.
            Labels given here have no names, since ``NAME.json`` speaks of its own.
        indices: whether the numbers of codewords will do, which cannot be clustered, probed or mapped.

    Raises:
        InputError: a file is missing, damaged, of another kind, holds NaN or infinity, has fewer than two
            rows, or numbers of codewords, or labels and rows differ in number.
    """
    embedding = open_rows(Path(path), None if labels is None else Path(labels))
    if len(embedding) < 2:
        raise InputError(f"{path} has one row: at least two are needed to compare")
    if embedding.info.get("representation") == "indices" and not indices:
        raise InputError(
            "{} holds the numbers of codewords, between which there is no distance: embed with {what} z_q "
            "for the codewords themselves",
            path,
        )
    return embedding


def open_rows(path: Path, labels: Path | None) -> Embedding:
    """What :func:`read` does, for any number of rows."""
    if path.suffix == table.ENDING:
        return _open_table(path, labels)
    z = _as_finite_rows(_open_array(path, "embeddings", ("rows", "latent dimensions")), path)
    info = _read_info(path, z.shape)
    if labels is not None:
        return Embedding(path, z, _read_labels(labels, path, len(z)), (), info)
    own = labels_path(path)
    if not own.exists():
        return Embedding(path, z, None, (), info)
    y = _read_labels(own, path, len(z))
    names = tuple(info.get("class_names", ()))
    if names and not (y.min() >= 0 and y.max() < len(names)):
        raise InputError(f"{own} has labels outside the {len(names)} classes of {info_path(path)}; embed again")
    return Embedding(path, z, y, names, info)


def _open_table(path: Path, labels: Path | None) -> Embedding:
    """The same of a Parquet table, which is read into memory."""
    content = table.read(path)
    z = _as_finite_rows(content.z, path)
    info = {} if content.info is None else _checked_info(content.info, path, z.shape, str(path))
    if labels is not None:
        return Embedding(path, z, _read_labels(labels, path, len(z)), (), info)
    y, names = content.labels, content.class_names
    if y is None:
        return Embedding(path, z, None, (), info)
    if names and not (y.min() >= 0 and y.max() < len(names)):
        raise InputError(f"{path} has labels outside its {len(names)} classes")
    if y.dtype.itemsize == 8 and y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path} has labels above 2^63 - 1")
    return Embedding(path, z, y.astype(np.int64), names, info)


def _read_labels(path: Path, rows_path: Path, n: int) -> np.ndarray:
    """int64 (n,)."""
    y = _open_array(path, "labels", ("rows",))
    if y.dtype.kind not in "iu":
        raise InputError(f"{path} holds {y.dtype}: labels are whole numbers; save them with .astype('int64')")
    if len(y) != n:
        raise InputError(f"{path} has {len(y)} labels, {rows_path} has {n} rows: they must be equal in number")
    if y.dtype.itemsize == 8 and y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path} has labels above 2^63 - 1")
    return np.array(y, dtype=np.int64)


def _open_array(path: Path, kind: str, axes: tuple[str, ...]) -> np.ndarray:
    """Map a ``.npy`` file of real numbers read-only. Nothing is unpickled, or allocated on the word of its header."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file: give the .npy file of the {kind}")
    array = npy.map_file(path)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        what = "whole numbers, one a class" if kind == "labels" else "real numbers of at most 64 bits"
        raise InputError(f"{path} holds {str(array.dtype)[:40]}: {kind} are {what}")
    if array.ndim != len(axes) or not array.size:
        raise InputError(f"{path} has the shape {array.shape}: {kind} have the axes ({', '.join(axes)}), none empty")
    return array


def _as_finite_rows(stored: np.ndarray, path: Path) -> np.ndarray:
    """The rows as float32, or float64 if float32 would round them, in C order; the map itself where it holds them so.

    What is too large for float32 is refused all the same, so that float64 has the squares of everything.
    """
    kind = np.result_type(stored.dtype.newbyteorder("="), np.float32)
    same = stored.dtype == kind and stored.flags.c_contiguous
    z = stored if same else np.empty(stored.shape, kind)
    step = max(1, (1 << 22) // stored.shape[1])
    for start in range(0, len(z), step):
        rows = z[start : start + step]
        if not same:
            rows[:] = stored[start : start + step]
        with np.errstate(over="ignore"):
            bad = first_row_not_finite(rows.astype(np.float32, copy=False))
        if bad is not None:
            raise InputError(f"{path}: row {start + bad} (from 0) has NaN, infinity or a number too large for float32")
    return z


def _read_info(path: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """``NAME.json`` if it is ours; a JSON file of another program that happens to stand there is left alone."""
    beside = info_path(path)
    if not beside.exists():
        return {}
    return _checked_info(read_json(beside), beside, shape, str(path))


def _checked_info(info: Any, beside: Path, shape: tuple[int, ...], rows: str) -> dict[str, Any]:
    """``info``, which stands in ``beside``, if it is ours and describes ``rows``."""
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        return {}
    version = info.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InputError(f"{beside} is of format version {shown(version)}; this program reads {VERSION}: update softvq")
    for name, fits in _FIELDS.items():
        if name in info and not fits(info[name]):
            raise InputError(f"{beside} is damaged: its {name} is none; embed again")
    if (info.get("n"), info.get("d")) != shape:
        raise InputError(
            f"{beside} describes {shown(info.get('n'))} rows of {shown(info.get('d'))}, {rows} has {shape[0]} of "
            f"{shape[1]}: they do not belong together; embed again or remove the .json"
        )
    return info


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_config(value: Any) -> bool:
    with contextlib.suppress(UsageError):
        RunConfig.from_dict(value)
        return True
    return False


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "class_names": _is_names,
    "file_names": lambda value: value is None or _is_names(value),
    "config": _is_config,
    "step": lambda value: type(value) is int,
    **dict.fromkeys(("dataset", "split", "representation", "checkpoint_sha256", "fingerprint"), _is_text),
}
"""What a field of ``NAME.json`` has to be, where it is there."""
