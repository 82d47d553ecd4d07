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
from softvq_cli.datasets.archives import open_archive
from softvq_cli.datasets.layout import Layout
from softvq_cli.datasets.naming import role_of, shorten
from softvq_cli.datasets.rows import LABEL, Row, arranged
from softvq_cli.datasets.sources import Listing, Member, Source
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


def open_shards(where: Path, shards: Sequence[Path], name_encoding: str | None) -> Source:
    """Several .tar files as one source; each member's path begins with its shard's name.

    Raises:
        InputError: one cannot be read.
    """
    sources = [open_archive(shard, name_encoding) for shard in shards]

    def listing() -> Listing:
        members = [
            replace(member, name=f"{source.path.name}/{member.name}", entry=(number, member))
            for number, source in enumerate(sources)
            for member in source.listing.members
        ]
        return Listing(members, set(), [note for source in sources for note in source.listing.notes])

    def read(members: Sequence[Member]) -> Iterator[tuple[int, bytes]]:
        by_shard: dict[int, list[int]] = {}
        for index, member in enumerate(members):
            by_shard.setdefault(member.entry[0], []).append(index)
        for number, indices in sorted(by_shard.items()):
            inner = [members[index].entry[1] for index in indices]
            for position, data in sources[number].read(inner):
                yield indices[position], data

    return Source(where, listing, read, " ".join(source.stamp for source in sources), archive=True)


def has_samples(source: Source) -> bool:
    """Whether labels stand beside the images: some base name has both."""
    kinds: dict[str, set[str]] = {}
    for member in source.listing.members:
        base, kind = _split_name(member.name)
        kinds.setdefault(base, set()).add(kind)
    return any(found & set(_IMAGES) and found & set(_LABELS) for found in kinds.values())


def arrange_samples(source: Source, config: DataConfig, *, shards: bool) -> Layout:
    """One row a sample, in the order of the shards and their members.

    Args:
        source: the archive, or the shards.
        config: ``label_column`` names the file (``cls``), or the key in the ``.json``, that holds the label.
        shards: whether the names of the files say which split they are.

    Raises:
        InputError: a sample has several images or no label, or its label cannot be read.
    """
    samples: dict[str, dict[str, Member]] = {}
    for member in source.listing.members:
        base, suffix = _split_name(member.name)
        if samples.setdefault(base, {}).setdefault(suffix, member) is not member:
            raise InputError(f"{source.path}: {member.name} is there twice")
    images = {base: _image_of(source, base, kinds) for base, kinds in samples.items()}
    kept = {base: image for base, image in images.items() if image is not None}
    notes = list(source.listing.notes)
    if len(kept) < len(samples):
        notes.append(f"samples without an image: {shorten([base for base in samples if base not in kept])}")
    kind = _label_kind(samples, kept, config.label_column)
    labels: dict[str, Any] = {}
    if kind is not None:
        bases = [base for base in kept if kind in samples[base]]
        for index, data in source.read([samples[base][kind] for base in bases]):
            labels[bases[index]] = _label_of(source, samples[bases[index]][kind].name, data, config.label_column)
    used = {*_IMAGES, kind}
    unused = sorted({other for kinds in samples.values() for other in kinds if other not in used})
    if unused:
        notes.append(f"files of the samples that are not used: {shorten(unused, 8)}")
    roles = {base: role_of(_shard_of(base)) if shards else None for base in kept}
    rows = [Row(image, roles[base], labels.get(base)) for base, image in kept.items()]
    return arranged(str(source.path), rows, None, notes)


def _shard_of(name: str) -> str:
    """``train-000000.tar/0001`` → ``train-000000``."""
    return name.split("/", 1)[0].split(".tar", 1)[0]


def _split_name(name: str) -> tuple[str, str]:
    """``a/0001.seg.png`` → ``a/0001``, ``seg.png``: a sample's name ends at the first dot of the last part."""
    shard, mark, rest = name.rpartition("/")
    base, _, kind = rest.partition(".")
    return f"{shard}{mark}{base}", kind.lower()


def _image_of(source: Source, base: str, kinds: dict[str, Member]) -> Member | None:
    found = [kinds[kind] for kind in _IMAGES if kind in kinds]
    if len(found) > 1:
        raise InputError(f"{source.path}: the sample {base} has several images: {shorten([one.name for one in found])}")
    return found[0] if found else None


def _label_kind(samples: dict[str, dict[str, Member]], kept: dict[str, Member], column: str | None) -> str | None:
    """Which file of the samples holds their label."""
    kinds = {kind for base in kept for kind in samples[base]}
    if column in kinds:
        return column
    return next((kind for kind in ((*_LABELS,) if column is None else ("json",)) if kind in kinds), None)


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
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {one_line(error)}") from error
    value = found
    if isinstance(found, dict):
        key = column if column in found else next((word for word in LABEL if word in found), None)
        if key is None or (column is not None and column not in (key, "json")):
            raise InputError(
                "{} has no {}; name the key with {label_column}: {}", where, column or "label", shorten(found, 8)
            )
        value = found[key]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: its label is neither a whole number nor text")
    return value if isinstance(value, str) else int(value) if value == int(value) else str(value)
