"""Which images there are: one entry of each column for each image, and the source that gives their bytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.datasets.labels import NONE, minus_one, number, plain_labels, unlabelled
from softvq_cli.datasets.naming import Role
from softvq_cli.errors import InputError


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

    Args:
        where: what to call the table.
        files: one row an image.
        roles: the split of each.
        labels: of each, as they stand in the table; None: it has none.
        class_names: of labels that are numbers, where the table has them.
        notes: what is already to be said.

    Raises:
        InputError: there are none, only some of a split have a label, some have no split, or a label has no name.
    """
    notes = list(notes)
    if not files:
        raise InputError(f"{where} holds no images")
    cells = [*labels]
    values = plain_labels(where, cells)
    parts: dict[Role | None, list[int]] = {}
    for row, role in enumerate(roles):
        parts.setdefault(role, []).append(row)
    bare = unlabelled(
        {role: [values[row] for row in rows] for role, rows in parts.items()}, named=class_names is not None
    )
    used = _used(where, parts, files.names, bare, notes)
    order = [row for role in used for row in parts[role]]
    train = len(parts[used[0]]) if len(used) == 2 else None
    if all(role in bare for role in used):
        if any(cell is not None for cell in cells):
            notes.append(f"no labels: {bare[used[0]]}")
        return files.take(order, train=train, notes=notes)
    given = {role: parts[role] for role in used if role not in bare}
    numbers, names = number(where, given, values, files.names, class_names)
    notes += [f"the {role} split has no labels: {bare[role]}" for role in used if role in bare]
    if class_names is None:
        notes += minus_one([values[row] for rows in given.values() for row in rows])
    whole = np.concatenate([numbers.get(role, np.full(len(parts[role]), NONE, np.int64)) for role in used])
    return files.take(order, labels=whole, class_names=names, train=train, notes=notes)


def _used(
    where: str,
    parts: Mapping[Role | None, Sequence[int]],
    names: Sequence[str],
    bare: Mapping[Role | None, str],
    notes: list[str],
) -> list[Role | None]:
    """The training and the test split, or the only one there is."""
    if None in parts and len(parts) > 1:
        raise InputError(f"{where}: {names[parts[None][0]]} has no split, and others have one")
    if len(parts) == 1:
        (only,) = parts
        if only is not None:
            notes.append(f"all images are of one split, {only}: some are held out as the test split")
        return [only]
    if "train" not in parts:
        raise InputError(f"{where} has the splits {' and '.join(sorted(map(str, parts)))}, but no train split")
    second, said = second_split([role for role in parts if role is not None], bare)
    notes += said
    if second == "test" and "validation" in parts:
        notes.append(f"not used, for there is a test split: validation ({len(parts['validation'])} images)")
    return ["train", second]


def second_split(roles: Iterable[Role], bare: Mapping[Any, str]) -> tuple[Role, list[str]]:
    """The split that is the test split next to train, and what is to be said of the choice.

    Args:
        roles: all splits, train and others.
        bare: those without labels, and what shows it.
    """
    roles = set(roles)
    if "test" not in roles:
        return "validation", ["there is no test split: validation is used as such"]
    if "validation" in roles and "test" in bare and not bare.keys() & {"train", "validation"}:
        return "validation", [f"the test split has no labels ({bare['test']}): validation is used as such"]
    return "test", []
