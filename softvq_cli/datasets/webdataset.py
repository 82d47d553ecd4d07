"""WebDataset: .tar files whose members belong together by their base name, ``0001.jpg`` and ``0001.cls``."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from softvq_cli.config import DataConfig
from softvq_cli.datasets.archive import open_archive
from softvq_cli.datasets.naming import role_of, shorten
from softvq_cli.datasets.records import Listing, Records, Source, divided
from softvq_cli.datasets.tables import LABEL
from softvq_cli.errors import InputError, one_line

_IMAGES = ("jpg", "jpeg", "png", "webp")
_LABELS = ("cls", "json", "txt")
"""Where the label of a sample is looked for, in this order."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_MOST_SHARDS = 100_000


def expand(pattern: str) -> list[str]:
    """The names that ``train-{000000..000009}.tar`` and ``{train,test}.tar`` stand for.

    Raises:
        InputError: they are too many.
    """
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


def is_pattern(data: str) -> bool:
    """Whether it stands for several .tar files."""
    return _BRACES.search(data) is not None and ".tar" in data


class Shards(Source):
    """Several .tar files as one source; each member's path begins with its shard's name.

    The place of a file holds the number of its shard above its place in there.
    """

    archive = True

    def __init__(self, path: Path, shards: Sequence[Path], name_encoding: str | None) -> None:
        self.archives = [open_archive(shard, name_encoding) for shard in shards]
        super().__init__(path, " ".join(archive.stamp for archive in self.archives))

    def _list(self) -> Listing:
        files = Records.empty()
        for number, archive in enumerate(self.archives):
            inner = archive.listing.files
            for name, place, size in zip(inner.names, inner.places, inner.sizes, strict=True):
                files.add(f"{archive.path.name}/{name}", (number << _SHARD) + place, size)
            files.notes.extend(inner.notes)
            del archive.listing  # it is here now
        return Listing(files)

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        by_shard: dict[int, list[int]] = {}
        for index, place in enumerate(files.places):
            by_shard.setdefault(place >> _SHARD, []).append(index)
        for number, indices in sorted(by_shard.items()):
            inner = files.take(indices)
            places = [place & ((1 << _SHARD) - 1) for place in inner.places]
            for position, data in self.archives[number].read(replace(inner, places=places)):
                yield indices[position], data


_SHARD = 44
"""So many bits are for the place within a shard."""


def has_samples(source: Source) -> bool:
    """Whether labels stand next to the images: some base name has both."""
    kinds: dict[str, set[str]] = {}
    for name in source.listing.files.names:
        base, kind = _split_name(name)
        kinds.setdefault(base, set()).add(kind)
    return any(endings & set(_IMAGES) and endings & set(_LABELS) for endings in kinds.values())


def sample_records(source: Source, config: DataConfig, *, shards: bool) -> Records:
    """One row a sample, in the order of the shards and their members.

    Args:
        source: the archive, or the shards.
        config: ``label_column`` names the file (``cls``), or the key in the ``.json``, that holds the label.
        shards: whether the names of the files say which split they are.

    Raises:
        InputError: a sample has several images or no label, or its label cannot be read.
    """
    files = source.listing.files
    samples: dict[str, dict[str, int]] = {}
    for row, name in enumerate(files.names):
        base, ending = _split_name(name)
        if samples.setdefault(base, {}).setdefault(ending, row) != row:
            raise InputError(f"{source.path}: {name} is there twice")
    images = {base: _image_of(source, base, kinds) for base, kinds in samples.items()}
    used = {base: row for base, row in images.items() if row is not None}
    notes = list(files.notes)
    if len(used) < len(samples):
        notes.append(f"samples without an image: {shorten([base for base in samples if base not in used])}")
    kind = _label_kind({ending for base in used for ending in samples[base]}, config.label_column)
    labels: dict[str, Any] = {}
    if kind is not None:
        bases = [base for base in used if kind in samples[base]]
        members = files.take([samples[base][kind] for base in bases])
        for index, data in source.read(members):
            labels[bases[index]] = _label_of(source, members.names[index], data, config.label_column)
    unused = sorted({ending for kinds in samples.values() for ending in kinds} - {*_IMAGES, kind})
    if unused:
        notes.append(f"files of the samples that are not used: {shorten(unused, 8)}")
    roles = [role_of(_shard_of(base)) if shards else None for base in used]
    return divided(
        str(source.path), files.take([*used.values()]), roles, [labels.get(base) for base in used], None, notes
    )


def _shard_of(name: str) -> str:
    """``train-000000.tar/0001`` → ``train-000000``."""
    return name.split("/", 1)[0].split(".tar", 1)[0]


def _split_name(name: str) -> tuple[str, str]:
    """``a/0001.seg.png`` → ``a/0001``, ``seg.png``: a sample's name ends at the first dot of the last part."""
    shard, mark, rest = name.rpartition("/")
    base, _, kind = rest.partition(".")
    return f"{shard}{mark}{base}", kind.lower()


def _image_of(source: Source, base: str, kinds: dict[str, int]) -> int | None:
    rows = [kinds[kind] for kind in _IMAGES if kind in kinds]
    if len(rows) > 1:
        names = shorten([source.listing.files.names[row] for row in rows])
        raise InputError(f"{source.path}: the sample {base} has several images: {names}")
    return rows[0] if rows else None


def _label_kind(kinds: set[str], column: str | None) -> str | None:
    """Which file of the samples holds their label."""
    if column in kinds:
        return column
    return next((kind for kind in (_LABELS if column is None else ("json",)) if kind in kinds), None)


def _label_of(source: Source, name: str, data: bytes, column: str | None) -> int | str:
    """The label in a sample's file."""
    where = f"{source.path}/{name}"
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} holds no text") from error
    if not name.lower().endswith(".json"):
        number = name.lower().endswith(".cls") and re.fullmatch(r"-?[0-9]{1,18}", text)
        return int(text) if number else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {one_line(error)}") from error
    if isinstance(value, dict):
        key = column if column in value else next((word for word in LABEL if word in value), None)
        if key is None or (column is not None and column not in (key, "json")):
            raise InputError(
                "{} has no {}; name the key with {label_column}: {}", where, column or "label", shorten(value, 8)
            )
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: its label is neither a whole number nor text")
    return value if isinstance(value, str) else int(value) if value == int(value) else str(value)
