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
from softvq_cli.datasets.naming import Role, missing_parts, role_of, roles_of_files, shorten, stem_of
from softvq_cli.datasets.records import Listing, Records, Source, divided
from softvq_cli.datasets.tables import LABEL
from softvq_cli.errors import InputError, one_line

_IMAGES = frozenset(("jpg", "jpeg", "png", "webp"))
_LABELS = ("cls", "json", "txt")
"""Where the label of a sample is looked for, in this order."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_MOST_SHARDS = 100_000


def expand(pattern: str) -> list[str]:
    """The names that ``train-{000000..000009}.tar`` and ``{train,test}.tar`` stand for."""
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
        hidden: set[str] = set()
        for number, archive in enumerate(self.archives):
            inner = archive.listing.files
            hidden |= {f"{archive.path.name}/{name}" for name in archive.listing.hidden}
            for name, place, size in zip(inner.names, inner.places, inner.sizes, strict=True):
                files.add(f"{archive.path.name}/{name}", (number << _SHARD) + place, size)
            files.notes.extend(inner.notes)
            del archive.listing  # it is here now
        return Listing(files, set(), hidden)

    def as_folders(self) -> None:
        """Have each archive stand for a folder of its name, as if all were unpacked; shards for one together."""
        names = self.listing.files.names
        tops: dict[str, set[str]] = {}
        for name in names:
            archive, top, *_ = name.split("/")
            tops.setdefault(archive, set()).add(top if name.count("/") > 1 else "")
        folders = {archive: _PART.sub("", stem_of(archive)) for archive in tops}
        outer = {
            archive: f"{top}/" if len(inside) == 1 and role_of(top) == role_of(folders[archive]) is not None else ""
            for archive, inside in tops.items()
            for top in [min(inside)]
        }
        for row, name in enumerate(names):
            archive, _, path = name.partition("/")
            names[row] = f"{folders[archive]}/{path.removeprefix(outer[archive])}"

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        by_shard: dict[int, list[int]] = {}
        for index, place in enumerate(files.places):
            by_shard.setdefault(place >> _SHARD, []).append(index)
        for number, indices in sorted(by_shard.items()):
            inner = files.take(indices)
            places = [place & ((1 << _SHARD) - 1) for place in inner.places]
            for position, data in self.archives[number].read(replace(inner, places=places)):
                yield indices[position], data


_PART = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")
"""What numbers a shard: ``train-000001``, ``train-00001-of-00003``."""
_SHARD = 44
"""So many bits are for the place within a shard."""


Samples = dict[str, dict[str, list[int]]]
"""Name of each sample → ending → the files that have both; more than one is an error."""


def samples_of(source: Source, *, doubt: bool) -> Samples | None:
    """The samples of an archive; with ``doubt`` None if no label stands next to an image, or class folders say more."""
    names = source.listing.files.names
    if doubt and not any(name.lower().endswith(tuple(f".{kind}" for kind in _LABELS)) for name in names):
        return None
    samples: Samples = {}
    for row, (base, ending) in enumerate(_split_names(names)):
        samples.setdefault(base, {}).setdefault(ending, []).append(row)
    if not doubt:
        return samples
    both = [
        (base, kinds) for base, kinds in samples.items() if not _IMAGES.isdisjoint(kinds) and {*_LABELS} & kinds.keys()
    ]
    start = 1 if isinstance(source, Shards) else 0
    folders = {base.rpartition("/")[0].split("/", start)[-1] for base, _ in both if base.count("/") > start}
    return samples if both and (len(folders) < 2 or any("cls" in kinds for _, kinds in both)) else None


def is_labelled_by_files(path: Path) -> bool:
    """Whether an archive of this name may hold samples; a .zip is what its folder is."""
    return not path.name.lower().endswith(".zip")


def sample_records(source: Source, samples: Samples, config: DataConfig) -> Records:
    """One row a sample, in the order of the shards and their members; ``label_column`` names the file or the key."""
    files = source.listing.files
    twice = next((rows[1] for kinds in samples.values() for rows in kinds.values() if len(rows) > 1), None)
    if twice is not None:
        raise InputError(f"{source.path}: {files.names[twice]} is there twice")
    images = {base: _image_of(source, base, kinds) for base, kinds in samples.items()}
    used = {base: row for base, row in images.items() if row is not None}
    notes = list(files.notes)
    if len(used) < len(samples):
        notes.append(f"samples without an image: {shorten([base for base in samples if base not in used])}")
    kind = _label_kind({ending for base in used for ending in samples[base]}, config.label_column)
    labels: dict[str, Any] = {}
    if kind is not None:
        bases = [base for base in used if kind in samples[base]]
        members = files.take([samples[base][kind][0] for base in bases])
        for index, data in source.read(members):
            labels[bases[index]] = _label_of(source, members.names[index], data, config.label_column)
    unused = sorted({ending for kinds in samples.values() for ending in kinds} - {*_IMAGES, kind})
    if unused:
        notes.append(f"unused files in the samples: {shorten(unused, 8)}")
    by_shard: dict[str, Role | None] = {}
    if isinstance(source, Shards):
        shards = [archive.path.name for archive in source.archives]
        by_shard = dict(zip(shards, roles_of_files(shards), strict=True))
        notes += missing_parts(shards)
    roles = [by_shard.get(base.split("/", 1)[0]) for base in used]
    return divided(
        str(source.path), files.take([*used.values()]), roles, [labels.get(base) for base in used], None, notes
    )


def _split_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """``a/0001.seg.png`` → ``a/0001``, ``seg.png``: a sample's name ends at the first dot of the last part.

    Where no image is found so, names have dots, ``photo.0001.png``, and the last one counts.
    """
    samples = []
    for last in (False, True):
        for name in names:
            folder, mark, file = name.rpartition("/")
            base, _, kind = file.rpartition(".") if last else file.partition(".")
            samples.append((f"{folder}{mark}{base}", kind.lower()))
        if any(kind in _IMAGES for _, kind in samples):
            return samples
        samples = []
    return [(name, "") for name in names]


def _image_of(source: Source, base: str, kinds: dict[str, list[int]]) -> int | None:
    rows = [row for kind in _IMAGES & kinds.keys() for row in kinds[kind]]
    if len(rows) > 1:
        names = shorten(sorted(source.listing.files.names[row] for row in rows))
        raise InputError(f"{source.path}: the sample {base} has several images: {names}")
    return rows[0] if rows else None


def _label_kind(kinds: set[str], column: str | None) -> str | None:
    """Which file of the samples holds their label."""
    if column in kinds:
        return column
    if column == "none":
        return None
    return next((kind for kind in (_LABELS if column is None else ("json",)) if kind in kinds), None)


def _label_of(source: Source, name: str, data: bytes, column: str | None) -> int | float | str:
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
        raise InputError(f"{where} is not JSON: {one_line(error)}") from error
    if isinstance(value, dict):
        key = column if column in value else next((word for word in LABEL if word in value), None)
        if key is None or (column is not None and column not in (key, "json")):
            raise InputError(
                "{} has no {}; choose the key with {label_column}: {}", where, column or "label", shorten(value, 8)
            )
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: its label is neither a whole number nor text")
    return value
