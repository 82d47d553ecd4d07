"""Classes and splits, read off the names of the files.

Three layouts are known, each perhaps inside one outer folder::

    cat/1.png  dog/1.png                   one folder a class
    train/cat/1.png  test/cat/1.png  …     the same, divided
    1.png  2.png                           no labels; also under train/ and test/

What may be a class or a split is refused with both readings, unless ``folders`` decides it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from softvq_cli.datasets.naming import Role, is_document, roles_of, same, shorten
from softvq_cli.datasets.records import NONE, Records, Source
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Folders

_FEW = 4
"""In so few folders one that is named like a split is no class without being asked."""
_ORDER: tuple[Role, ...] = ("train", "test", "validation")


class _Tree:
    """One folder: the files in it and below it."""

    def __init__(self, where: str, names: Sequence[str], rows: Sequence[int], start: int = 0) -> None:
        self.where = where
        self.names = names
        """Of all files."""
        self.rows = rows
        """The files below here, sorted by the parts of their path and not as the file system has them."""
        self.start = start
        """Where the names of files in this folder begin, behind those of the folders around it."""

    @cached_property
    def heads(self) -> list[str]:
        """For each row the folder directly in this one that it lies in; empty for a file directly in it."""
        folders: dict[str, str] = {}
        heads = (self.names[row][self.start :].partition("/") for row in self.rows)
        return [folders.setdefault(head, head) if mark else "" for head, mark, _ in heads]

    @cached_property
    def folders(self) -> set[str]:
        """The folders directly in it."""
        return set(self.heads) - {""}

    @cached_property
    def loose(self) -> list[str]:
        """The files directly in it, by their paths."""
        return [self.names[row] for row, head in zip(self.rows, self.heads, strict=True) if not head]

    def below(self, name: str) -> _Tree:
        """One folder directly in it."""
        rows = [row for row, head in zip(self.rows, self.heads, strict=True) if head == name]
        return _Tree(f"{self.where}/{name}", self.names, rows, self.start + len(name) + 1)

    @cached_property
    def inside(self) -> dict[str, set[str]]:
        """The paths within each folder directly in it."""
        paths: dict[str, set[str]] = {name: set() for name in self.folders}
        for row, head in zip(self.rows, self.heads, strict=True):
            if head:
                paths[head].add(self.names[row][self.start + len(head) + 1 :])
        return paths


def arrange(source: Source, folders: Folders = "auto") -> Records:
    """Find out which layout it is."""
    files, where = source.listing.files, str(source.path)
    notes = list(files.notes)
    passed = {name for name in files.names if is_document(name)}
    passed |= _descriptions(files.names)
    rows = [row for row, name in enumerate(files.names) if name not in passed]
    rows.sort(key=lambda row: _by_parts(files.names[row]))
    if not rows:
        raise InputError(f"{where} holds no images; add images, or one folder of images per class")
    if passed:
        notes.append(f"skipped, not images: {shorten(sorted(passed))}")
    tables = [name for row in rows if (name := files.names[row]).lower().endswith((".csv", ".tsv", ".jsonl"))]
    if tables:
        raise InputError(
            f"{where}: {tables[0]} is not an image; if it holds the labels, give its path, otherwise remove it"
        )
    if source.listing.hidden:
        notes.append(f"skipped, hidden files: {shorten(sorted(source.listing.hidden))}")
    empty = sorted(source.listing.folders - _filled(files.names[row] for row in rows))
    if empty:
        notes.append(f"skipped, folders without images: {shorten(empty)}")
    tree = _without_outer(_Tree(where, files.names, rows), archive=source.archive)
    roles = _roles(tree, folders, notes)
    if roles is not None:
        return _divided(files, tree, roles, notes)
    labels, names = _classes(tree)
    return files.take(tree.rows, labels=labels, class_names=names, notes=notes)


def _descriptions(names: Sequence[str]) -> set[str]:
    """Text files next to an image of the same name: captions and boxes, which are not used."""
    texts = {name for name in names if name.lower().endswith((".txt", ".json", ".xml"))}
    images = {name.rpartition(".")[0] for name in names if name not in texts} if texts else set()
    return {name for name in texts if name.rpartition(".")[0] in images}


def _by_parts(name: str) -> tuple[str, ...]:
    """A key that sorts by the parts of a path, whatever characters they begin with."""
    parts = name.replace("/", "\0")
    return (parts,) if parts.isascii() else (same(parts), parts)


def _filled(names: Iterable[str]) -> set[str]:
    """Every folder in which one of these files lies."""
    folders = {name.rpartition("/")[0] for name in names}
    return {
        folder[:end] for folder in folders for end in (*(at for at, mark in enumerate(folder) if mark == "/"), None)
    }


def _without_outer(tree: _Tree, *, archive: bool) -> _Tree:
    """Step into a single outer folder, as archives have it; a single folder of images is a lonely class."""
    while len(tree.folders) == 1 and not tree.loose:
        (name,) = tree.folders
        inner = tree.below(name)
        if inner.loose and not archive and name not in ("train", "test"):
            return tree
        tree = inner
    return tree


def _roles(tree: _Tree, folders: Folders, notes: list[str]) -> dict[str, Role] | None:
    """The split that each folder at the top stands for, or None where they are classes."""
    if folders == "classes" or not tree.folders:
        return None
    named = {name: role for name, role in sorted(roles_of(tree.folders).items()) if role is not None}
    splits = dict(sorted(named.items(), key=lambda item: _ORDER.index(item[1])))
    others = sorted(tree.folders - set(splits))
    ways = Message("{folders} classes treats every folder as a class; otherwise name the splits train and test")
    if {"train", "test"} <= set(splits.values()) or (splits and not others) or folders == "splits":
        if others or tree.loose or not splits:
            extra = (others or tree.loose or ["nothing"])[0]
            beside = " and ".join(f"{name}/" for name in splits) or "splits"
            aside = "{}: {} is next to {}; move it into one of them or remove it, or {}"
            raise InputError(aside, tree.where, extra, beside, ways)
        return splits
    if splits and (len(tree.folders) <= _FEW or len(splits) > 1):
        which = "{}: is {} a class like {}, or a split? {}"
        raise InputError(which, tree.where, next(iter(splits)), shorten(others), ways)
    _refuse_other_divisions(tree, ways)
    if splits:
        notes.append(f"{next(iter(splits))} is treated as a class, as one of {len(tree.folders)} folders")
    elif _recur(tree):
        raise InputError(
            "{}: {} contain folders with the same names, like splits; are they splits or classes? {}",
            *(tree.where, shorten(sorted(tree.folders)), ways),
        )
    return None


def _refuse_other_divisions(tree: _Tree, ways: str) -> None:
    """Splits within the class folders, classes within the names of the splits, masks next to their images."""
    glued = {name: _GLUED.fullmatch(name) for name in tree.folders}
    if len({match[1].lower() for match in glued.values() if match}) > 1 and all(glued.values()):
        raise InputError(
            "{}: {} hold both the split and the class in their names; make folders train/A and test/A of them, or {}",
            *(tree.where, shorten(sorted(tree.folders)), ways),
        )
    inside = tree.inside
    parts = {path.partition("/")[0] for paths in inside.values() for path in paths if "/" in path}
    inner_roles = {*roles_of(parts).values()}
    if inner_roles & {"train", "test"} and None not in inner_roles:
        raise InputError(
            "{}: the classes hold splits, {}; put the splits outside, as train/CLASS and test/CLASS, or {}",
            *(tree.where, shorten(sorted(parts)), ways),
        )
    masks = [name for name in tree.folders if not _MASKS.isdisjoint(re.split(r"[^a-z]+", name.lower()))]
    stems = {name: {path.rpartition(".")[0] for path in paths} for name, paths in inside.items()}
    pairs = [(name, mask) for mask in masks for name in sorted(set(stems) - set(masks)) if stems[mask] & stems[name]]
    if pairs:
        (name, mask), *_ = pairs
        raise InputError(
            "{}: {}/ and {}/ have files with the same names, like images and masks; give the path of {}/, or {}",
            *(tree.where, name, mask, name, ways),
        )


_GLUED = re.compile(r"(train|test|val)(?:ing)?[-_]?([A-Z]|\d)")
"""``trainA``, ``testB``: a split and a class in one name."""
_MASKS = frozenset(("mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "labels", "gt"))


def _recur(tree: _Tree) -> bool:
    """Whether all folders hold nothing but folders, the same in each."""
    inside = tree.inside
    if tree.loose or any("/" not in path for paths in inside.values() for path in paths):
        return False
    first, *others = ({same(path.partition("/")[0]) for path in paths} for paths in inside.values())
    return bool(others) and len(first) > 1 and all(folders == first for folders in others)


def _divided(files: Records, tree: _Tree, roles: dict[str, Role], notes: list[str]) -> Records:
    """The layout with a folder for each split."""
    by_role = {role: [name for name, its_role in roles.items() if its_role == role] for role in _ORDER}
    several = next((role for role in _ORDER[:2] if len(by_role[role]) > 1), None)
    if several is not None:
        raise InputError(
            "{}: {} can all be the {} split; put their images into one folder, or {folders} classes treats "
            "every folder as a class",
            *(tree.where, " and ".join(by_role[several]), several),
        )
    _choose_test(tree, by_role, notes)
    missing = next((role for role in _ORDER[:2] if not by_role[role]), None)
    if missing is not None:
        raise InputError(
            "{} has {} but no {} split; rename the folder to {}, or {folders} classes treats every folder as a class",
            *(tree.where, shorten(sorted(roles)), missing, missing),
        )
    (first,), (second,) = by_role["train"], by_role["test"]
    if (first, second) != ("train", "test") and "test" in roles.values():
        notes.append(f"{first} is the training split, {second} the test split")
    parts = [tree.below(first), tree.below(second)]
    labels, class_names = zip(*map(_classes, parts), strict=True)
    if all(class_names) and class_names[0] != class_names[1]:
        differing = sorted(set(class_names[0]) ^ set(class_names[1]))[0]
        raise InputError(
            f"{tree.where}: {first}/ and {second}/ have different classes: {differing} is only in one of them"
        )
    if any(class_names):
        notes += [
            f"{name} has no class folders: its images have no labels"
            for name, names in zip((first, second), class_names, strict=True)
            if not names
        ]
        labels = tuple(
            np.full(len(part.rows), NONE, np.int64) if numbers is None else numbers
            for part, numbers in zip(parts, labels, strict=True)
        )
    return files.take(
        [row for part in parts for row in part.rows],
        labels=np.concatenate(labels) if any(class_names) else None,
        class_names=class_names[0] or class_names[1],
        train=len(parts[0].rows),
        notes=notes,
    )


def _choose_test(tree: _Tree, by_role: dict[Role, list[str]], notes: list[str]) -> None:
    """Have the validation split stand for a test split that is not there or whose images have no labels."""
    validation = by_role["validation"]
    bare = {role for role, names in by_role.items() if names and not any(tree.below(name).folders for name in names)}
    if not by_role["test"] and len(validation) == 1:
        by_role["test"] = validation
        notes.append(f"there is no test split: {validation[0]} is used instead")
    elif bare == {"test"} and len(validation) == 1:
        (hidden,) = by_role["test"]
        by_role["test"] = validation
        count = len(tree.below(hidden).rows)
        notes.append(f"{hidden} has no class folders and so no labels ({count} files): {validation[0]} is used as test")
    elif validation:
        count = sum(len(tree.below(name).rows) for name in validation)
        notes.append(f"not used, because there is a test split: {shorten(validation)} ({count} files)")


def _classes(tree: _Tree) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(labels, class names) of a folder of class folders, or of one without folders."""
    if len(tree.loose) == len(tree.rows):
        return None, ()
    if tree.loose:
        raise InputError(
            f"{tree.where}: {tree.loose[0]} is next to class folders; move it into one of them or remove it"
        )
    spelt = {folder: same(folder) for folder in tree.folders}
    names = tuple(sorted(set(spelt.values())))
    if len(names) == 1:
        raise InputError(f"{tree.where} has only one class, {names[0]}; add another, or remove the class folder")
    index = {name: label for label, name in enumerate(names)}
    return np.array([index[spelt[head]] for head in tree.heads], np.int64), names
