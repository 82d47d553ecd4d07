"""Classes and splits, read off the names of the files.

Three layouts are known, each perhaps inside one outer folder::

    cat/1.png  dog/1.png                   one folder a class
    train/cat/1.png  test/cat/1.png  …     the same, divided (val/ is not used)
    1.png  2.png                           no labels; also under train/ and test/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from softvq_cli.datasets.sources import Listing, Member
from softvq_cli.errors import InputError

_VALIDATION = {"val", "valid", "validation"}
_SPLIT_FOLDERS = {"train", "test"}


@dataclass(frozen=True)
class Layout:
    """The rows of an image data set before any is read: train rows first, then test, each sorted by path."""

    members: list[Member]
    labels: list[int] | None
    class_names: tuple[str, ...]
    train: int | None
    """The first so many rows are the train split; None: it has no split of its own."""


@dataclass(frozen=True)
class _Tree:
    """One folder: the files in it and below it, by path from here."""

    where: str
    files: list[tuple[tuple[str, ...], Member]]
    """Sorted by the parts of their path, so that the order does not depend on the file system."""
    folders: set[str]
    """The folders directly in it."""

    def below(self, name: str) -> _Tree:
        files = [(parts[1:], member) for parts, member in self.files if parts[0] == name and len(parts) > 1]
        return _Tree(f"{self.where}/{name}", files, {parts[0] for parts, _ in files if len(parts) > 1})

    def loose(self) -> list[Member]:
        """The files directly in it."""
        return [member for parts, member in self.files if len(parts) == 1]


def arrange(listing: Listing, where: str, *, archive: bool) -> Layout:
    """Find out which layout it is.

    Args:
        listing: the files and folders.
        where: what to call the source in messages.
        archive: in an archive, one outer folder may hold the images themselves.

    Raises:
        InputError: there are no images, a class is empty or the only one, or the layout is mixed.
    """
    files = [(tuple(member.name.split("/")), member) for member in listing.members]
    files.sort(key=lambda file: file[0])
    tree = _Tree(where, files, {name for name in listing.folders if "/" not in name})
    if not files:
        raise InputError(f"{where} holds no images; put one folder a class into it, or images without folders")
    filled = {"/".join(parts[:end]) for parts, _ in files for end in range(1, len(parts))}
    for name in sorted(listing.folders - filled)[:1]:
        raise InputError(f"{where}: the folder {name} is empty; remove it or put its images there")
    tree = _without_outer(tree, archive)
    for name in sorted(tree.folders):
        if name not in _SPLIT_FOLDERS and name.lower() in _SPLIT_FOLDERS:
            raise InputError(f"{tree.where}: is {name} a class or a split? Splits are train and test, in lower case")
    if {"train", "test"} <= tree.folders:
        return _divided(tree)
    if "train" in tree.folders and tree.folders <= _VALIDATION | {"train"}:
        raise InputError(f"{where} has train/ but no test/; rename the folder that is to be the test split to test")
    members, labels, names = _classes(tree)
    return Layout(members, labels, names, None)


def _without_outer(tree: _Tree, archive: bool) -> _Tree:
    """Step into a single outer folder, as archives have it; a single folder of images is a lonely class."""
    while len(tree.folders) == 1 and not tree.loose():
        (name,) = tree.folders
        inner = tree.below(name)
        if inner.loose() and not archive and name not in ("train", "test"):
            return tree
        tree = inner
    return tree


def _divided(tree: _Tree) -> Layout:
    """The layout with train/ and test/."""
    extra = sorted(tree.folders - _VALIDATION - {"train", "test"}) + [member.name for member in tree.loose()]
    if extra:
        raise InputError(f"{tree.where}: {extra[0]} lies beside train/ and test/; move it into one of them or away")
    train, train_labels, names = _classes(tree.below("train"))
    test, test_labels, test_names = _classes(tree.below("test"))
    if names != test_names:
        differing = sorted(set(names) ^ set(test_names))[0]
        raise InputError(f"{tree.where}: train/ and test/ have different classes: {differing} is in only one of them")
    labels = None if train_labels is None or test_labels is None else train_labels + test_labels
    return Layout(train + test, labels, names, len(train))


def _classes(tree: _Tree) -> tuple[list[Member], list[int] | None, tuple[str, ...]]:
    """(members, labels, class names) of a folder of class folders, or of one without folders."""
    loose = tree.loose()
    members = [member for _, member in tree.files]
    if len(loose) == len(members):
        return members, None, ()
    if loose:
        raise InputError(f"{tree.where}: {loose[0].name} lies beside class folders; move it into one of them or away")
    names = tuple(name for name, _ in groupby(parts[0] for parts, _ in tree.files))
    if len(names) == 1:
        raise InputError(
            f"{tree.where} has one class only, {names[0]}; add another, or put the images there without a class folder"
        )
    return members, _labels([parts[0] for parts, _ in tree.files], names), names


def _labels(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    index = {name: label for label, name in enumerate(names)}
    return [index[name] for name in classes]
