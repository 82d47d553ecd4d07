"""Which images there are: one entry of each column for each image, and the source that gives their bytes."""

from __future__ import annotations

import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from softvq_cli.datasets.naming import Role, natural, same
from softvq_cli.errors import InputError, Message, shown


@dataclass(frozen=True)
class Records:
    """Files, or the images of a data set: train rows first, then test.

    Columns and not objects, so that a million images cost 24 bytes each besides their names.
    """

    names: list[str]
    """Path inside the source, with forward slashes."""
    places: Sequence[int]
    """What the source finds each file by: a position, an offset or a row."""
    sizes: Sequence[int]
    """Bytes of each file, unpacked but still encoded."""
    labels: np.ndarray | None = None
    """int64 (N,), indices into ``class_names``; -1 in a split that has no labels where the other has."""
    class_names: tuple[str, ...] = ()
    train: int | None = None
    """The first so many rows are the train split; None: the data do not divide themselves."""
    pages: Sequence[int] | None = None
    """Which page of its file each image is; None: the first."""
    notes: list[str] = field(default_factory=list)
    """What was passed over, mapped or used otherwise than it is named, a line each."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def empty(cls) -> Records:
        """No files yet; :meth:`add` appends."""
        return cls([], array("q"), array("q"))

    def add(self, name: str, place: int, size: int) -> None:
        """One more file."""
        self.names.append(name)
        self.places.append(place)  # type: ignore[attr-defined]
        self.sizes.append(size)  # type: ignore[attr-defined]

    def take(self, rows: Sequence[int], **changes: Any) -> Records:
        """Those rows, in that order; ``changes`` are the other fields."""
        names, places, sizes = self.names, self.places, self.sizes
        return Records(
            [names[row] for row in rows],
            array("q", (places[row] for row in rows)),
            array("q", (sizes[row] for row in rows)),
            **changes,
        )


@dataclass(frozen=True)
class Listing:
    """What a source holds, metadata such as ``.DS_Store`` left out."""

    files: Records
    folders: set[str] = field(default_factory=set)
    """Every folder that is named, the empty ones too."""
    hidden: set[str] = field(default_factory=set)
    """Hidden images and the hidden folders with images, which are left out too."""


Fetch = Callable[[int], bytes]
"""The encoded image of a row; called by several threads at once."""


class Source:
    """One place that holds image files: a folder, an archive, a table, a list."""

    archive = False
    """In an archive, one outer folder may hold the images themselves."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path = path
        """What to call it in messages."""
        self.stamp = stamp
        """Changes whenever its content can have: :func:`softvq_cli.datasets.cache.stamp`."""

    @cached_property
    def listing(self) -> Listing:
        """What it holds; listing an archive takes its time."""
        return self._list()

    def _list(self) -> Listing:
        return Listing(Records.empty())

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of each of these files once, in the order that costs least."""
        raise NotImplementedError

    lies_open = False
    """Whether each file can be read alone where it lies, by :meth:`fetch`."""

    def fetch(self, files: Records) -> Fetch:
        """What reads these files one by one."""
        raise NotImplementedError


def fetch_from(path: Path, offsets: Sequence[int], sizes: Sequence[int]) -> Fetch:
    """The bytes of a row from one file, by ``pread``, which needs no position that threads would share."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def fetch(row: int) -> bytes:
        data = os.pread(descriptor, int(sizes[row]), int(offsets[row]))
        if len(data) != sizes[row]:
            raise InputError(f"{path} changed while it was read; try again")
        return data

    return fetch


