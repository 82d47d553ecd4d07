"""Find classes and splits in the paths of the files.

There are three known layouts, optionally inside one outer folder::

    cat/1.png  dog/1.png                   one folder per class
    train/cat/1.png  test/cat/1.png  …     the same with splits
    1.png  2.png                           no labels; also in train/ and test/

If a folder may be a class or a split, both interpretations are shown in an error, unless ``folders`` decides it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from softvq_cli.datasets.naming import ROLES, Role, is_document, roles_of, same, shorten, split_in, words_of
from softvq_cli.datasets.records import Records, Source
from softvq_cli.errors import InputError, Message
from softvq_cli.words import Folders

_FEW = 4
"""With at most this many folders, one with the name of a split is not a class by default."""
_WAYS = Message("{folders} classes treats every folder as a class; otherwise name the splits train and test")


def arrange(source: Source, folders: Folders = "auto") -> Records:
    """Determine the layout."""
    files, where = source.files, str(source.path)
    notes = list(files.notes)
    skipped = {name for name in files.names if is_document(name)} | _descriptions(files.names)
    rows = [row for row, name in enumerate(files.names) if name not in skipped]
    rows.sort(key=lambda row: _by_parts(files.names[row]))
    names = [files.names[row] for row in rows]
    if not rows:
        raise InputError(f"{where} holds no images; add images, or one folder of images per class")
    if skipped:
        notes.append(f"skipped, not images: {shorten(sorted(skipped))}")
    table = next((name for name in names if name.lower().endswith((".csv", ".tsv", ".jsonl"))), None)
    if table is not None:
        raise InputError(
            f"{where}: {table} is not an image; if it holds the labels, give its path, otherwise remove it"
        )
    if source.hidden:
        notes.append(f"skipped, hidden files: {shorten(sorted(source.hidden))}")
    empty = sorted(source.folders - _filled(names))
    if empty:
        notes.append(f"skipped, folders without images: {shorten(empty)}")
    outer = _outer_folder(names, archive=source.archive)
    where = f"{where}/{outer}".rstrip("/")
    paths = [name[len(outer) :] for name in names]
    splits = _splits(where, paths, folders, notes)
    roles: list[Role | None] = [None] * len(rows)
    called: dict[Role | None, str] = {}
    if splits is not None:
        heads = _heads(paths)
        roles = [splits[head] for head in heads]
        called = {role: name for name, role in splits.items()}
        paths = [path[len(head) + 1 :] for path, head in zip(paths, heads, strict=True)]
        if (called["train"], called.get("test")) != ("train", "test") and "test" in called:
            notes.append(f"{called['train']} is the training split, {called['test']} the test split")
    if folders != "classes":
        _refuse_masks(where, paths, _WAYS if splits is None else "rename the folders if they are classes")
    labels, class_names = _classes(where, names, paths, roles, called)
    images = files.take(rows)
    return images.divided(where, roles, labels, class_names=class_names or None, notes=notes, called=called)


def _descriptions(names: Sequence[str]) -> set[str]:
    """Text files next to an image with the same name: captions or boxes, which are not used."""
    texts = {name for name in names if name.lower().endswith((".txt", ".json", ".xml"))}
    images = {name.rpartition(".")[0] for name in names if name not in texts} if texts else set()
    return {name for name in texts if name.rpartition(".")[0] in images}


def _by_parts(name: str) -> tuple[str, ...]:
    """A sort key by the components of a path, whatever characters they start with."""
    parts = name.replace("/", "\0")
    return (parts,) if parts.isascii() else (same(parts), parts)


def _filled(names: Iterable[str]) -> set[str]:
    filled: set[str] = set()
    for folder in {name.rpartition("/")[0] for name in names}:
        parts = folder.split("/")
        filled.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return filled


def _heads(paths: Sequence[str]) -> list[str]:
    """The first folder of each path; empty for files that are not in a folder."""
    return [head if mark else "" for head, mark, _ in (path.partition("/") for path in paths)]


def _outer_folder(names: Sequence[str], *, archive: bool) -> str:
    """The single outer folder of all images, as in archives; a single folder of images is one class instead."""
    outer = ""
    while "" not in (heads := set(_heads([name[len(outer) :] for name in names]))) and len(heads) == 1:
        (head,) = heads
        inner = f"{outer}{head}/"
        loose = any("/" not in name[len(inner) :] for name in names)
        if loose and not archive and head not in ("train", "test"):
            break
        outer = inner
    return outer


def _splits(where: str, paths: Sequence[str], folders: Folders, notes: list[str]) -> dict[str, Role] | None:
    """The split of each top-level folder, or None if they are classes."""
    heads = set(_heads(paths))
    tops, loose = sorted(heads - {""}), next((path for path in paths if "/" not in path), None)
    if folders == "classes" or not tops:
        return None
    among = {name: split_in(name) or split_in(name[:-1]) for name in tops}  # also ``traina``
    if len({*among.values()} - {None}) > 1 and any(among[name] and not role for name, role in roles_of(tops).items()):
        text = "{}: {} hold both the split and the class in their names; make folders train/A and test/A of them, or {}"
        raise InputError(text, where, shorten(name for name in tops if among[name]), _WAYS)
    roles = sorted(((name, role) for name, role in roles_of(tops).items() if role), key=lambda pair: pair[0])
    splits = dict(sorted(roles, key=lambda pair: ROLES.index(pair[1])))
    others = [name for name in tops if name not in splits]
    if {"train", "test"} <= set(splits.values()) or (splits and not others) or folders == "splits":
        extra = others[0] if others else loose
        if extra or not splits:
            splits_named = " and ".join(f"{name}/" for name in splits) or "splits"
            text = "{}: {} is next to {}; move it into one of them or remove it, or {}"
            raise InputError(text, where, extra or "nothing", splits_named, _WAYS)
        return _one_each(where, splits)
    if splits and (len(tops) <= _FEW or len(splits) > 1):
        text = "{}: is {} a class like {}, or a split? {}"
        raise InputError(text, where, next(iter(splits)), shorten(others), _WAYS)
    _refuse_other_divisions(where, paths, tops)
    if splits:
        notes.append(f"{next(iter(splits))} is treated as a class, as one of {len(tops)} folders")
    return None


def _one_each(where: str, splits: dict[str, Role]) -> dict[str, Role]:
    for role in ("train", "test"):
        names = [name for name, its_role in splits.items() if its_role == role]
        if len(names) > 1:
            text = "{}: {} can all be the {} split; put their images into one folder, or {}"
            raise InputError(text, where, " and ".join(names), role, _WAYS)
    missing = next((role for role in ("train", "test") if role not in splits.values()), None)
    if missing == "test" and list(splits.values()).count("validation") == 1:
        return splits
    if missing is not None:
        text = "{} has {} but no {} split; rename the folder to {}, or {}"
        raise InputError(text, where, shorten(sorted(splits)), missing, missing, _WAYS)
    return splits


_MASK = "masks?|annotations?|segmentations?|labels?|gt|(?:ground)?truth|targets?"
_MASKED = re.compile(f"(?<![a-z])(?:{_MASK}|seg|image|img)(?![a-z])")


def _refuse_masks(where: str, paths: Sequence[str], way: object) -> None:
    """Refuse masks next to their images, which have the same names except for a word: ``1_mask.png``."""
    stems: dict[str, set[str]] = {head: set() for head in _heads(paths)}
    masks = [top for top in stems if any(re.fullmatch(_MASK, word) for word in words_of(top))]
    for top, mark, name in (path.partition("/") for path in paths if masks):
        if mark:
            stems[top].add(_MASKED.sub("", name.rpartition(".")[0].lower()).strip("-_. "))
    alike = [top for top in stems if any(stems[top] & stems[mask] for mask in masks)]
    if len(alike) > len(masks):
        text = "{}: {} have files with the same names, like images and masks; move the masks away, or {}"
        raise InputError(text, where, shorten((f"{top}/" for top in sorted(alike)), 8), way)


def _refuse_other_divisions(where: str, paths: Sequence[str], tops: Sequence[str]) -> None:
    """Refuse class folders that contain splits."""
    folders: dict[str, set[str]] = {name: set() for name in tops}
    for top, inner, *_ in (path.split("/") for path in paths if path.count("/") > 1):
        folders[top].add(inner)
    parts = set().union(*folders.values())
    roles = {*roles_of(parts).values()}
    if len(roles - {None}) > 1 or (roles & {"train", "test"} and None not in roles):
        text = "{}: the classes hold splits, {}; put the splits outside, as train/CLASS and test/CLASS, or {}"
        raise InputError(text, where, shorten(sorted(parts)), _WAYS)
    only_folders = all(path.count("/") > 1 for path in paths)
    if only_folders and len(tops) > 1 and len(parts) > 1 and all(inner == parts for inner in folders.values()):
        text = "{}: {} contain folders with the same names, like splits; are they splits or classes? {}"
        raise InputError(text, where, shorten(tops), _WAYS)


def _classes(
    where: str,
    names: Sequence[str],
    paths: Sequence[str],
    roles: Sequence[Role | None],
    called: Mapping[Role | None, str],
) -> tuple[list[int | None] | None, list[str]]:
    """(class of each image, class names) from the folders of the images; None without such folders."""
    heads = [same(head) for head in _heads(paths)]
    classes = sorted({*heads} - {""})
    if not classes:
        return None, []
    by_role = {
        role: {head for head, its_role in zip(heads, roles, strict=True) if its_role == role} for role in {*roles}
    }
    for role, inside in by_role.items():
        if "" in inside and len(inside) > 1:
            loose = next(row for row, head in enumerate(heads) if not head and roles[row] == role)
            text = f"{where}: {names[loose]} is next to class folders; move it into one of them or remove it"
            raise InputError(text)
    train, test = (by_role.get(role, {""}) - {""} for role in ("train", "test"))
    if train and test and train != test:
        both = f"{called['train']}/ and {called['test']}/ have different classes"
        raise InputError(f"{where}: {both}: {min(train ^ test)} is only in one of them")
    if len(classes) == 1:
        raise InputError(f"{where} has only one class, {classes[0]}; add another, or remove the class folder")
    index = {name: number for number, name in enumerate(classes)}
    return [index.get(head) for head in heads], classes
