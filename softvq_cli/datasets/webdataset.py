"""WebDataset: .tar files in which members with the same base name form a sample, ``0001.jpg`` and ``0001.cls``."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Container, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets.archive import open_archive
from softvq_cli.datasets.naming import differ, missing_parts, role_of, roles_of_files, shorten, stem_of
from softvq_cli.datasets.records import Records, Source
from softvq_cli.datasets.tables import LABEL, column_called
from softvq_cli.errors import InputError, one_line

_IMAGES = frozenset(("jpg", "jpeg", "png", "webp"))
_LABELS = ("cls", "json", "txt")
"""Members that may have the label of a sample, in order of precedence."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_MOST_SHARDS = 100_000


def is_pattern(data: str) -> bool:
    """Whether ``data`` is a pattern for several .tar files."""
    return _BRACES.search(data) is not None and ".tar" in data


def expand(pattern: str) -> list[str]:
    """Expand a pattern like ``train-{000000..000009}.tar`` or ``{train,test}.tar``."""
    parts: list[list[str]] = []
    end = 0
    for match in _BRACES.finditer(pattern):
        parts.append([pattern[end : match.start()]])
        if match[3] is not None:
            parts.append(match[3].split(","))
        else:
            first, last = int(match[1]), int(match[2])
            if not 0 <= last - first < _MOST_SHARDS:
                raise InputError(f"{pattern[:200]}: {match[0]} counts upwards, to at most {_MOST_SHARDS} files")
            parts.append([f"{number:0{len(match[1])}}" for number in range(first, last + 1)])
        end = match.end()
    parts.append([pattern[end:]])
    return ["".join(choice) for choice in itertools.islice(itertools.product(*parts), _MOST_SHARDS)]


class Shards(Source):
    """Several archives as one source; the path of each member starts with the path of its shard, ``train/0000.tar``.

    The position of a file combines the index of its shard (upper bits) and its position in the shard.
    """

    archive = True

    def __init__(self, path: Path, shards: Sequence[Path], name_encoding: str | None) -> None:
        self.archives = [open_archive(shard, name_encoding) for shard in shards]
        self.chosen = not path.is_dir()
        """Whether the user chose them, by a pattern."""
        root = Path(os.path.commonpath([shard.parent for shard in shards])) if self.chosen else path
        self.shards = [shard.relative_to(root).as_posix() for shard in shards]
        self.roles = roles_of_files(self.shards)
        self.differ = differ(self.shards, self.roles)
        """Whether their names may be those of classes or configurations."""
        super().__init__(
            path, " ".join([str(self.chosen), *self.shards, *(archive.stamp for archive in self.archives)])
        )

    @cached_property
    def files(self) -> Records:
        """The files of all shards, in order."""
        parts = [archive.files for archive in self.archives]
        self.hidden = {
            f"{name}/{file}" for name, each in zip(self.shards, self.archives, strict=True) for file in each.hidden
        }
        return Records.of(
            [f"{shard}/{name}" for shard, part in zip(self.shards, parts, strict=True) for name in part.names],
            np.concatenate([(number << _SHARD) + part.places for number, part in enumerate(parts)]),
            np.concatenate([part.sizes for part in parts]),
            [note for part in parts for note in part.notes],
        )

    def as_folders(self) -> None:
        """Treat each archive as a folder with its name, as if it were unpacked; shards of one set form one folder."""
        shards, paths = (self.files.places >> _SHARD).tolist(), self.inner_names()
        tops: list[set[str]] = [set() for _ in self.shards]
        for shard, path in zip(shards, paths, strict=True):
            tops[shard].add(path.partition("/")[0] if "/" in path else "")
        folders = [_PART.sub("", stem_of(shard)) for shard in self.shards]
        own = {folder.rpartition("/")[2] for folder in folders}
        if len(own) == 1 and role_of(min(own)) is None:  # train/a.zip and test/a.zip
            folders = [folder.rpartition("/")[0] for folder in folders]
        for row, (shard, path) in enumerate(zip(shards, paths, strict=True)):
            (top, *more), role = sorted(tops[shard]), self.roles[shard]
            inner = f"{top}/" if not more and role_of(top) == role is not None else ""  # train.zip contains train/
            self.files.names[row] = f"{folders[shard]}/{path.removeprefix(inner)}".lstrip("/")

    def inner_names(self) -> list[str]:
        """The name of each file in its archive."""
        shards = (self.files.places >> _SHARD).tolist()
        return [name[len(self.shards[shard]) + 1 :] for name, shard in zip(self.files.names, shards, strict=True)]

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        shards = files.places >> _SHARD
        for number in np.unique(shards).tolist():
            indices = np.flatnonzero(shards == number)
            places = files.places[indices] & ((1 << _SHARD) - 1)
            inner = Records.of([files.names[index] for index in indices], places, files.sizes[indices])
            for position, data in self.archives[number].read(inner):
                yield int(indices[position]), data


