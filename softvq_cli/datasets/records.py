"""Records of images as columns (names, splits, labels), and the sources that provide their bytes."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softvq_cli.datasets.naming import ROLES, Role, same, shorten
from softvq_cli.errors import InputError, Message, shown


@dataclass(frozen=True)
class Records:
    """Files, or the images of a data set: train rows first, then test.

    They are columns instead of objects, so that a million images need 16 bytes each in addition to their names.
    """

    names: list[str]
    """Paths inside the source, with forward slashes."""
    places: np.ndarray
    """int64: where the source finds each file: an index, an offset or a row."""
    sizes: np.ndarray
    """int64: size of each encoded file in bytes, without archive compression."""
    labels: np.ndarray | None = None
    """int64 (N,), indices into ``class_names``; -1 in a split without labels if the other has some."""
    class_names: tuple[str, ...] = ()
    train: int | None = None
    """Number of rows, at the start, in the train split; None: the data have no splits."""
    pages: Sequence[int] | None = None
    """The page of each image in its file; None: the first."""
    notes: list[str] = field(default_factory=list)
    """Notes on files that were ignored or mapped, or used differently from their name, one line each."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, names: list[str], places: Any, sizes: Any, notes: Iterable[str] = ()) -> Records:
        """Files without splits and labels."""
        return cls(names, np.asarray(places, np.int64), np.asarray(sizes, np.int64), notes=[*notes])

    def take(self, rows: np.ndarray | Sequence[int], **changes: Any) -> Records:
        """The given rows, in that order; ``changes`` replace other fields."""
        rows = np.asarray(rows, np.int64)
        names = [self.names[row] for row in rows.tolist()]
        return Records(names, self.places[rows], self.sizes[rows], **changes)

    def divided(self, where: str, roles: Sequence[Role | None], cells: Any, **more: Any) -> Records:
        """The images of train and test with their labels, as found by :func:`divide`."""
        if not self.names:
            raise InputError(f"{where} holds no images")
        return self.take(**divide(where, roles, cells, name=self.names.__getitem__, **more)._asdict())


Fetch = Callable[[int], bytes]
"""Returns the encoded image of a row; called by several threads at once."""


class Source:
    """A source of image files: a folder, an archive, a table, a list."""

    archive = False
    """Whether it is an archive, in which one outer folder may contain all images."""
    lies_open = False
    """Whether files can be read separately, by :meth:`fetch`."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path = path
        """The name for messages."""
        self.stamp = stamp
        """Changes whenever the content may have changed: :class:`softvq_cli.datasets.cache.Files`."""
        self.folders: set[str] = set()
        """All folders, including empty ones, after the files have been listed."""
        self.hidden: set[str] = set()
        """Hidden images, and hidden folders with images, which are ignored."""

    @cached_property
    def files(self) -> Records:
        """List its files without metadata such as ``.DS_Store``; this may take long for an archive."""
        raise NotImplementedError

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """Yield (index, bytes) of each of these files once, in the fastest order."""
        raise NotImplementedError

    def fetch(self, files: Records) -> Fetch:
        """A function that reads these files separately."""
        raise NotImplementedError


def fetch_from(path: Path, offsets: Sequence[int], sizes: Sequence[int]) -> Fetch:
    """Read rows from one file by ``pread``, so that threads share no file position."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def fetch(row: int) -> bytes:
        data = os.pread(descriptor, int(sizes[row]), int(offsets[row]))
        if len(data) != sizes[row]:
            raise InputError(f"{path} changed while it was read; try again")
        return data

    return fetch


# ---- splits and labels for all kinds of data

NONE = -1
"""The label of an unlabelled image, here and in the hidden test splits of Hugging Face."""
_ORDER: tuple[Role | None, ...] = (None, *ROLES)


class Coded(NamedTuple):
    """A column with few distinct values, and the index of the value in each row."""

    values: list[Any]
    codes: np.ndarray


class Division(NamedTuple):
    """The rows that are used, with their splits and labels."""

    rows: np.ndarray
    """int64: the rows of the training split, then of the test split, each in original order."""
    labels: np.ndarray | None
    """int64, indices into ``class_names``; -1 in a split without labels if the other has some."""
    class_names: tuple[str, ...]
    train: int | None
    """Number of rows in the training split; None: the data have no splits."""
    notes: list[str]


