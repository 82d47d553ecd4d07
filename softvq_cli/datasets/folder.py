"""A folder of image files."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from softvq_cli.config import DataConfig
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.naming import (
    Role,
    check_count,
    check_file_size,
    check_text,
    entry_of,
    is_document,
    is_hidden,
    is_image_name,
    is_metadata,
    role_of,
    shorten,
)
from softvq_cli.datasets.records import Fetch, Listing, Records, Source, divided
from softvq_cli.datasets.tables import LABEL, chosen_columns, columns_of, delimiter_of, role_of_value
from softvq_cli.errors import InputError, one_line
from softvq_cli.files import as_utf8


def open_folder(root: Path) -> Source:
    """Every file under ``root``. Links are followed, as a folder of links is a usual way to make a subset."""
    images = Records.empty()
    paths: list[str] = []
    files: list[File] = []
    folders: set[str] = set()
    hidden: set[str] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(root, folder, seen):
            if is_metadata(entry.name):
                if _is_hidden_image(entry):
                    hidden.add(as_utf8(f"{folder}{entry.name}"))
                continue
            on_disk = f"{folder}{entry.name}"
            name = on_disk if on_disk.isascii() else as_utf8(on_disk)
            status = _status(entry)
            check_text(root, name)
            if stat.S_ISDIR(status.st_mode):
                folders.add(name)
                waiting.append(f"{on_disk}/")
            elif stat.S_ISREG(status.st_mode):
                images.add(name, len(paths), status.st_size)
                paths.append(on_disk)
                files.append(File.at(name, entry.path, status))
                check_count(root, len(paths))
            else:
                raise InputError(f"{root}: {name} is neither a file nor a folder; remove it")
    return PathSource(root, stamp(files, folders), root, paths, Listing(images, folders, hidden))


class PathSource(Source):
    """Files by their paths below a folder; the place of a file is its number among them."""

    def __init__(self, path: Path, mark: str, root: Path, paths: list[str], listing: Listing) -> None:
        super().__init__(path, mark)
        self._root, self._paths, self._listed = root, paths, listing

    def _list(self) -> Listing:
        return self._listed

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        for index, (place, size) in enumerate(zip(files.places, files.sizes, strict=True)):
            check_file_size(self.path, files.names[index], size)
            yield index, self.content(place)

    lies_open = True

    def fetch(self, files: Records) -> Fetch:
        places = files.places
        return lambda row: self.content(places[row])

    def content(self, place: int) -> bytes:
        """The bytes of one file."""
        path = self._root / self._paths[place]
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error


def _entries(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    try:
        status = os.stat(root / folder)
        if (status.st_dev, status.st_ino) in seen:
            raise InputError(f"{root}: {folder} is linked twice, or into itself; remove the link")
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"cannot read the folder {root / folder}: {error.strerror}") from error


def _is_hidden_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is hidden and an image, or a folder that has one."""
    if not is_hidden(entry.name):
        return False
    try:
        if not entry.is_dir():
            return is_image_name(entry.name)
        with os.scandir(entry.path) as inside:
            return any(is_image_name(file.name) for file in inside)
    except OSError:  # it is left out in any case
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise InputError(f"cannot read {entry.path}: {error.strerror}") from error


# ---- lists of files


LISTS = (".csv", ".tsv", ".jsonl")
_METADATA = tuple(f"metadata{ending}" for ending in (*LISTS, ".parquet"))


class ListSource(PathSource):
    """The files that a list names, relative to it."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        """Read the list."""
        try:
            rows = _parsed(str(path), path.name, path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        columns = columns_of(str(path), _names(rows), chosen_columns(config))
        images, roles = Records.empty(), []
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
            check_file_size(path, name, file.status[0])
            files.append(file)
            roles.append(role_of_value(f"{path}, row {number}", row.get(columns.split)) if columns.split else None)
            images.add(name, places.setdefault(entry, len(places)), file.status[0])
        check_count(path, len(images))
        super().__init__(path, stamp(files), path.parent, [*places], Listing(images))
        labels = [row.get(columns.label) if columns.label else None for row in rows]
        twice = len(images) - len(set(images.names))
        notes = [
            *columns.notes,
            *(["image names have no ending and are matched with the files"] if by_id else []),
        ]
        notes += [*([f"{twice} rows name the same file as another row"] if twice else [])]
        self.records = divided(str(path), images, roles, labels, None, notes)


def _files_by_id(path: Path) -> dict[str, list[str]]:
    """The image files next to a list and in the folders there, by their names without the ending."""
    by_id: dict[str, list[str]] = {}
    for folder, _, names in os.walk(path.parent):
        for name in filter(is_image_name, names):
            file = os.path.relpath(os.path.join(folder, name), path.parent).replace(os.sep, "/")
            by_id.setdefault(name.rpartition(".")[0], []).append(file)
    check_count(path.parent, len(by_id))
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
        notes.append(f"not used, because no metadata file names them: {shorten(left)}")
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
            mark = delimiter_of(name, text.partition("\n")[0])
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, restkey="", strict=True)
            rows = [{key: value for key, value in row.items() if key} for row in reader]
            ragged = next((number for number, row in enumerate(rows, 2) if None in row.values()), None)
            if ragged is not None:
                raise ValueError(f"line {ragged} has fewer cells than the first")
    except (ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{where} is damaged or not a list of rows: {one_line(error)}") from error
    if not rows:
        raise InputError(f"{where} has no rows")
    return rows