_PART = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")
"""The number of a shard: ``train-000001``, ``train-00001-of-00003``."""
_SHARD = 44
"""Number of bits for the position in a shard."""


# ---- samples

Samples = dict[str, dict[str, int]]
"""Name of each sample → suffix → index of the file."""


def samples_of(source: Source, *, doubt: bool) -> Samples | None:
    """The samples of an archive; with ``doubt``, None if no image has a label file or if there are class folders."""
    names = source.files.names
    if doubt and not any(name.lower().endswith((".cls", ".json", ".txt")) for name in names):
        return None
    samples = _grouped(names)
    if samples is None:
        raise InputError(f"{source.path}: a sample has two files of one kind, which differ in capitals only")
    if not doubt:
        return samples
    labelled = [base for base, kinds in samples.items() if not _IMAGES.isdisjoint(kinds) and {*_LABELS} & kinds.keys()]
    inner = source.inner_names() if isinstance(source, Shards) else names
    folders = {inner[next(iter(samples[base].values()))].rpartition("/")[0] for base in labelled} - {""}
    return samples if labelled and (len(folders) < 2 or any("cls" in samples[base] for base in labelled)) else None


def _grouped(names: Sequence[str], dotted: Container[str] = ()) -> Samples | None:
    """Group files by sample and suffix; None if two are the same.

    The name of a sample ends at its first dot, or at its last one if no image is found that way, ``photo.0001.png``
    (these are ``dotted``); but not if other samples have such a suffix next to their image, ``0001.seg.png``.
    """
    samples: Samples = {}
    for row, name in enumerate(names):
        start = name.rfind("/") + 1
        dot = name.find(".", start)
        dot = name.rfind(".", start) if name[:dot] in dotted else dot
        base, kind = (name, "") if dot < 0 else (name[:dot], name[dot + 1 :].lower())
        kinds = samples.setdefault(base, {})
        if kind in kinds:
            return None
        kinds[kind] = row
    known = set().union(*(kinds for kinds in samples.values() if not _IMAGES.isdisjoint(kinds)))
    bare = {base for base, kinds in samples.items() if _IMAGES.isdisjoint(kinds) and not kinds.keys() <= known}
    return _grouped(names, bare) if bare and not dotted else samples


def sample_records(source: Source, samples: Samples, config: DataConfig) -> Records:
    """One row per sample, in the order of shards and members; ``label_column`` names the member or its key."""
    files, notes = source.files, list(source.files.notes)
    images: dict[str, int] = {}
    for base, kinds in samples.items():
        rows = [row for kind, row in kinds.items() if kind in _IMAGES]
        if len(rows) > 1:
            text = shorten(sorted(files.names[row] for row in rows))
            raise InputError(f"{source.path}: the sample {base} has several images: {text}")
        if rows:
            images[base] = rows[0]
    if len(images) < len(samples):
        notes.append(f"samples without an image: {shorten([base for base in samples if base not in images])}")
    column = config.label_column
    kind = _label_kind(set().union(*(samples[base] for base in images)), column)
    labels: list[Any] = [None] * len(images)
    if kind is not None:
        rows_of_labels = [(row, samples[base][kind]) for row, base in enumerate(images) if kind in samples[base]]
        members = files.take([file for _, file in rows_of_labels])
        for index, data in source.read(members):
            labels[rows_of_labels[index][0]] = _label_of(f"{source.path}/{members.names[index]}", kind, data, column)
    unused = sorted(set().union(*samples.values()) - {*_IMAGES, kind})
    if unused:
        notes.append(f"unused files in the samples: {shorten(unused, 8)}")
    files = files.take([*images.values()])
    roles: list[Any] = [None] * len(images)
    if isinstance(source, Shards):
        roles = [source.roles[shard] for shard in (files.places >> _SHARD).tolist()]
        notes += missing_parts(source.shards)
    return files.divided(str(source.path), roles, None if kind is None else labels, notes=notes)


def _label_kind(kinds: set[str], column: str | None) -> str | None:
    if column in kinds:
        return column
    if column == "none":
        return None
    return next((kind for kind in (_LABELS if column is None else ("json",)) if kind in kinds), None)


def _label_of(where: str, kind: str, data: bytes, column: str | None) -> int | float | str:
    try:
        text = data.decode("utf-8-sig").strip()
        if not kind.endswith("json"):
            return int(text) if kind == "cls" and text.removeprefix("-").isdecimal() and len(text) < 19 else text
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {one_line(error)}") from error
    if isinstance(value, dict):
        key = column if column in value else column_called([*value], LABEL)
        if key is None or (column is not None and column not in (key, "json")):
            raise InputError(
                "{} has no {}; choose the key with {label_column}: {}", where, column or "label", shorten(value, 8)
            )
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: its label is neither a whole number nor text")
    return value
