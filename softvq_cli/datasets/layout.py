"""Classes and splits, read off the names of the files.

Three layouts are known, each perhaps inside one outer folder::

    cat/1.png  dog/1.png                   one folder a class
    train/cat/1.png  test/cat/1.png  …     the same, divided
    1.png  2.png                           no labels; also under train/ and test/

What may be a class or a split is refused with both readings, unless ``folders`` decides it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from softvq_cli.datasets.classes import NONE
from softvq_cli.datasets.naming import Role, roles_of, same, shorten
from softvq_cli.datasets.sources import Member, Source
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Folders

_FEW = 4
"""In so few folders one that is named like a split is no class without being asked."""
_ORDER: tuple[Role, ...] = ("train", "test", "validation")
_DOCUMENT = re.compile(
    r"(readme|licen[cs]e|copying|citation|authors|changelog|notice|dataset_infos?)([._-].*)?"
    r"|metadata\.(csv|tsv|jsonl)|.*\.(md|md5|sha1|sha256|sha512|rst|bib|yml|yaml)|(md5|sha\d+|check)sums?(\.txt)?",
    re.IGNORECASE,
)
"""Files that accompany a data set and are none of its images."""


@dataclass(frozen=True)
class Layout:
    """The rows of an image data set before any is read: train rows first, then test, each sorted by path."""

    members: list[Member]
    labels: list[int] | None
    class_names: tuple[str, ...]
    train: int | None
    """The first so many rows are the train split; None: it has no split of its own."""
    notes: list[str] = field(default_factory=list)
    """What was passed over or used otherwise than it is named, a line each."""


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


def arrange(source: Source, folders: Folders = "auto") -> Layout:
    """Find out which layout it is.

    Args:
        source: the files and folders.
        folders: whether the folders at the top are classes or splits; ``auto``: as their names say.

    Raises:
        InputError: there are no images, a class is the only one, or the layout is mixed or may be two things.
    """
    listing, where, notes = source.listing, str(source.path), list(source.listing.notes)
    passed = sorted(member.name for member in listing.members if is_document(member.name))
    files = [(tuple(member.name.split("/")), member) for member in listing.members if not is_document(member.name)]
    files.sort(key=lambda file: (tuple(map(same, file[0])), file[0]))
    if not files:
        raise InputError(f"{where} holds no images; put one folder a class into it, or images without folders")
    if passed:
        notes.append(f"passed over, for they are no images: {shorten(passed)}")
    if listing.hidden:
        notes.append(f"passed over, for their names are hidden: {shorten(sorted(listing.hidden))}")
    filled = {"/".join(parts[:end]) for parts, _ in files for end in range(1, len(parts))}
    empty = sorted(listing.folders - filled)
    if empty:
        notes.append(f"passed over, for they hold no images: the folders {shorten(empty)}")
    tree = _Tree(where, files, {parts[0] for parts, _ in files if len(parts) > 1})
    tree = _without_outer(tree, archive=source.archive)
    roles = _roles(tree, folders, notes)
    if roles is not None:
        return _divided(tree, roles, notes)
    members, labels, names = _classes(tree)
    return Layout(members, labels, names, None, notes)


def is_document(name: str) -> bool:
    """Whether this file only accompanies a data set."""
    return _DOCUMENT.fullmatch(name.rsplit("/", 1)[-1]) is not None


def _without_outer(tree: _Tree, *, archive: bool) -> _Tree:
    """Step into a single outer folder, as archives have it; a single folder of images is a lonely class."""
    while len(tree.folders) == 1 and not tree.loose():
        (name,) = tree.folders
        inner = tree.below(name)
        if inner.loose() and not archive and name not in ("train", "test"):
            return tree
        tree = inner
    return tree


def _roles(tree: _Tree, folders: Folders, notes: list[str]) -> dict[str, Role] | None:
    """The split that each folder at the top stands for, or None where they are classes.

    Raises:
        InputError: they may be either.
    """
    if folders == "classes" or not tree.folders:
        return None
    found = {name: role for name, role in sorted(roles_of(tree.folders).items()) if role is not None}
    known = dict(sorted(found.items(), key=lambda item: _ORDER.index(item[1])))
    others = sorted(tree.folders - set(known))
    ways = Message("{folders} classes takes every folder for a class; else name the splits train and test")
    if {"train", "test"} <= set(known.values()) or (known and not others) or folders == "splits":
        if others or tree.loose() or not known:
            extra = (others or [member.name for member in tree.loose()] or ["nothing"])[0]
            beside = " and ".join(f"{name}/" for name in known) or "splits"
            aside = "{}: {} lies beside {}; move it into one of them or away, or {}"
            raise InputError(aside, tree.where, extra, beside, ways)
        return known
    if known and (len(tree.folders) <= _FEW or len(known) > 1):
        which = "{}: is {} a class or a split, beside {}? {}"
        raise InputError(which, tree.where, next(iter(known)), shorten(others), ways)
    if known:
        notes.append(f"{next(iter(known))} is taken for a class, as one of {len(tree.folders)} folders")
    elif _recur(tree):
        raise InputError(
            "{}: {} hold folders of the same names, as splits do; are they splits or classes? {}",
            *(tree.where, shorten(sorted(tree.folders)), ways),
        )
    return None


def _recur(tree: _Tree) -> bool:
    """Whether all folders hold nothing but folders, the same in each."""
    inner: dict[str, set[str]] = {name: set() for name in tree.folders}
    for parts, _ in tree.files:
        if len(parts) < 3:
            return False
        inner[parts[0]].add(same(parts[1]))
    first = next(iter(inner.values()))
    return len(inner) > 1 and len(first) > 1 and all(names == first for names in inner.values())


def _divided(tree: _Tree, roles: dict[str, Role], notes: list[str]) -> Layout:
    """The layout with a folder a split."""
    by_role: dict[Role, list[str]] = {}
    role: Role
    for name, role in roles.items():
        by_role.setdefault(role, []).append(name)
    for role in ("train", "test"):
        if len(by_role.get(role, [])) > 1:
            raise InputError(
                "{}: {} may all be the {} split; put their images into one folder, or {folders} classes takes "
                "every folder for a class",
                *(tree.where, " and ".join(by_role[role]), role),
            )
    _choose_test(tree, by_role, notes)
    for role in ("train", "test"):
        if role not in by_role:
            raise InputError(
                "{} has {} but no {} split; name the folder that is to be it {}, or {folders} classes takes "
                "every folder for a class",
                *(tree.where, shorten(sorted(roles)), role, role),
            )
    (first,), (second,) = by_role["train"], by_role["test"]
    if (first, second) != ("train", "test") and "test" in roles.values():
        notes.append(f"{first} is the training split, {second} the test split")
    train, train_labels, names = _classes(tree.below(first))
    test, test_labels, test_names = _classes(tree.below(second))
    if names and test_names and names != test_names:
        differing = sorted(set(names) ^ set(test_names))[0]
        raise InputError(
            f"{tree.where}: {first}/ and {second}/ have different classes: {differing} is in only one of them"
        )
    notes += [
        f"{name} has no class folders: its images have no labels"
        for name, own, other in ((first, train_labels, test_labels), (second, test_labels, train_labels))
        if own is None and other is not None
    ]
    if train_labels is None and test_labels is None:
        return Layout(train + test, None, (), len(train), notes)
    labels = (train_labels or [NONE] * len(train)) + (test_labels or [NONE] * len(test))
    return Layout(train + test, labels, names or test_names, len(train), notes)


def _choose_test(tree: _Tree, by_role: dict[Role, list[str]], notes: list[str]) -> None:
    """Have the validation split stand for a test split that is not there or whose images have no labels."""
    validation = by_role.get("validation", [])
    bare = {role for role, names in by_role.items() if not any(tree.below(name).folders for name in names)}
    if "test" not in by_role and len(validation) == 1:
        by_role["test"] = validation
        notes.append(f"there is no test split: {validation[0]} is used as such")
    elif bare == {"test"} and len(validation) == 1:
        (hidden,) = by_role["test"]
        by_role["test"] = validation
        count = len(tree.below(hidden).files)
        notes.append(f"{hidden} has no class folders and so no labels ({count} files): {validation[0]} is used as test")
    elif validation:
        count = sum(len(tree.below(name).files) for name in validation)
        notes.append(f"not used, for there is a test split: {shorten(validation)} ({count} files)")


def _classes(tree: _Tree) -> tuple[list[Member], list[int] | None, tuple[str, ...]]:
    """(members, labels, class names) of a folder of class folders, or of one without folders."""
    loose = tree.loose()
    members = [member for _, member in tree.files]
    if len(loose) == len(members):
        return members, None, ()
    if loose:
        raise InputError(f"{tree.where}: {loose[0].name} lies beside class folders; move it into one of them or away")
    classes = [same(parts[0]) for parts, _ in tree.files]
    names = tuple(sorted(set(classes)))
    if len(names) == 1:
        raise InputError(
            f"{tree.where} has one class only, {names[0]}; add another, or put the images there without a class folder"
        )
    return members, _labels(classes, names), names


def _labels(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    index = {name: label for label, name in enumerate(names)}
    return [index[name] for name in classes]