def divide(
    where: str,
    roles: Sequence[Role | None] | Coded,
    cells: Sequence[Any] | Coded | None,
    *,
    name: Callable[[int], str],
    class_names: Sequence[str] | None = None,
    notes: Iterable[str] = (),
    called: Mapping[Role | None, str] | None = None,
) -> Division:
    """Divide rows into splits and number their labels from 0.

    ``cells`` are the labels as stored, None without labels; ``class_names`` are the names of numeric labels. If no
    image of a split has a label, the split has none; in other splits, images without a label are dropped, with a note.
    ``name`` and ``called`` return the names of a row and a split for messages.
    """
    notes, called = list(notes), called or {}
    if isinstance(roles, Coded):
        numbers = np.array([*map(_ORDER.index, roles.values)], np.int8)[roles.codes]
    else:
        numbers = np.fromiter(map(_ORDER.index, roles), np.int8, len(roles))
    values, codes = _coded(where, cells, len(numbers), notes)
    parts = {_ORDER[number]: np.flatnonzero(numbers == number) for number in np.unique(numbers)}
    distinct = {role: {values[code] for code in np.unique(codes[rows])} for role, rows in parts.items()}
    bare = _unlabelled(distinct, class_names is not None)
    splits = _used_splits(where, parts, bare, name, notes, called)
    missing = np.array([value is None or (class_names is not None and value == NONE) for value in values])
    for role in splits:
        absent = missing[codes[parts[role]]]
        if role not in bare and absent.any():
            gaps = parts[role][absent]
            text = "{} of {} rows{} have no label, {} the first: they are left out ({label_column} none takes all)"
            split = f" of the {role} split" if role else ""
            notes.append(Message(text, len(gaps), len(parts[role]), split, name(int(gaps[0]))))
            parts[role] = parts[role][~absent]
    rows = np.concatenate([parts[role] for role in splits])
    train = len(parts["train"]) if len(splits) == 2 else None
    if all(role in bare for role in splits):
        notes += [] if cells is None else [f"no labels: {bare[splits[0]]}"]
        return Division(rows, None, (), train, notes)
    notes += [f"the {called.get(role, role)} split has no labels: {bare[role]}" for role in splits if role in bare]
    given = set().union(*(distinct[role] for role in splits if role not in bare)) - {None}
    index, names = _classes(where, given, class_names)
    by_code = np.array([index.get(value, NONE) for value in values], np.int64)
    labels = [np.full(len(parts[role]), NONE) if role in bare else by_code[codes[parts[role]]] for role in splits]
    whole = np.concatenate(labels)
    if class_names is None and given & {NONE, str(NONE)} and not (len(given) == 2 and given & {1, "1"}):
        count = int(sum((whole == number).sum() for value, number in index.items() if value in (NONE, str(NONE))))
        notes.append(f"{count} of {int((whole >= 0).sum())} images have the label {NONE}, which is treated as a class")
    return Division(rows, whole, names, train, notes)


def _unlabelled(distinct: Mapping[Role | None, set[Any]], named: bool) -> dict[Role | None, str]:
    """The splits without labels, each with the reason: every label is missing (None), or -1.

    Without class names (``named``), -1 is a class if it occurs among other labels.
    """
    labels = {role: values - {None} for role, values in distinct.items()}
    marks = {NONE, str(NONE)}
    is_class = not named and any(values & marks and values - marks for values in labels.values())
    return {
        role: f"all are {NONE}" if values else "no image has one"
        for role, values in labels.items()
        if not values or (values <= marks and not is_class)
    }


def _used_splits(
    where: str,
    parts: Mapping[Role | None, np.ndarray],
    bare: Mapping[Role | None, str],
    name: Callable[[int], str],
    notes: list[str],
    called: Mapping[Role | None, str],
) -> list[Role | None]:
    """The training and the test split, or the only split."""
    if None in parts and len(parts) > 1:
        raise InputError(f"{where}: {name(int(parts[None][0]))} has no split, but others have one")
    if len(parts) == 1:
        (only,) = parts
        if only is not None:
            notes.append(f"all images are of one split, {only}: some images are held out as the test split")
        return [only]
    if "train" not in parts:
        raise InputError(f"{where} has the splits {' and '.join(sorted(map(str, parts)))}, but no train split")
    validation = called.get("validation", "validation")
    if "test" not in parts:
        notes.append(f"there is no test split: {validation} is used instead")
        return ["train", "validation"]
    if "validation" in parts and "test" in bare and not bare.keys() & {"train", "validation"}:
        hidden = f"{called.get('test', 'test')} has no labels ({len(parts['test'])} images, {bare['test']})"
        notes.append(f"{hidden}: {validation} is used instead")
        return ["train", "validation"]
    if "validation" in parts:
        notes.append(f"not used, because there is a test split: {validation} ({len(parts['validation'])} images)")
    return ["train", "test"]


