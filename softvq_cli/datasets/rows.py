"""Rows of a table → which images there are, with labels and splits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from softvq_cli.datasets.classes import NONE, minus_one, unlabelled
from softvq_cli.datasets.layout import Layout
from softvq_cli.datasets.naming import Role, natural, role_of, same, shorten
from softvq_cli.datasets.sources import Member
from softvq_cli.datasets.splits import second_split
from softvq_cli.errors import InputError, Message, param, shown

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
            raise InputError("{} has no column {!r} ({}); it has {}", where, name, param(setting), shorten(names, 12))
    image = chosen["image_column"] or (images[0] if len(images) == 1 else _plain(names, IMAGE + IMAGE_MORE))
    if image is None:
        raise InputError(
            "{} has no column that is plainly the image; name it with {image_column}: {}", where, shorten(names, 12)
        )
    label = chosen["label_column"] or (labels[0] if len(labels) == 1 else _plain(names, LABEL))
    split = chosen["split_column"] or _plain(names, SPLIT)
    unused = [name for name in names if name not in (image, label, split)]
    notes = [f"columns that are not used: {shorten(unused, 8)}"] if unused else []
    if label is None and unused:
        notes = [
            Message("no column is plainly the label ({label_column} names one of {}): no labels", shorten(unused, 8))
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
        InputError: there are none, only some of a split have a label, some have no split, or a label has no name.
    """
    notes = list(notes)
    if not rows:
        raise InputError(f"{where} holds no images")
    by_role: dict[Role | None, list[Row]] = {}
    for row in rows:
        by_role.setdefault(row.role, []).append(replace(row, label=_plain_label(row.label)))
    labels = {role: [row.label for row in part] for role, part in by_role.items()}
    bare = unlabelled(labels, named=class_names is not None)
    roles = _roles(where, by_role, bare, notes)
    used = {role: by_role[role] for role in roles}
    members = [row.member for part in used.values() for row in part]
    train = len(used[roles[0]]) if len(roles) == 2 else None
    if all(role in bare for role in roles):
        if any(row.label is not None for row in rows):
            notes.append(f"no labels: {bare[roles[0]]}")
        return Layout(members, None, (), train, notes)
    numbers, names = _numbered(where, {role: part for role, part in used.items() if role not in bare}, class_names)
    notes += [f"the {role} split has no labels: {bare[role]}" for role in roles if role in bare]
    if class_names is None:
        notes += minus_one([label for role in roles if role not in bare for label in labels[role]])
    return Layout(
        members, [n for role in roles for n in numbers.get(role, [NONE] * len(used[role]))], names, train, notes
    )


def _roles(
    where: str, by_role: Mapping[Role | None, Sequence[Row]], bare: Mapping[Role | None, str], notes: list[str]
) -> list[Role | None]:
    """The training and the test split, or the only one there is."""
    if None in by_role and len(by_role) > 1:
        raise InputError(f"{where}: {by_role[None][0].member.name} has no split, and others have one")
    if len(by_role) == 1:
        (only,) = by_role
        if only is not None:
            notes.append(f"all images are of one split, {only}: some are held out as the test split")
        return [only]
    if "train" not in by_role:
        raise InputError(f"{where} has the splits {' and '.join(sorted(map(str, by_role)))}, but no train split")
    second, said = second_split([role for role in by_role if role is not None], bare)
    notes += said
    if second == "test" and "validation" in by_role:
        count = len(by_role["validation"])
        notes.append(f"not used, for there is a test split: validation ({count} images)")
    return ["train", second]


def _numbered(
    where: str, parts: Mapping[Role | None, Sequence[Row]], class_names: Sequence[str] | None
) -> tuple[dict[Role | None, list[int]], tuple[str, ...]]:
    """Labels from 0 for each split, and the name of each."""
    for role, rows in parts.items():
        missing = [row for row in rows if row.label is None or (class_names and row.label == NONE)]
        if missing:
            what, odd = f"of the {role} split " if role else "", missing[0]
            mark = "" if odd.label is None else f" (it is {NONE})"
            raise InputError(
                f"{where}: {len(missing)} of {len(rows)} images {what}have no label, {odd.member.name} the first"
                f"{mark}; take them out, or give them one"
            )
    values = [row.label for rows in parts.values() for row in rows]
    kinds = {type(value) for value in values}
    if kinds == {int} and class_names:
        bad = next((value for value in values if not 0 <= value < len(class_names)), None)
        if bad is not None:
            raise InputError(f"{where}: the label {shown(bad)} is none of the {len(class_names)} classes that it names")
        index, names = {value: value for value in values}, tuple(map(same, class_names))
    elif len(kinds) > 1 or not kinds <= {int, str}:
        raise InputError(f"{where}: labels are whole numbers or text, all of one kind")
    else:
        found = sorted(set(values), key=_in_order if all(map(_is_decimal, values)) else None)
        index, names = {value: label for label, value in enumerate(found)}, tuple(map(str, found))
    return {role: [index[row.label] for row in rows] for role, rows in parts.items()}, names


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) is not None


def _in_order(value: str) -> tuple[Any, ...]:
    """Text that is a number sorts as one, however long: 2 before 10, and -1 before both."""
    return (0, value) if value.startswith("-") else (1, natural(value), value)


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
