"""Folders of image files, and lists of files with their splits and labels."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, naming
from softvq_cli.datasets.records import Fetch, Records, Source
from softvq_cli.datasets.tables import LABEL, Columns, chosen_columns, columns_of, delimiter_of, roles_of_column
from softvq_cli.errors import InputError, one_line
from softvq_cli.files import as_utf8, on_disk, reading


class PathSource(Source):
    """Files by path; the position of a file is its index among them."""

    lies_open = True

    def __init__(self, path: Path, stamp: str, files: cache.Files) -> None:
        super().__init__(path, stamp)
        self._paths = files.paths
        self.files = Records.of(files.names, range(len(files.names)), files.sizes)

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        fetch = self.fetch(files)
        for index, size in enumerate(files.sizes.tolist()):
            naming.check_file_size(self.path, files.names[index], size)
            yield index, fetch(index)

    def fetch(self, files: Records) -> Fetch:
        places = files.places

        def fetch(row: int) -> bytes:
            path = self._paths[places[row]]
            try:
                with open(path, "rb", buffering=0) as file:
                    return file.readall()
            except OSError as error:
                raise InputError(f"cannot read {path}: {error.strerror}") from error

        return fetch


def open_folder(root: Path) -> PathSource:
    """Open all files in ``root``. Links are followed, because folders of links are a common way to make a subset."""
    files = cache.Files()
    folders: set[str] = set()
    hidden: set[str] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(root, folder, seen):
            path = f"{folder}{entry.name}"
            name = path if path.isascii() else as_utf8(path)
            if naming.is_metadata(entry.name):
                hidden |= {name} if _is_hidden_image(entry) else set()
                continue
            naming.check_text(root, name)
            try:
                status = entry.stat()
            except OSError as error:
                raise InputError(f"cannot read {entry.path}: {error.strerror}") from error
            if stat.S_ISDIR(status.st_mode):
                folders.add(name)
                waiting.append(f"{path}/")
            elif stat.S_ISREG(status.st_mode):
                files.add(name, entry.path, status)
            else:
                raise InputError(f"{root}: {name} is neither a file nor a folder; remove it")
        naming.check_count(root, len(files.names))
    source = PathSource(root, files.stamp(folders), files)
    source.folders, source.hidden = folders, hidden
    return source


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
    if not naming.is_hidden(entry.name):
        return False
    try:
        return any(map(naming.is_image_name, os.listdir(entry.path) if entry.is_dir() else [entry.name]))
    except OSError:  # ignored in any case
        return False


# ---- lists of files

LISTS = (".csv", ".tsv", ".jsonl")
_METADATA = tuple(f"metadata{ending}" for ending in (*LISTS, ".parquet"))


def open_list(path: Path, config: DataConfig) -> tuple[PathSource, Records]:
    """Open the files in a list, relative to its folder; with their splits and labels."""
    rows = _rows(path, config)
    naming.check_count(path, len(rows.images))
    names, by_id = rows.images, dict[str, list[str]]()
    for row, name in enumerate(names):
        naming.check_text(path, name)
        bare = "/" not in name or "." not in name.rpartition("/")[2]
        if bare and not os.path.exists(on_disk(str(path.parent / name))):
            by_id = by_id or _files_by_id(path)
            names[row] = _file_of_id(path, name, by_id)
    files = cache.Files()
    for name in names:
        files.add(name, on_disk(str(path.parent / name)))
    files.add(path.name, path)
    first = {name: row for row, name in reversed([*enumerate(names)])}
    listed = Records.of(names, [first[name] for name in names], files.sizes[:-1])
    notes = [*rows.columns.notes]
    if by_id:
        notes.append("image names are not paths: they are matched with the files in this folder and its subfolders")
    if len(first) < len(names):
        notes.append(f"{len(names) - len(first)} rows name the same file as another row")
    records = listed.divided(str(path), rows.roles, rows.labels, notes=notes)
    return PathSource(path, files.stamp(), files), records


def names_file(path: Path, name: str) -> bool:
    """Whether an image of this name, with or without suffix, is next to the list or in a folder next to it."""
    if "/" in name:
        return os.path.isfile(on_disk(str(path.parent / name)))
    stem = glob.escape(name)
    near = (file for pattern in (f"{stem}*", f"*/{stem}*") for file in path.parent.glob(pattern)) if name else ()
    return any(name in (file.name, file.stem) and naming.is_image_name(file.name) for file in near)


def _files_by_id(path: Path) -> dict[str, list[str]]:
    """The image files in the folder of a list and its subfolders, by name with and without suffix."""
    by_id: dict[str, list[str]] = {}
    for folder, _, names in os.walk(path.parent):
        for name in filter(naming.is_image_name, names):
            file = os.path.relpath(os.path.join(folder, name), path.parent).replace(os.sep, "/")
            for key in (name, name.rpartition(".")[0]):
                by_id.setdefault(key, []).append(file)
    naming.check_count(path.parent, len(by_id) // 2)
    return by_id


def _file_of_id(path: Path, name: str, by_id: dict[str, list[str]]) -> str:
    folder, _, stem = name.rpartition("/")
    files = [file for file in by_id.get(stem, []) if file.startswith(folder)]
    if len(files) != 1:
        found = naming.shorten(files) or "no file"
        raise InputError(f"{path} names {one_line(name)}, which is {found}; write the paths of the files")
    return files[0]


def metadata_records(source: Source, config: DataConfig) -> Records | None:
    """The images in a folder's ``metadata.csv`` or ``metadata.jsonl``; None if there is none.

    The metadata are in the folder itself or in each of its splits, and name the files with ``file_name``.
    """
    files, notes = source.files, [*source.files.notes]
    lists = [row for row, name in enumerate(files.names) if name.rpartition("/")[2].lower() in _METADATA]
    rows_by_name = {name: row for row, name in enumerate(files.names)} if lists else {}
    images: list[tuple[str, naming.Role | None, Any]] = []
    for index, data in source.read(files.take(lists)):
        name = files.names[lists[index]]
        where = source.path / name
        rows = _rows(where, config, data)
        notes += [note for note in rows.columns.notes if note not in notes]
        if rows.columns.label is None:
            notes.append(f"{name} has no column of labels ({', '.join(LABEL[:3])} …)")
        cells = rows.labels or [None] * len(rows.images)
        for file, role, label in zip(rows.images, rows.roles, cells, strict=True):
            image = str(PurePosixPath(name).parent / file)
            if image not in rows_by_name:
                raise InputError(f"{where} names {one_line(image)}, which is not there")
            of_folders = [naming.role_of(part) for part in image.split("/")[:-1]]
            images.append((image, role or next((part for part in of_folders if part), None), label))
    if all(label is None for *_, label in images):
        return None  # it has no useful columns; the folders provide more
    named = {image for image, *_ in images}
    left = [name for name in files.names if name not in named and not naming.is_document(name)]
    if left:
        notes.append(f"not used, because no metadata file names them: {naming.shorten(left)}")
    images.sort(key=lambda image: image[0].split("/"))
    names, roles, labels = zip(*images, strict=True)
    return files.take([rows_by_name[name] for name in names]).divided(str(source.path), roles, labels, notes=notes)


class _Rows(NamedTuple):
    """The content of a list of images."""

    columns: Columns
    images: list[str]
    roles: Sequence[naming.Role | None]
    labels: Sequence[Any] | None


def _rows(path: Path, config: DataConfig, data: bytes | None = None) -> _Rows:
    """Read a list, from ``data`` if its bytes are already loaded."""
    with reading(path, "a list of rows"):
        rows = _parsed(path.name.lower(), path.read_bytes() if data is None else data)
    if not rows:
        raise InputError(f"{path} has no rows")
    where = str(path)
    columns = columns_of(where, [*dict.fromkeys(name for row in rows for name in row)], chosen_columns(config))
    image, label, split = columns.image, columns.label, columns.split
    images = [str(row.get(image) or "").replace("\\", "/") for row in rows]
    if "" in images:
        raise InputError(f"{path}: row {images.index('') + 1} names no image")
    roles = roles_of_column(where, [row.get(split) for row in rows]) if split else [None] * len(rows)
    labels = [row.get(label) for row in rows] if label else None
    return _Rows(columns, images, roles, labels)


def _parsed(name: str, data: bytes) -> list[dict[str, Any]]:
    """The rows of a list by column; any error means that it is not a list."""
    if name.endswith(".parquet"):
        return _rows_of_parquet(data)
    text = data.decode("utf-8-sig")
    if name.endswith(".jsonl"):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no object")
        return rows
    mark = delimiter_of(name, text.partition("\n")[0])
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, restkey="", strict=True)
    rows = [{key: value for key, value in row.items() if key} for row in reader]
    ragged = next((number for number, row in enumerate(rows, 2) if None in row.values()), None)
    if ragged is not None:
        raise ValueError(f"line {ragged} has fewer cells than the first")
    return rows


def _rows_of_parquet(data: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except ImportError as error:
        raise ValueError("it needs pyarrow: pip install 'softvq[tables]'") from error
    except Exception as error:  # pyarrow raises many kinds on damaged bytes
        raise ValueError(str(error)) from error
    return rows
