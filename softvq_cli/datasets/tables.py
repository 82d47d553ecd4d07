"""Tables of images: which column is what; Parquet and Arrow files as Hugging Face's ``datasets`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.naming import Role, check_file_size, missing_parts, role_of, roles_of_files, shorten
from softvq_cli.datasets.records import Records, Source, divided
from softvq_cli.errors import InputError, Message, one_line, param
from softvq_cli.files import arrow_errors, arrow_file

ENDINGS = (".parquet", ".arrow")
_BATCH = 256

IMAGE = ("image", "img", "images", "picture", "photo", "file_name", "filename", "file", "path", "filepath", "file_path")
IMAGE_MORE = ("image_path", "image_file", "image_name", "jpg", "jpeg", "png", "webp", "image_id", "id")
LABEL = ("label", "labels", "class", "class_name", "category", "target", "targets", "y", "cls")
SPLIT = ("split", "subset", "partition", "set")
VECTOR = ("vector", "vectors", "embedding", "embeddings", "features", "emb", "z")
NAME = ("name", "file", "file_name", "filename", "path", "text", "title", "word", "id", "key", "index")
"""What the columns are called, those that win first."""


@dataclass(frozen=True)
class Columns:
    """Which column is what."""

    image: str
    label: str | None
    split: str | None
    notes: tuple[str, ...]


def columns_of(
    where: str,
    names: Sequence[str],
    chosen: Mapping[str, str | None],
    *,
    images: Sequence[str] = (),
    labels: Sequence[str] = (),
    data: Sequence[str] = (),
) -> Columns:
    """Find the columns of a table, by the settings ``image_column``, ``label_column`` and ``split_column`` first.

    ``images`` and ``labels`` can only be that, by their type; where columns of numbers are the ``data``, there are no
    images.
    """
    chosen = dict(chosen)
    unlabelled = chosen["label_column"] == "none" and "none" not in names
    if unlabelled:
        chosen["label_column"] = None
    for setting, name in chosen.items():
        if name is not None and name not in names:
            raise InputError("{} has no column {!r} ({}); it has {}", where, name, param(setting), shorten(names, 12))
    image = chosen["image_column"] or (images[0] if len(images) == 1 else column_called(names, IMAGE + IMAGE_MORE))
    image = "" if data else image
    if image is None:
        raise InputError(
            "{} has no column that is clearly the image; choose one with {image_column}: {}", where, shorten(names, 12)
        )
    plain = [name for name in names if not (name.lower() == "y" and {"x", "X"} & set(names))]  # a place in the image
    label = chosen["label_column"] or (labels[0] if len(labels) == 1 else column_called(plain, LABEL))
    label = None if unlabelled or label == image else label
    split = chosen["split_column"] or column_called(names, SPLIT)
    unused = [name for name in names if name not in (image, label, split, *data)]
    notes = [f"unused columns: {shorten(unused, 8)}"] if unused else []
    if label is None and not unlabelled and (unused or data):
        text = "no column is clearly the label: no labels ({label_column} chooses one of {})"
        notes = [Message(text, shorten(unused or data, 8))]
    return Columns(image, label, split, tuple(notes))


def delimiter_of(name: str, header: str) -> str:
    """What stands between the cells of a .csv: a comma, or of a header without one what others write."""
    return "\t" if name.lower().endswith(".tsv") else next((mark for mark in ",;\t" if mark in header), ",")


def column_called(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The column that is called by one of these words, the first of them that there is."""
    by_word = {name.strip().lower(): name for name in reversed(names)}
    return next((by_word[word] for word in known if word in by_word), None)


def role_of_value(where: str, value: Any) -> Role:
    """The split that a cell of the split column names."""
    role = role_of(str(value))
    if role is None:
        raise InputError(f"{where}: {str(value)[:80]!r} is not a split; write train, validation or test")
    return role


def chosen_columns(config: DataConfig) -> dict[str, str | None]:
    """The settings that name a column."""
    return {name: getattr(config, name) for name in ("image_column", "label_column", "split_column")}


# ---- Parquet and Arrow


