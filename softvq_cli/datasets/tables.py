"""Parquet and Arrow files with the images in a column, as Hugging Face's ``datasets`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.config import DataConfig
from softvq_cli.datasets import limits
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.layout import Layout
from softvq_cli.datasets.naming import Role, role_of
from softvq_cli.datasets.rows import Columns, Row, arranged, columns_of, role_of_value
from softvq_cli.datasets.sources import Listing, Member, Source
from softvq_cli.errors import InputError, one_line
from softvq_cli.files import arrow_errors, arrow_file

ENDINGS = (".parquet", ".arrow")
_BATCH = 256


def open_tables(path: Path, files: Sequence[str] | None = None) -> Source:
    """A .parquet or .arrow file, or some of them below a folder.

    Args:
        path: the file or the folder.
        files: paths below the folder.

    Raises:
        InputError: one cannot be read.
    """
    found = [path] if files is None else [path / name for name in sorted(files)]
    mark = stamp([File.at(file.relative_to(path).as_posix(), file) for file in found])
    return Source(path, lambda: Listing([], set()), lambda members: _read(path, found, members), mark)


def arrange_tables(source: Source, config: DataConfig, files: Sequence[str] | None = None) -> Layout:
    """The rows of those tables; splits from a column or from the names of files and folders.

    Raises:
        InputError: pyarrow is missing, a table is damaged, or a column cannot be used.
    """
    path = source.path
    rows: list[Row] = []
    names: list[str] | None = None
    labelled = False
    notes: list[str] = []
    for number, name in enumerate([path.name] if files is None else sorted(files)):
        table = _Table(path if files is None else path / name)
        columns = table.columns(config)
        notes += [note for note in columns.notes if note not in notes]
        named = table.class_names(columns.label)
        if labelled and columns.label and named != names:
            raise InputError(f"{path}: {name} names other classes than the file before it")
        names, labelled = (named, True) if columns.label else (names, labelled)
        by_name = None if files is None else _role_of_file(name)
        rows += table.rows(number, name, columns, by_name)
    return arranged(str(path), rows, names, notes)


def _role_of_file(name: str) -> Role | None:
    """``data/train-00000-of-00002.parquet``, ``test/data-00000-of-00001.arrow`` → the split."""
    parts = name.rsplit(".", 1)[0].split("/")
    return next((role for part in reversed(parts) if (role := role_of(part)) is not None), None)


def _read(root: Path, files: Sequence[Path], members: Sequence[Member]) -> Iterator[tuple[int, bytes]]:
    """The images of some rows, file by file."""
    wanted: dict[int, dict[int, int]] = {}
    for index, member in enumerate(members):
        number, row, _ = member.entry
        wanted.setdefault(number, {})[row] = index
    for number, rows in sorted(wanted.items()):
        column = members[next(iter(rows.values()))].entry[2]
        for row, value in enumerate(_Table(files[number]).images(column)):
            if row in rows:
                yield rows[row], _bytes_of(files[number], row, value)


def _bytes_of(path: Path, row: int, value: Any) -> bytes:
    """The file in a cell: bytes, a path relative to the table, or a struct of both."""
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, str):
        target = path.parent / value
        try:
            value = target.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: row {row} names {value}, which cannot be read: {error.strerror}") from error
    if not isinstance(value, bytes):
        raise InputError(f"{path}: row {row} holds no image")
    limits.check_file_size(path, f"row {row}", len(value))
    return value


@dataclass(frozen=True)
class _Table:
    """One file."""

    path: Path

    def columns(self, config: DataConfig) -> Columns:
        """Which column is what, by Hugging Face's features, by the types, by the names."""
        schema, features = self._schema(), self._features()
        images = [name for name, kind in features.items() if kind.get("_type") == "Image"]
        images = images or [field.name for field in schema if _holds_bytes(field.type)]
        labels = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"]
        chosen = {name: getattr(config, name) for name in ("image_column", "label_column", "split_column")}
        found = columns_of(str(self.path), schema.names, chosen, images=images, labels=labels)
        kind = schema.field(found.image).type
        if not (_holds_bytes(kind) or _is_text(kind)):
            raise InputError(
                f"{self.path}: the column {found.image} holds {one_line(kind, 60)}; images are files as bytes, or paths"
            )
        return found

    def class_names(self, label: str | None) -> list[str] | None:
        """The names of a ClassLabel."""
        names = self._features().get(label or "", {}).get("names")
        return [str(name) for name in names] if isinstance(names, list) else None

    def rows(self, number: int, name: str, columns: Columns, role: Role | None) -> list[Row]:
        """Each row without its image."""
        wanted = [column for column in (columns.label, columns.split) if column is not None]
        table = self._read(wanted)
        count = table.num_rows if wanted else self._count()
        labels = table.column(columns.label).to_pylist() if columns.label else [None] * count
        roles: list[Role | None] = [role] * count
        if columns.split is not None:
            roles = [role_of_value(str(self.path), value) for value in table.column(columns.split).to_pylist()]
        size = self.path.stat().st_size // max(count, 1)
        members = (Member(f"{name}#{row}", size, (number, row, columns.image)) for row in range(count))
        return [Row(*one) for one in zip(members, roles, labels, strict=True)]

    def images(self, column: str) -> Iterator[Any]:
        """The cells of one column, a batch in memory at a time."""
        with arrow_errors(self.path, "table"):
            for batch in self._batches(column):
                yield from batch.column(0).to_pylist()

    def _features(self) -> dict[str, Any]:
        """What ``datasets`` wrote of the columns; empty without it."""
        metadata = self._schema().metadata or {}
        try:
            found = json.loads(metadata[b"huggingface"])["info"]["features"]
        except (KeyError, ValueError, TypeError):
            return {}
        return {name: kind for name, kind in found.items() if isinstance(kind, dict)} if isinstance(found, dict) else {}

    def _schema(self) -> Any:
        with arrow_errors(self.path, "table"):
            return self._arrow().schema if self._is_arrow else self._parquet().schema_arrow

    def _count(self) -> int:
        with arrow_errors(self.path, "table"):
            return int(self._arrow().read_all().num_rows if self._is_arrow else self._parquet().metadata.num_rows)

    def _read(self, columns: list[str]) -> Any:
        with arrow_errors(self.path, "table"):
            return self._arrow().read_all().select(columns) if self._is_arrow else self._parquet().read(columns)

    def _batches(self, column: str) -> Iterator[Any]:
        if not self._is_arrow:
            yield from self._parquet().iter_batches(_BATCH, columns=[column])
            return
        for batch in self._arrow():
            yield batch.select([column])

    @property
    def _is_arrow(self) -> bool:
        return self.path.suffix == ".arrow"

    def _parquet(self) -> Any:
        from pyarrow.parquet import ParquetFile

        return ParquetFile(arrow_file(self.path))

    def _arrow(self) -> Any:
        """The stream that ``save_to_disk`` writes, or Arrow's file format."""
        import pyarrow

        source = arrow_file(self.path)
        if source.read(6) != b"ARROW1":
            source.seek(0)
            return pyarrow.ipc.open_stream(source)
        reader = pyarrow.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return pyarrow.RecordBatchReader.from_batches(reader.schema, batches)


def _holds_bytes(kind: Any) -> bool:
    """Whether a column's type is binary, or a struct with bytes as ``datasets`` writes it."""
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text and "binary" in text)


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string")