def _coded(
    where: str, cells: Sequence[Any] | Coded | None, count: int, notes: list[str]
) -> tuple[list[Any], np.ndarray]:
    """(distinct labels: integers, text or None; the index of the label of each row)."""
    if cells is None:
        return [None], np.zeros(count, np.int64)
    if isinstance(cells, Coded):
        distinct, codes = cells
    else:
        index: dict[Any, int] = {}
        try:  # also by type, because True is not the class 1
            codes = np.fromiter((index.setdefault((type(cell), cell), len(index)) for cell in cells), np.int64, count)
        except TypeError as error:
            raise _odd(where, next(cell for cell in cells if isinstance(cell, list | dict | set))) from error
        distinct = [cell for _, cell in index]
    values = [_cleaned(where, value) for value in distinct]
    texts = dict.fromkeys(value for value in values if isinstance(value, str))
    numbers = {text: number for text in texts if (number := _number_in(where, text)) is not None}
    names: dict[int, str] = {}
    for text, number in numbers.items():  # 007 keeps its zeros unless 7 has another spelling, too
        names[number] = text if text.isdecimal() and number not in names else str(number)
    spelled: dict[Any, str] = {text: names[number] for text, number in numbers.items()}
    absent = MISSING if texts.keys() <= numbers.keys() | MISSING else frozenset[str]()
    stripped = Counter(value.strip() for value in distinct if isinstance(value, str))
    merged = [text for text, count in stripped.items() if count > 1 and text]
    notes += [f"labels that differ only in spaces at their ends are one class: {shorten(merged)}"] if merged else []
    return [None if value in absent else spelled.get(value, value) for value in values], codes


MISSING = frozenset(("NA", "N/A", "<NA>", "null", "NULL"))
"""Text that means no label among whole numbers; among other text, it can be a class."""
_NUMBER = re.compile(r"[+-]?(?=\.?[0-9])[0-9]{0,300}(\.[0-9]{0,300})?([eE][+-]?[0-9]{1,3})?")
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)|[+-]?[0-9]*([,\s]\s*[0-9]+)+", re.DOTALL)
"""A list or an object in text; also ``0,5``, which may be a fraction or two labels."""


def _number_in(where: str, text: str) -> int | None:
    """The whole number that a text spells, ``1``, ``1.0`` or ``1.0e+00``; None if it is not a number."""
    if _LIST.fullmatch(text):
        raise _odd(where, text)
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if number != number.to_integral_value():
        raise _odd(where, text)
    return int(number)


def _cleaned(where: str, value: Any) -> int | str | None:
    """Convert a cell to a label; empty text, None and NaN, also as text, mean no label."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return None if value.strip().lower() in ("", "nan") else same(value.strip())
    if isinstance(value, float):
        if not (math.isnan(value) or value.is_integer()):
            raise _odd(where, value)
        return None if math.isnan(value) else int(value)
    if isinstance(value, tuple | complex):
        raise _odd(where, value)
    return value if value is None or (isinstance(value, int) and not isinstance(value, bool)) else str(value)


def _odd(where: str, value: Any) -> InputError:
    return InputError(
        "{}: {} is not a label; labels are whole numbers or text, one per image ({label_column} names another "
        "column, or none)",
        *(where, shown(value)),
    )


def _classes(where: str, labels: set[Any], class_names: Sequence[str] | None) -> tuple[dict[Any, int], tuple[str, ...]]:
    """(number of each label, name of each class)."""
    kinds = {type(label) for label in labels}
    if kinds == {int} and class_names:
        labels = labels - {NONE}
        bad = min((label for label in labels if not 0 <= label < len(class_names)), default=None)
        if bad is not None:
            raise InputError(f"{where}: the label {shown(bad)} is not one of its {len(class_names)} classes")
        return {label: label for label in labels}, tuple(map(same, class_names))
    if len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(f"{where}: labels must all be whole numbers or all be text")
    decimal = all(isinstance(label, str) and re.fullmatch(r"-?[0-9]+", label) for label in labels)
    ordered = sorted(labels, key=_as_number if decimal else None)
    return {label: number for number, label in enumerate(ordered)}, tuple(map(str, ordered))


def _as_number(text: str) -> tuple[Any, ...]:
    """A sort key for integers in text of any length, too long for Python's int: 2 before 10."""
    digits = text.lstrip("0")
    return (0, text) if text.startswith("-") else (1, len(digits), digits, text)
