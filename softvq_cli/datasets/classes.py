"""Labels as people have them → numbers from 0 with a name each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softvq_cli.datasets.naming import same
from softvq_cli.errors import InputError

Given = tuple[np.ndarray | None, int, str]
"""(labels, how many images they are for, what to call them)."""


def numbered(parts: Sequence[Given], svhn: bool = False) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """(int64 (N,) in 0..k-1, class names, notes) of the labels of all splits together.

    Whole numbers (as integers or floats), text and bytes are taken as they are, one column or one row as one label
    an image, and a matrix with a single 1 in each row as one-hot. The names are the values in ascending order.

    Args:
        parts: of each split.
        svhn: images as SVHN has them, whose label 10 means the digit 0.

    Raises:
        InputError: they are not one an image, or no labels.
    """
    notes: list[str] = []
    flat = [_flat(labels, count, where, notes) for labels, count, where in parts if labels is not None]
    values = np.concatenate(flat)
    if svhn and values.dtype.kind == "i" and values.min() >= 1 and values.max() == 10:
        values = values % 10
        notes.append("label 10 is read as the digit 0, as in SVHN")
    found, indices = np.unique(values, return_inverse=True)
    return indices.astype(np.int64).reshape(-1), tuple(str(value) for value in found), notes


def _flat(labels: np.ndarray, count: int, where: str, notes: list[str]) -> np.ndarray:
    """One plain label an image: int64, bool or text (N,)."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U":
        labels = np.array([same(text) for text in labels.reshape(-1).tolist()]).reshape(labels.shape)
    if labels.dtype.kind == "f":
        if not (
            np.isfinite(labels).all() and (labels == np.rint(labels)).all() and np.abs(labels).max(initial=0) < 2**53
        ):
            raise InputError(f"{where} holds {labels.dtype}; labels are whole numbers or text")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise InputError(f"{where} holds {labels.dtype}; labels are whole numbers or text")
    if labels.dtype.kind == "u":
        if labels.size and labels.max() > np.iinfo(np.int64).max:
            raise InputError(f"{where} holds numbers above 2^63 - 1; labels are smaller")
        labels = labels.astype(np.int64)
    if labels.shape in ((count,), (count, 1), (1, count)):
        flat: np.ndarray = labels.reshape(-1)
        return flat
    if labels.ndim == 2 and len(labels) == count and _is_one_hot(labels):
        notes.append(f"{where} is one-hot: the place of the 1 is the label")
        return np.asarray(labels.argmax(axis=1), np.int64)
    raise InputError(f"{where} has the shape {labels.shape}; {count} images need ({count},)")


def _is_one_hot(labels: np.ndarray) -> bool:
    if labels.dtype.kind == "U" or labels.shape[1] < 2:
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())