class TableSource(Source):
    """Images in a column of one or several tables; the place of an image is its row, counted through all of them."""

    def __init__(self, path: Path, config: DataConfig, names: Sequence[str] | None = None) -> None:
        self.names = [path.name] if names is None else sorted(names)
        self.tables = [_Table(path)] if names is None else [_Table(path / name) for name in self.names]
        self.roles: list[Role | None] = [None] if names is None else roles_of_files(self.names)
        self.notes = self._leave_out()
        self.config = config
        self.starts = np.zeros(1, np.int64)
        """The first row of each table, and the number of all."""
        files = [File.at(name, table.path) for name, table in zip(self.names, self.tables, strict=True)]
        key = cache.key_of("paths", stamp(files), chosen_columns(config))
        paths = cache.read_notes(key, ".fact")
        if paths is None:
            paths = [table.paths(table.columns(config).image) for table in self.tables]
            cache.write_notes(key, paths, ".fact")
        files += [
            File.at(f"{name}/{file}", table.path.parent / file)
            for name, table, inner in zip(self.names, self.tables, paths, strict=True)
            for file in inner
        ]
        super().__init__(path, stamp(files))

    def _leave_out(self) -> list[str]:
        """Leave out what is neither train nor test where others are: ``extra-00000-of-00002.parquet`` of SVHN."""
        if "train" not in self.roles or not {"test", "validation"} & set(self.roles):
            return []
        rows = zip(self.names, self.tables, self.roles, strict=True)
        kept = [row for row in rows if row[2] is not None or "-of-" not in row[0]]
        left = sorted({*self.names} - {name for name, _, _ in kept})
        self.names, self.tables = [name for name, _, _ in kept], [table for _, table, _ in kept]
        self.roles = [role for _, _, role in kept]
        return [f"not used, neither train nor test: {shorten(left)}"] if left else []

    def records(self) -> Records:
        """The rows of the tables; splits from a column or from the names of files and folders."""
        rows, roles, labels = Records.empty(), [], []
        class_names: list[str] | None = None
        labelled = False
        notes = [*self.notes, *missing_parts(self.names)]
        counts: list[int] = []
        for name, table, role in zip(self.names, self.tables, self.roles, strict=True):
            columns = table.columns(self.config)
            notes += [note for note in columns.notes if note not in notes]
            names = table.class_names(columns.label)
            if labelled and columns.label and names != class_names:
                raise InputError(f"{self.path}: {name} has other classes than the file before it")
            class_names, labelled = (names, True) if columns.label else (class_names, labelled)
            count, own_labels, own_roles = table.rows(columns)
            start, size = sum(counts), table.path.stat().st_size // max(count, 1)
            for row in range(count):
                rows.add(f"{name}#{row}", start + row, size)
            labels += own_labels
            roles += [role] * count if own_roles is None else own_roles
            counts.append(count)
        self.starts = np.cumsum([0, *counts])
        return divided(str(self.path), rows, roles, labels, class_names, notes)

    def of_vectors(self) -> bool:
        """Whether the column that is read holds vectors, in every table."""
        kinds = {_holds_vectors(table.kind_of(table.columns(self.config).image)) for table in self.tables}
        if len(kinds) > 1:
            raise InputError(f"{self.path} holds tables of images and tables of vectors: give the path of one of them")
        return kinds == {True}

    def vectors(self) -> tuple[np.ndarray, list[str] | None]:
        """(N, D) of all rows, and what the vectors are called if a column says it."""
        rows, names = [], []
        for table in self.tables:
            columns = table.columns(self.config)
            named = column_called([name for name in table.names if name not in (columns.label, columns.split)], NAME)
            part = table._read([columns.image, *([named] if named else [])])
            rows.append(vectors_of(part.column(columns.image), f"{table.path}: its column {columns.image}"))
            names += [str(name) for name in part.column(named).to_pylist()] if named else []
        if len({part.shape[1] for part in rows}) > 1:
            raise InputError(f"{self.path} holds vectors of {shorten(str(part.shape[1]) for part in rows)} numbers")
        whole = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return whole, names if len(names) == len(whole) else None

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """Table by table, in their order."""
        wanted = {place: index for index, place in enumerate(files.places)}
        used = np.unique(np.searchsorted(self.starts, files.places, side="right") - 1)
        for number in used.tolist():
            table, start = self.tables[number], int(self.starts[number])
            for row, value in enumerate(table.images(table.columns(self.config).image)):
                if start + row in wanted:
                    yield wanted[start + row], _bytes_of(table.path, row, value)


