"""Rows of a table → which images there are, with labels and splits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softvq_cli.datasets.layout import Layout
from softvq_cli.datasets.naming import Role, natural, role_of, same, shorten
from softvq_cli.datasets.sources import Member
from softvq_cli.errors import InputError, param

IMAGE = ("image", "img", "images", "picture", "photo", "file_name", "filename", "file", "path", "filepath", "file_path")
IMAGE_MORE = ("image_path", "image_file", "image_name", "jpg", "jpeg", "png", "webp")
LABEL = ("label", "labels", "class", "class_name", "category", "target", "targets", "y", "cls")
SPLIT = ("split", "subset", "partition", "set")
"""What the columns are called, those that win first."""


@dataclass(frozen=True)
class Row:
    """One image."""

    member: Member
    role: Role | None
    label: Any = None
    """A whole number or text; None: it has none."""


@dataclass(frozen=True)
class Columns:
    """Which column is what."""

    image: str
    label: str | None
    split: str | None
    notes: tuple[str, ...]


def columns_of(
    where: str,
    names: Sequence[str],
    chosen: Mapping[str, str | None],
    *,
    images: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Columns:
    """Find the columns of a table.

    Args:
        where: what to call the table.
        names: of all columns.
        chosen: the settings ``image_column``, ``label_column`` and ``split_column``.
        images: columns that can only be images, by their type.
        labels: columns that can only be labels, by their type.

    Raises:
        InputError: there is no such column, or none that is plainly the image.
    """
    for setting, name in chosen.items():
        if name is not None and name not in names:
            raise InputError(f"{where} has no column {name!r} ({param(setting)}); it has {shorten(names, 12)}")
    image = chosen["image_column"] or (images[0] if len(images) == 1 else _plain(names, IMAGE + IMAGE_MORE))
    if image is None:
        raise InputError(
            f"{where} has no column that is plainly the image; name it with {param('image_column')}: "
            f"{shorten(names, 12)}"
        )
    label = chosen["label_column"] or (labels[0] if len(labels) == 1 else _plain(names, LABEL))
    split = chosen["split_column"] or _plain(names, SPLIT)
    unused = [name for name in names if name not in (image, label, split)]
    notes = [f"columns that are not used: {shorten(unused, 8)}"] if unused else []
    if label is None and unused:
        notes = [
            f"no column is plainly the label ({param('label_column')} names one of {shorten(unused, 8)}): no labels"
        ]
    return Columns(image, label, split, tuple(notes))


def _plain(names: Sequence[str], known: Sequence[str]) -> str | None:
    by_word = {name.strip().lower(): name for name in reversed(names)}
    return next((by_word[word] for word in known if word in by_word), None)


def role_of_value(where: str, value: Any) -> Role:
    """The split that a cell of the split column names.

    Raises:
        InputError: it names none.
    """
    role = role_of(str(value))
    if role is None:
        raise InputError(f"{where}: {str(value)[:80]!r} is no split; write train, validation or test there")
    return role


def arranged(where: str, rows: Sequence[Row], class_names: Sequence[str] | None, notes: Iterable[str]) -> Layout:
    """Train rows first, then test, each in the order that it has.

    Args:
        where: what to call the table.
        rows: all images.
        class_names: of labels that are numbers, where the table has them.
        notes: what is already to be said.

    Raises:
        InputError: there are none, only some have a label or a split, or a label has no name.
    """
    notes = list(notes)
    if not rows:
        raise InputError(f"{where} holds no images")
    roles = {row.role for row in rows}
    if None in roles and len(roles) > 1:
        odd = next(row.member.name for row in rows if row.role is None)
        raise InputError(f"{where}: {odd} has no split, and others have one")
    train: int | None = None
    if "train" in roles and len(roles) > 1:
        second: Role = "test" if "test" in roles else "validation"
        if second == "validation":
            notes.append("there is no test split: validation is used as such")
        elif "validation" in roles:
            unused = sum(row.role == "validation" for row in rows)
            notes.append(f"not used, for there is a test split: validation ({unused} images)")
        first = [row for row in rows if row.role == "train"]
        rows, train = first + [row for row in rows if row.role == second], len(first)
    elif len(roles) == 1 and None not in roles:
        notes.append(f"all images are of one split, {next(iter(roles))}: some are held out as the test split")
    elif None not in roles:
        raise InputError(f"{where} has the splits {' and '.join(sorted(map(str, roles)))}, but no train split")
    labels, names = _numbered(where, rows, class_names)
    if labels is None and any(row.label is not None for row in rows):
        notes.append("the column of labels is empty: no labels")
    return Layout([row.member for row in rows], labels, names, train, notes)


def _numbered(
    where: str, rows: Sequence[Row], class_names: Sequence[str] | None
) -> tuple[list[int] | None, tuple[str, ...]]:
    """Labels from 0 and the name of each."""
    values = [_plain_label(row.label) for row in rows]
    if all(value is None for value in values):
        return None, ()
    if None in values:
        odd = rows[values.index(None)].member.name
        raise InputError(f"{where}: {odd} has no label, and others have one; take it out, or give it one")
    kinds = {type(value) for value in values}
    if kinds == {int} and class_names:
        numbers = [value for value in values if isinstance(value, int)]
        if min(numbers) < 0 or max(numbers) >= len(class_names):
            bad = next(value for value in numbers if not 0 <= value < len(class_names))
            raise InputError(f"{where}: the label {bad} is none of the {len(class_names)} classes that it names")
        return numbers, tuple(map(same, class_names))
    if len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(f"{where}: labels are whole numbers or text, all of one kind")
    found: list[Any] = list(set(values))
    found.sort(key=natural if _decimal(values) else None)
    index = {value: label for label, value in enumerate(found)}
    return [index[value] for value in values], tuple(map(str, found))


def _decimal(values: Sequence[Any]) -> bool:
    """Whether text holds nothing but numbers, which are sorted as such."""
    return all(isinstance(value, str) and value.isdecimal() for value in values)


def _plain_label(value: Any) -> int | str | None:
    """A cell as a label; empty text, None and NaN are none."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return same(value.strip()) or None
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else str(value)
    if isinstance(value, int):
        return str(value) if isinstance(value, bool) else value
    return None if value is None else str(value)
