"""Lists of image files: .csv, .tsv and .jsonl with a column of paths, and the ``metadata`` file of an image folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from softvq_cli.config import DataConfig
from softvq_cli.datasets import limits
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.layout import Layout, is_document
from softvq_cli.datasets.naming import Role, entry_of, role_of, shorten
from softvq_cli.datasets.rows import LABEL, Row, arranged, columns_of, role_of_value
from softvq_cli.datasets.sources import Listing, Member, Source, check_text
from softvq_cli.errors import InputError, one_line

ENDINGS = (".csv", ".tsv", ".jsonl")
_METADATA = tuple(f"metadata{ending}" for ending in ENDINGS)


def open_list(path: Path, config: DataConfig) -> tuple[Source, Layout]:
    """The files that a list names, relative to it.

    Raises:
        InputError: the list is damaged, or names what is not there.
    """
    try:
        rows = _parsed(str(path), path.name, path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    columns = columns_of(str(path), _names(rows), _chosen(config))
    found: list[Row] = []
    files = [File.at(path.name, path)]
    for number, row in enumerate(rows, 1):
        name = str(row.get(columns.image) or "").replace("\\", "/")
        check_text(path, name)
        if not name:
            raise InputError(f"{path}: row {number} names no image")
        entry = entry_of(path.parent, name)
        file = File.at(name, path.parent / entry)
        limits.check_file_size(path, name, file.status[0])
        files.append(file)
        role = role_of_value(f"{path}, row {number}", row.get(columns.split)) if columns.split else None
        found.append(Row(Member(name, file.status[0], entry), role, row.get(columns.label) if columns.label else None))
    limits.check_count(path, len(found))

    def read(members: Sequence[Member]) -> Iterator[tuple[int, bytes]]:
        for index, member in enumerate(members):
            try:
                yield index, (path.parent / member.entry).read_bytes()
            except OSError as error:
                raise InputError(f"cannot read {path.parent / member.entry}: {error.strerror}") from error

    members = [row.member for row in found]
    twice = len(members) - len({member.name for member in members})
    notes = [*columns.notes, *([f"{twice} rows name a file that another one names too"] if twice else [])]
    return Source(path, lambda: Listing(members, set()), read, stamp(files)), arranged(str(path), found, None, notes)


def metadata_layout(source: Source, config: DataConfig) -> Layout | None:
    """The layout of an image folder by its ``metadata.csv`` or ``metadata.jsonl``; None where there is none.

    They stand in the folder itself or in each of its splits, and name the files with ``file_name``.

    Raises:
        InputError: a file that is named is not there.
    """
    members = {member.name: member for member in source.listing.members}
    lists = [member for name, member in members.items() if name.rsplit("/", 1)[-1].lower() in _METADATA]
    if not lists:
        return None
    rows: list[Row] = []
    notes: list[str] = [*source.listing.notes]
    for index, data in source.read(lists):
        where = f"{source.path}/{lists[index].name}"
        parsed = _parsed(where, lists[index].name, data)
        columns = columns_of(where, _names(parsed), _chosen(config))
        if columns.label is None:
            notes.append(f"{lists[index].name} has no column of labels ({', '.join(LABEL[:3])} …)")
        folder = PurePosixPath(lists[index].name).parent
        for row in parsed:
            name = str(folder / str(row.get(columns.image) or "").replace("\\", "/"))
            if name not in members:
                raise InputError(f"{where} names {name}, which is not there")
            role = role_of_value(where, row[columns.split]) if columns.split else _role_of_path(name)
            rows.append(Row(members[name], role, row.get(columns.label) if columns.label else None))
        notes += [note for note in columns.notes if note not in notes]
    if all(row.label is None for row in rows):
        return None  # nothing to learn from it: the folders say more
    named = {row.member.name for row in rows}
    left = [name for name in members if name not in named and not is_document(name)]
    if left:
        notes.append(f"not used, for no metadata file names them: {shorten(left)}")
    rows.sort(key=lambda row: row.member.name.split("/"))
    return arranged(str(source.path), rows, None, notes)


def _role_of_path(name: str) -> Role | None:
    return next((role for part in name.split("/")[:-1] if (role := role_of(part)) is not None), None)


def _chosen(config: DataConfig) -> dict[str, str | None]:
    return {name: getattr(config, name) for name in ("image_column", "label_column", "split_column")}


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _mark(header: str) -> str:
    """What stands between the cells of a .csv: a comma, or of a header without one what others write."""
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _parsed(where: str, name: str, data: bytes) -> list[dict[str, Any]]:
    """The rows of a list by column.

    Raises:
        InputError: it is no such list.
    """
    try:
        text = data.decode("utf-8-sig")
        if name.lower().endswith(".jsonl"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is no object")
        else:
            mark = "\t" if name.lower().endswith(".tsv") else _mark(text.split("\n", 1)[0])
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, restkey="", strict=True)
            rows = [{key: value for key, value in row.items() if key} for row in reader]
            ragged = next((number for number, row in enumerate(rows, 2) if None in row.values()), None)
            if ragged is not None:
                raise ValueError(f"line {ragged} has fewer cells than the first")
    except (ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{where} is damaged or no list of rows: {one_line(error)}") from error
    if not rows:
        raise InputError(f"{where} has no rows")
    return rows