def _bytes_of(path: Path, row: int, value: Any) -> bytes:
    """The file in a cell: bytes, a path relative to the table, or a struct of both."""
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, str):
        target = path.parent / value
        try:
            value = target.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: row {row} names {one_line(value)}, which cannot be read: {error.strerror}"
            ) from error
    if not isinstance(value, bytes):
        raise InputError(f"{path}: row {row} holds no image")
    check_file_size(path, f"row {row}", len(value))
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
        if not images:  # vectors win over a column of paths, which says where they come from
            vectors = [field.name for field in schema if _holds_vectors(field.type)]
            images = vectors if len(vectors) == 1 else [name for name in vectors if name.lower() in VECTOR][:1]
        labels = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"]
        columns = columns_of(str(self.path), schema.names, chosen_columns(config), images=images, labels=labels)
        kind = schema.field(columns.image).type
        if not (_holds_bytes(kind) or _is_text(kind) or _holds_vectors(kind)):
            raise InputError(
                f"{self.path}: the column {columns.image} holds {one_line(kind, 60)}; images are files as bytes, or "
                "paths, and vectors are lists of floats"
            )
        return columns

    @property
    def names(self) -> list[str]:
        """Of all columns."""
        return list(self._schema().names)

    def kind_of(self, column: str) -> Any:
        """The type of a column."""
        return self._schema().field(column).type

    def class_names(self, label: str | None) -> list[str] | None:
        """The names of a ClassLabel."""
        names = self._features().get(label or "", {}).get("names")
        return [str(name) for name in names] if isinstance(names, list) else None

    def rows(self, columns: Columns) -> tuple[int, list[Any], list[Role | None] | None]:
        """(how many, the label of each, the split of each if a column says it)."""
        wanted = [column for column in (columns.label, columns.split) if column is not None]
        table = self._read(wanted)
        count = table.num_rows if wanted else self._count()
        with arrow_errors(self.path, "table"):  # texts may not be UTF-8
            labels = table.column(columns.label).to_pylist() if columns.label else [None] * count
            splits = table.column(columns.split).to_pylist() if columns.split else None
        return count, labels, splits and [role_of_value(str(self.path), value) for value in splits]

    def paths(self, column: str) -> list[str]:
        """The files that the cells of a column name instead of holding them."""
        if self._holds_all(column):
            return []
        paths: list[str] = []
        for cell in self.images(column):
            if not isinstance(cell, dict | str | None):
                return []
            path = cell if not isinstance(cell, dict) else cell.get("path") if cell.get("bytes") is None else None
            paths += [path] if isinstance(path, str) else []
        return paths

    def _holds_all(self, column: str) -> bool:
        """Whether a Parquet says in its footer that every cell holds bytes: nothing has to be read then."""
        if self._is_arrow or _is_text(self.kind_of(column)):
            return False
        with arrow_errors(self.path, "table"):
            footer = self._parquet().metadata
            groups = map(footer.row_group, range(footer.num_row_groups))
            chunks = [group.column(place) for group in groups for place in range(footer.num_columns)]
            held = [
                chunk.statistics
                for chunk in chunks
                if chunk.path_in_schema in (column, f"{column}.bytes") and chunk.physical_type == "BYTE_ARRAY"
            ]
        return bool(held) and all(part is not None and part.has_null_count and part.null_count == 0 for part in held)

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
            schema = self._arrow().schema if self._is_arrow else self._parquet().schema_arrow
            str(schema.names)  # decoded here, since those of a damaged file may not be UTF-8
            return schema

    def _count(self) -> int:
        with arrow_errors(self.path, "table"):
            return int(self._arrow().read_all().num_rows if self._is_arrow else self._parquet().metadata.num_rows)

    def _read(self, columns: list[str]) -> Any:
        with arrow_errors(self.path, "table"):
            if not self._is_arrow:
                return self._parquet().read(columns)
            return _checked(self._arrow().read_all().select(columns))

    def _batches(self, column: str) -> Iterator[Any]:
        if not self._is_arrow:
            yield from self._parquet().iter_batches(_BATCH, columns=[column])
            return
        for batch in self._arrow():
            yield _checked(batch.select([column]))

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


def _checked(rows: Any) -> Any:
    """Rows of an Arrow file, whose places in it are believed unchecked: damaged ones would be read from anywhere."""
    rows.validate(full=True)
    return rows


def _holds_bytes(kind: Any) -> bool:
    """Whether a column's type is binary, or a struct with bytes as ``datasets`` writes it."""
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text and "binary" in text)


def _holds_vectors(kind: Any) -> bool:
    """Whether a column's type is a list of floats, of one length or any."""
    import pyarrow as pa

    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def vectors_of(column: Any, where: str) -> np.ndarray:
    """(N, D) of a column of lists of numbers, all of one length."""
    import pyarrow as pa
    import pyarrow.compute

    kind = column.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    numbers = lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    if not numbers or not len(column):
        raise InputError(f"{where} holds {len(column)} {one_line(kind, 60)}, not lists of numbers")
    lengths = pa.compute.list_value_length(column)
    widths = pa.compute.min_max(lengths).as_py()
    values = pa.compute.list_flatten(column)
    if column.null_count or values.null_count or widths["min"] != widths["max"] or not widths["min"]:
        raise InputError(f"{where} has empty cells or lists of different lengths: all lists must have the same length")
    return np.asarray(values.to_numpy()).reshape(len(column), widths["min"])


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string")