def divided(
    where: str,
    files: Records,
    roles: Sequence[Role | None],
    labels: Iterable[Any],
    class_names: Sequence[str] | None = None,
    notes: Iterable[str] = (),
) -> Records:
    """Train rows first, then test, each in the order that it has, with labels from 0.

    ``labels`` stand as in the table, None for none; ``class_names`` name labels that are numbers. A split of which no
    image has a label has none; of another split the images without a label are left out, and a note says so.
    """
    notes = list(notes)
    if not files:
        raise InputError(f"{where} holds no images")
    cells = [*labels]
    values = _cleaned(where, cells)
    parts: dict[Role | None, list[int]] = {}
    for row, role in enumerate(roles):
        parts.setdefault(role, []).append(row)
    bare = unlabelled({role: [values[row] for row in rows] for role, rows in parts.items()}, class_names is not None)
    used = _used_splits(where, parts, files.names, bare, notes)
    labelled = [role for role in used if role not in bare]
    for role in labelled:
        rows = [row for row in parts[role] if values[row] is not None and not (class_names and values[row] == NONE)]
        if len(rows) < len(parts[role]):
            notes.append(_left_out_note(role, parts[role], rows, files.names))
            parts[role] = rows
    order = [row for role in used for row in parts[role]]
    train = len(parts[used[0]]) if len(used) == 2 else None
    if not labelled:
        notes += [f"no labels: {bare[used[0]]}"] if any(cell is not None for cell in cells) else []
        return files.take(order, train=train, notes=notes)
    given = [values[row] for role in labelled for row in parts[role]]
    index, names = _classes(where, set(given), class_names)
    notes += [f"the {role} split has no labels: {bare[role]}" for role in used if role in bare]
    notes += minus_one_note(Counter(given)) if class_names is None else []
    numbers = [NONE if role in bare else index[values[row]] for role in used for row in parts[role]]
    return files.take(order, labels=np.array(numbers, np.int64), class_names=names, train=train, notes=notes)


def _left_out_note(role: Role | None, rows: list[int], labelled: list[int], names: Sequence[str]) -> Message:
    first = names[min(set(rows) - set(labelled))]
    return Message(
        "{} of {} rows{} have no label, {} the first: they are left out ({label_column} none takes all, unlabelled)",
        *(len(rows) - len(labelled), len(rows), f" of the {role} split" if role else "", first),
    )


def _used_splits(
    where: str,
    parts: Mapping[Role | None, Sequence[int]],
    names: Sequence[str],
    bare: Mapping[Role | None, str],
    notes: list[str],
) -> list[Role | None]:
    """The training and the test split, or the only one there is."""
    if None in parts and len(parts) > 1:
        raise InputError(f"{where}: {names[parts[None][0]]} has no split, but others have one")
    if len(parts) == 1:
        (only,) = parts
        if only is not None:
            notes.append(f"all images are of one split, {only}: some images are held out as the test split")
        return [only]
    if "train" not in parts:
        raise InputError(f"{where} has the splits {' and '.join(sorted(map(str, parts)))}, but no train split")
    second, said = second_split([role for role in parts if role is not None], bare)
    notes += said
    if second == "test" and "validation" in parts:
        notes.append(f"not used, because there is a test split: validation ({len(parts['validation'])} images)")
    return ["train", second]


def second_split(roles: Iterable[Role], bare: Mapping[Any, str]) -> tuple[Role, list[str]]:
    """The split that is the test split next to train, and what is to be said of the choice."""
    roles = set(roles)
    if "test" not in roles:
        return "validation", ["there is no test split: validation is used instead"]
    if "validation" in roles and "test" in bare and not bare.keys() & {"train", "validation"}:
        return "validation", [f"the test split has no labels ({bare['test']}): validation is used instead"]
    return "test", []


# ---- labels

NONE = -1
"""The number of an image without a label, here and in the hidden test splits of Hugging Face."""
_MARKS = (NONE, str(NONE), str(NONE).encode())
_Part = TypeVar("_Part", bound=Hashable)
Given = tuple[np.ndarray | None, int, str, Role | None]
"""(labels, how many images they are for, what to call them, the split)."""


def unlabelled(parts: Mapping[_Part, Sequence[Any]], named: bool = False) -> dict[_Part, str]:
    """The splits without labels, each with what shows it: every label is missing (None), or -1.

    Where no list names the classes (``named``), -1 is a class if it is one label among others.
    """
    distinct = {part: set(labels) - {None} for part, labels in parts.items()}
    is_class = not named and any(labels & {*_MARKS} and labels - {*_MARKS} for labels in distinct.values())
    return {
        part: f"all are {NONE}" if labels else "no image has one"
        for part, labels in distinct.items()
        if not labels or (labels.issubset(_MARKS) and not is_class)
    }


def minus_one_note(counts: Mapping[Any, int]) -> list[str]:
    """The note on a class that is called -1, by the images of each label; 1 and -1 are a usual pair."""
    count = sum(counts.get(mark, 0) for mark in _MARKS)
    if not count or (len(counts) == 2 and not {1, "1"}.isdisjoint(counts)):
        return []
    total = sum(counts.values())
    return [f"{count} of {total} images have the label {NONE}, which is treated as a class"]


