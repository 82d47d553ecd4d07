"""Lists of image files: .csv, .tsv and .jsonl with a column of paths, and the ``metadata`` file of an image folder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from softvq_cli.config import DataConfig
from softvq_cli.datasets import limits
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.folder import PathSource
from softvq_cli.datasets.naming import Role, check_text, entry_of, is_document, is_image_name, role_of, shorten
from softvq_cli.datasets.records import Listing, Records, Source, divided
from softvq_cli.datasets.tables import LABEL, chosen_columns, columns_of, role_of_value
from softvq_cli.errors import InputError, one_line

ENDINGS = (".csv", ".tsv", ".jsonl")
_METADATA = tuple(f"metadata{ending}" for ending in (*ENDINGS, ".parquet"))


class ListSource(PathSource):
    """The files that a list names, relative to it."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        """Read the list."""
        try:
            rows = _parsed(str(path), path.name, path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        columns = columns_of(str(path), _names(rows), chosen_columns(config))
        found, roles = Records.empty(), []
        places: dict[str, int] = {}
        by_id: dict[str, list[str]] = {}
        files = [File.at(path.name, path)]
        for number, row in enumerate(rows, 1):
            name = str(row.get(columns.image) or "").replace("\\", "/")
            check_text(path, name)
            if not name:
                raise InputError(f"{path}: row {number} names no image")
            entry = entry_of(path.parent, name)
            if not os.path.exists(path.parent / entry) and "." not in entry.rpartition("/")[2]:
                by_id = by_id or _files_by_id(path)
                entry = name = _file_of_id(path, name, by_id)
            file = File.at(name, path.parent / entry)
            limits.check_file_size(path, name, file.status[0])
            files.append(file)
            roles.append(role_of_value(f"{path}, row {number}", row.get(columns.split)) if columns.split else None)
            found.add(name, places.setdefault(entry, len(places)), file.status[0])
        limits.check_count(path, len(found))
        super().__init__(path, stamp(files), path.parent, [*places], Listing(found))
        labels = [row.get(columns.label) if columns.label else None for row in rows]
        twice = len(found) - len(set(found.names))
        notes = [
            *columns.notes,
            *(["images by their ids, which are names of files without an ending"] if by_id else []),
        ]
        notes += [*([f"{twice} rows name a file that another one names too"] if twice else [])]
        self.records = divided(str(path), found, roles, labels, None, notes)


def _files_by_id(path: Path) -> dict[str, list[str]]:
    """The image files next to a list and in the folders there, by their names without the ending."""
    by_id: dict[str, list[str]] = {}
    for folder, _, names in os.walk(path.parent):
        for name in filter(is_image_name, names):
            file = os.path.relpath(os.path.join(folder, name), path.parent).replace(os.sep, "/")
            by_id.setdefault(name.rpartition(".")[0], []).append(file)
    limits.check_count(path.parent, len(by_id))
    return by_id


def _file_of_id(path: Path, name: str, by_id: dict[str, list[str]]) -> str:
    folder, _, stem = name.rpartition("/")
    files = [file for file in by_id.get(stem, []) if file.startswith(folder)]
    if len(files) != 1:
        raise InputError(
            f"{path} names {one_line(name)}, which is {shorten(files) or 'no file'}; write the paths of the files"
        )
    return files[0]


def metadata_records(source: Source, config: DataConfig) -> Records | None:
    """The images of a folder by its ``metadata.csv`` or ``metadata.jsonl``; None where there is none.

    They stand in the folder itself or in each of its splits, and name the files with ``file_name``.
    """
    files = source.listing.files
    lists = [row for row, name in enumerate(files.names) if name.rsplit("/", 1)[-1].lower() in _METADATA]
    if not lists:
        return None
    rows_by_name = {name: row for row, name in enumerate(files.names)}
    images: list[tuple[int, Role | None, Any]] = []
    notes: list[str] = [*files.notes]
    for index, data in source.read(files.take(lists)):
        name = files.names[lists[index]]
        where = f"{source.path}/{name}"
        parsed = _parsed(where, name, data)
        columns = columns_of(where, _names(parsed), chosen_columns(config))
        if columns.label is None:
            notes.append(f"{name} has no column of labels ({', '.join(LABEL[:3])} …)")
        folder = PurePosixPath(name).parent
        for row in parsed:
            image = str(folder / str(row.get(columns.image) or "").replace("\\", "/"))
            if image not in rows_by_name:
                raise InputError(f"{where} names {one_line(image)}, which is not there")
            role = role_of_value(where, row[columns.split]) if columns.split else _role_of_path(image)
            images.append((rows_by_name[image], role, row.get(columns.label) if columns.label else None))
        notes += [note for note in columns.notes if note not in notes]
    if all(label is None for _, _, label in images):
        return None  # nothing to learn from it: the folders say more
    named = {row for row, _, _ in images}
    left = [name for row, name in enumerate(files.names) if row not in named and not is_document(name)]
    if left:
        notes.append(f"not used, for no metadata file names them: {shorten(left)}")
    images.sort(key=lambda image: files.names[image[0]].split("/"))
    rows, roles, labels = zip(*images, strict=True)
    return divided(str(source.path), files.take(rows), roles, labels, None, notes)


def _role_of_path(name: str) -> Role | None:
    return next((role for part in name.split("/")[:-1] if (role := role_of(part)) is not None), None)


def _rows_of_parquet(data: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except ImportError as error:
        raise ValueError("it needs pyarrow: pip install 'softvq[tables]'") from error
    except Exception as error:  # pyarrow raises many kinds on damaged bytes
        raise ValueError(str(error)) from error
    return rows


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _mark(header: str) -> str:
    """What stands between the cells of a .csv: a comma, or of a header without one what others write."""
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _parsed(where: str, name: str, data: bytes) -> list[dict[str, Any]]:
    """The rows of a list by column."""
    try:
        if name.lower().endswith(".parquet"):
            return _rows_of_parquet(data)
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
