"""Labels as people have them → numbers from 0 with a name each."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from softvq_cli.datasets.naming import Role, natural, same
from softvq_cli.errors import InputError, shown

NONE = -1
"""The number of an image without a label, here and in the hidden test splits of Hugging Face."""
_MARKS = (NONE, str(NONE), str(NONE).encode())
_Part = TypeVar("_Part", bound=Hashable)
Given = tuple[np.ndarray | None, int, str, Role | None]
"""(labels, how many images they are for, what to call them, the split)."""


def unlabelled(parts: Mapping[_Part, Sequence[Any]], *, named: bool = False) -> dict[_Part, str]:
    """The splits without labels, each with what shows it: every label is missing (None), or -1.

    Args:
        parts: the labels of each split.
        named: the classes are named by a list, in which -1 is none; else -1 is a class where it is one among others.
    """
    found = {part: set(labels) - {None} for part, labels in parts.items()}
    is_class = not named and any(labels.intersection(_MARKS) and labels.difference(_MARKS) for labels in found.values())
    return {
        part: f"all are {NONE}" if labels else "no image has one"
        for part, labels in found.items()
        if not labels or (labels.issubset(_MARKS) and not is_class)
    }


def minus_one(values: Sequence[Any]) -> list[str]:
    """The note on a class that is called -1; 1 and -1 are a usual pair."""
    count = sum(value in _MARKS for value in values)
    if not count or (len(set(values)) == 2 and not {1, "1"}.isdisjoint(values)):
        return []
    return [f"{count} of {len(values)} images have the label {NONE}, which is taken for a class of its own"]


def distinct(labels: np.ndarray) -> list[Any]:
    """The values of an array of labels, each once; None for NaN."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in np.unique(labels).tolist()]


def numbered(parts: Sequence[Given], svhn: bool = False) -> tuple[np.ndarray | None, tuple[str, ...], list[str]]:
    """(int64 (N,) in 0..k-1, class names, notes) of the labels of all splits together.

    Whole numbers (as integers or floats), text and bytes are taken as they are, one column or one row as one label
    an image, and a matrix with a single 1 in each row as one-hot. The names are the values in ascending order. Without
    any labels there is None; a split without labels beside one with them has -1.

    Args:
        parts: of each split.
        svhn: images as SVHN has them, whose label 10 means the digit 0.
    """
    notes: list[str] = []
    bare = unlabelled({role: [] if labels is None else distinct(labels) for labels, _, _, role in parts})
    if len(bare) == len(parts):
        given = any(labels is not None for labels, *_ in parts)
        return None, (), [f"no labels: {bare[parts[0][3]]}"] if given else []
    flat = {
        role: _flat(labels, n, where, notes) for labels, n, where, role in parts if not (labels is None or role in bare)
    }
    values = np.concatenate([*flat.values()])
    if svhn and values.dtype.kind == "i" and values.min() >= 1 and values.max() == 10:
        values = values % 10
        notes.append("label 10 is read as the digit 0, as in SVHN")
    found, indices = np.unique(values, return_inverse=True)
    notes += minus_one(values.tolist())
    notes += [f"the {role} split has no labels: {what}" for role, what in bare.items()]
    rows = np.repeat([role not in bare for *_, role in parts], [count for _, count, _, _ in parts])
    whole = np.full(len(rows), NONE, np.int64)
    whole[rows] = indices.reshape(-1)
    return whole, tuple(str(value) for value in found), notes


def _flat(labels: np.ndarray, count: int, where: str, notes: list[str]) -> np.ndarray:
    """One plain label an image: int64, bool or text (N,)."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U":
        labels = np.array([same(text) for text in labels.reshape(-1).tolist()]).reshape(labels.shape)
    if labels.dtype.kind == "f":
        missing = int(np.isnan(labels).sum())
        if missing:
            raise InputError(f"{where}: {missing} of {labels.size} labels are missing (NaN); take those images out")
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


# ---- labels of a table, one cell each


def plain_labels(where: str, cells: Iterable[Any]) -> list[int | str | None]:
    """The cells of a column as labels; empty text, None and NaN are none."""
    values = [_plain_label(where, cell) for cell in cells]
    texts = {value for value in values if value is not None}
    if not all(isinstance(text, str) and _FLOAT.fullmatch(text) for text in texts) or not texts:
        return values
    odd = next((str(text) for text in sorted(map(str, texts)) if not float(text).is_integer()), None)
    if odd is not None:
        raise _odd(where, odd)
    return [None if value is None else str(int(float(value))) for value in values]


_FLOAT = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,20}")
"""Whole numbers in text as a table of floats has them, ``3.0``; or fractions."""


def _plain_label(where: str, value: Any) -> int | str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return same(value.strip()) or None
    if isinstance(value, float):
        if not (math.isnan(value) or value.is_integer()):
            raise _odd(where, value)
        return None if math.isnan(value) else int(value)
    if isinstance(value, int):
        return str(value) if isinstance(value, bool) else value
    if isinstance(value, list | tuple | dict | set):
        raise _odd(where, value)
    return None if value is None else str(value)


def _odd(where: str, value: Any) -> InputError:
    return InputError(
        "{}: {} is no label; labels are whole numbers or text, one for each image ({label_column} names another "
        "column, or none)",
        *(where, shown(value)),
    )


def number(
    where: str,
    parts: Mapping[Role | None, Sequence[int]],
    values: Sequence[Any],
    images: Sequence[str],
    class_names: Sequence[str] | None,
) -> tuple[dict[Role | None, np.ndarray], tuple[str, ...]]:
    """(int64 from 0 for the rows of each split, the name of each class).

    Args:
        where: what to call the table.
        parts: the rows of each split.
        values: the label of each row.
        images: what each row is called.
        class_names: of labels that are numbers, where the table has them.
    """
    for role, rows in parts.items():
        missing = [row for row in rows if values[row] is None or (class_names and values[row] == NONE)]
        if missing:
            split, first = f"of the {role} split " if role else "", missing[0]
            mark = "" if values[first] is None else f" (it is {NONE})"
            raise InputError(
                f"{where}: {len(missing)} of {len(rows)} images {split}have no label, {images[first]} the first"
                f"{mark}; take them out, or give them one"
            )
    distinct_values = {values[row] for rows in parts.values() for row in rows}
    kinds = {type(value) for value in distinct_values}
    if kinds == {int} and class_names:
        bad = min((value for value in distinct_values if not 0 <= value < len(class_names)), default=None)
        if bad is not None:
            raise InputError(f"{where}: the label {shown(bad)} is none of the {len(class_names)} classes that it names")
        index, names = {value: value for value in distinct_values}, tuple(map(same, class_names))
    elif len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(f"{where}: labels are whole numbers or text, all of one kind")
    else:
        ordered = sorted(distinct_values, key=_in_order if all(map(_is_decimal, distinct_values)) else None)
        index, names = {value: label for label, value in enumerate(ordered)}, tuple(map(str, ordered))
    return {role: np.array([index[values[row]] for row in rows], np.int64) for role, rows in parts.items()}, names


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) is not None


def _in_order(value: str) -> tuple[Any, ...]:
    """Text that is a number sorts as one, however long: 2 before 10, and -1 before both."""
    return (0, value) if value.startswith("-") else (1, natural(value), value)