def distinct_labels(labels: np.ndarray) -> list[Any]:
    """The values of an array of labels, each once; None for NaN."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in np.unique(labels).tolist()]


def numbered(parts: Sequence[Given], svhn: bool = False) -> tuple[np.ndarray | None, tuple[str, ...], list[str]]:
    """(int64 (N,) in 0..k-1, class names, notes) of the labels of all splits together.

    Whole numbers (as integers or floats), text and bytes are taken as they are, one column or one row as one label
    an image, and a matrix with a single 1 in each row as one-hot. The names are the values in ascending order. Without
    any labels there is None; a split without labels beside one with them has -1.
    """
    notes: list[str] = []
    bare = unlabelled({role: [] if labels is None else distinct_labels(labels) for labels, _, _, role in parts})
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
    classes, indices, counts = np.unique(values, return_inverse=True, return_counts=True)
    notes += minus_one_note(dict(zip(classes.tolist(), counts.tolist(), strict=True)))
    notes += [f"the {role} split has no labels: {reason}" for role, reason in bare.items()]
    rows = np.repeat([role not in bare for *_, role in parts], [count for _, count, _, _ in parts])
    whole = np.full(len(rows), NONE, np.int64)
    whole[rows] = indices.reshape(-1)
    return whole, tuple(map(str, classes)), notes


def _flat(labels: np.ndarray, count: int, where: str, notes: list[str]) -> np.ndarray:
    """One plain label an image: int64, bool or text (N,)."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U":
        labels = np.array([same(text) for text in labels.reshape(-1).tolist()]).reshape(labels.shape)
    if labels.dtype.kind == "f":
        missing = int(np.isnan(labels).sum())
        if missing:
            raise InputError(f"{where}: {missing} of {labels.size} labels are missing (NaN); remove those images")
        if (labels == np.rint(labels)).all() and np.abs(labels).max(initial=0) < 2**53:
            labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise InputError(f"{where} holds {labels.dtype}; labels are whole numbers or text")
    if labels.dtype.kind == "u":
        if labels.size and labels.max() > np.iinfo(np.int64).max:
            raise InputError(f"{where} holds numbers above 2^63 - 1; labels are smaller")
        labels = labels.astype(np.int64)
    if labels.shape in ((count,), (count, 1), (1, count)):
        return np.asarray(labels.reshape(-1))
    one_hot = labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1 and labels.dtype.kind != "U"
    if one_hot and ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
        notes.append(f"{where} is one-hot: the place of the 1 is the label")
        return np.asarray(labels.argmax(axis=1), np.int64)
    raise InputError(f"{where} has the shape {labels.shape}; {count} images need ({count},)")


# ---- labels of a table, one cell each


def _cleaned(where: str, cells: Iterable[Any]) -> list[int | str | None]:
    """The cells of a column as labels; empty text, None and NaN are none."""
    values = [_cleaned_cell(where, cell) for cell in cells]
    texts = {value for value in values if value is not None}
    if not all(isinstance(text, str) and _FLOAT.fullmatch(text) for text in texts) or not texts:
        return values
    odd = next((str(text) for text in sorted(map(str, texts)) if not float(text).is_integer()), None)
    if odd is not None:
        raise _odd(where, odd)
    return [None if value is None else str(int(float(value))) for value in values]


_FLOAT = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,20}")
"""Whole numbers in text as a table of floats has them, ``3.0``; or fractions."""


def _cleaned_cell(where: str, value: Any) -> int | str | None:
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
        "{}: {} is not a label; labels are whole numbers or text, one per image ({label_column} names another "
        "column, or none)",
        *(where, shown(value)),
    )


def _classes(where: str, labels: set[Any], class_names: Sequence[str] | None) -> tuple[dict[Any, int], tuple[str, ...]]:
    """(the number of each label, the name of each class)."""
    kinds = {type(label) for label in labels}
    if kinds == {int} and class_names:
        bad = min((label for label in labels if not 0 <= label < len(class_names)), default=None)
        if bad is not None:
            raise InputError(f"{where}: the label {shown(bad)} is not one of its {len(class_names)} classes")
        return {label: label for label in labels}, tuple(map(same, class_names))
    if len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(f"{where}: labels must all be whole numbers or all be text")
    ordered = sorted(labels, key=_in_order if all(map(_is_decimal, labels)) else None)
    return {label: number for number, label in enumerate(ordered)}, tuple(map(str, ordered))


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) is not None


def _in_order(value: str) -> tuple[Any, ...]:
    """Text that is a number sorts as one, however long: 2 before 10, and -1 before both."""
    return (0, value) if value.startswith("-") else (1, natural(value), value)
