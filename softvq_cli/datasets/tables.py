"""Tables of images or vectors: the meaning of columns; Parquet and Arrow files as in Hugging Face's ``datasets``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, naming
from softvq_cli.datasets.naming import Role, check_file_size, missing_parts, role_of, roles_of_files, shorten
from softvq_cli.datasets.records import Division, Records, Source, divide
from softvq_cli.errors import InputError, Message, one_line, param
from softvq_cli.files import arrow_errors, arrow_file

ENDINGS = (".parquet", ".arrow")

IMAGE = ("image", "img", "images", "picture", "photo", "file_name", "filename", "file", "path", "filepath", "file_path")
IMAGE_MORE = ("image_path", "image_file", "image_name", "jpg", "jpeg", "png", "webp", "image_id", "imageid", "id")
LABEL = ("label", "labels", "class", "class_name", "category", "target", "targets", "y", "cls")
SPLIT = ("split", "subset", "partition", "set")
VECTOR = ("vector", "vectors", "embedding", "embeddings", "features", "emb", "z")
NAME = (
    *("name", "file", "file_name", "filename", "path", "text", "title", "word", "id", "image_id", "imageid"),
    *("key", "index"),
)
"""Column names, in order of precedence."""
_ACROSS = re.compile(r"(c|p|pos_?|center_?)x|x_?(\d|c|min|max|pos|center|centre)")
"""Columns of images next to which ``y`` is a position. Vectors often have x1, x2, … and the class y."""


@dataclass(frozen=True)
class Columns:
    """The meaning of the columns."""

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
    """Find the columns of a table; the settings ``image_column``, ``label_column`` and ``split_column`` come first.

    ``images`` and ``labels`` are columns whose type allows only that meaning. If columns of numbers are the ``data``,
    there are no images.
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
    places = [name for name in map(str.lower, names) if name == "x" or (not data and _ACROSS.fullmatch(name))]
    plain = [name for name in names if not (places and name.lower() == "y")]  # a coordinate
    label = chosen["label_column"] or (labels[0] if len(labels) == 1 else column_called(plain, LABEL))
    label = None if unlabelled or label == image else label
    split = chosen["split_column"] or column_called(names, SPLIT)
    unused = [name for name in names if name not in (image, label, split, *data)]
    notes = [f"unused columns: {shorten(unused, 8)}"] if unused else []
    if label is None and not unlabelled and (unused or data):
        text = "no column is clearly the label: no labels ({label_column} chooses one of {})"
        notes = [Message(text, shorten(unused or data, 8))]
    return Columns(image, label, split, tuple(notes))


def column_called(names: Sequence[str], words: Sequence[str]) -> str | None:
    """The column with one of these names, in order of precedence."""
    by_word = {name.strip().lower(): name for name in reversed(names)}
    return next((by_word[word] for word in words if word in by_word), None)


def chosen_columns(config: DataConfig) -> dict[str, str | None]:
    """The settings that name a column."""
    return {name: getattr(config, name) for name in ("image_column", "label_column", "split_column")}


def delimiter_of(name: str, header: str) -> str:
    """The delimiter of a .csv file: a comma, or if its header has none, another common one."""
    return "\t" if name.lower().endswith(".tsv") else next((mark for mark in ",;\t" if mark in header), ",")


def roles_of_column(where: str, cells: Sequence[Any]) -> list[Role | None]:
    """The splits named in the cells of the split column."""
    roles = {cell: role_of(str(cell)) for cell in dict.fromkeys(cells)}
    odd = next((cell for cell, role in roles.items() if role is None), None)
    if None in roles.values():
        raise InputError(f"{where}: {str(odd)[:80]!r} is not a split; write train, validation or test")
    return [roles[cell] for cell in cells]


# ---- Parquet and Arrow


class TableSource(Source):
    """Images in a column of one or several tables; the position of an image is its row, counted over all tables."""

    def __init__(self, path: Path, config: DataConfig, names: Sequence[str] | None = None) -> None:
        self.names = [path.name] if names is None else sorted(names)
        self.roles: list[Role | None] = [None] if names is None else roles_of_files(self.names)
        self.notes = self._leave_out()
        naming.check_alike(path, self.names, self.roles)
        self.tables = [_Table(path if names is None else path / name, config) for name in self.names]
        files = cache.Files()
        for name, table in zip(self.names, self.tables, strict=True):
            files.add(name, table.path)
        key = cache.key_of("paths", files.stamp(), chosen_columns(config))
        paths = cache.read_notes(key, ".fact")
        if paths is None:
            paths = [table.paths() for table in self.tables]
            cache.write_notes(key, paths, ".fact")
        for name, table, inner in zip(self.names, self.tables, paths, strict=True):
            for file in inner:
                files.add(f"{name}/{file}", table.path.parent / file)
        super().__init__(path, files.stamp(self.notes))  # the files that are left out are in a note only

    def _leave_out(self) -> list[str]:
        """Drop splits other than train and test if these exist: ``extra-00000-of-00002.parquet`` of SVHN."""
        if "train" not in self.roles or not {"test", "validation"} & set(self.roles):
            return []
        pairs = list(zip(self.names, self.roles, strict=True))
        left = [name for name, role in pairs if role is None and "-of-" in name]
        self.names, self.roles = map(list, zip(*(pair for pair in pairs if pair[0] not in left), strict=True))
        return [f"not used, neither train nor test: {shorten(left)}"] if left else []

    def division(self) -> Division:
        """The splits and labels of all rows, from columns or from the names of files and folders."""
        roles: list[Role | None] = []
        labels: list[Any] = []
        notes = [*self.notes, *missing_parts(self.names)]
        class_names: list[str] | None = None
        for name, table, role in zip(self.names, self.tables, self.roles, strict=True):
            label, split = table.columns.label, table.columns.split
            notes += [note for note in table.columns.notes if note not in notes]
            if label and any(cell is not None for cell in labels) and table.class_names != class_names:
                raise InputError(f"{self.path}: {name} has other classes than the file before it")
            class_names = table.class_names if label else class_names
            labels += table.cells(label) if label else [None] * table.count
            roles += roles_of_column(str(table.path), table.cells(split)) if split else [role] * table.count
        if not roles:
            raise InputError(f"{self.path} holds no images")
        more: dict[str, Any] = {"class_names": class_names, "notes": notes}
        labelled = any(table.columns.label for table in self.tables)
        folders = {name.rpartition("/")[0] for name, role in zip(self.names, self.roles, strict=True) if role is None}
        if not labelled and folders - {"", "data"}:
            notes.append(f"no labels; the names of folders are not used: {shorten(sorted(folders))}")
        return divide(
            str(self.path), roles, labels if labelled else None, name=lambda row: self._row_names()[row], **more
        )

    def _row_names(self) -> list[str]:
        pairs = zip(self.names, self.tables, strict=True)
        return [f"{name}#{row}" for name, table in pairs for row in range(table.count)]

    def records(self) -> Records:
        """The images of train and test."""
        sizes = [table.path.stat().st_size // max(table.count, 1) for table in self.tables]
        names = self._row_names()
        files = Records.of(names, range(len(names)), np.repeat(sizes, [table.count for table in self.tables]))
        return files.take(**self.division()._asdict())

    def of_vectors(self) -> bool:
        """Whether the selected column has vectors, in every table."""
        kinds = {_holds_vectors(table.kind) for table in self.tables}
        if len(kinds) > 1:
            raise InputError(f"{self.path} holds tables of images and tables of vectors: give the path of one of them")
        return kinds == {True}

    def vectors(self) -> tuple[np.ndarray, list[str] | None]:
        """All rows (N, D), and the names of the vectors if there is a column for them."""
        rows, names = [], []
        for table in self.tables:
            columns = table.columns
            rest = [name for name in table.schema.names if name not in (columns.label, columns.split)]
            rows.append(vectors_of(table.read(columns.image), f"{table.path}: its column {columns.image}"))
            named = column_called(rest, NAME)
            names += [str(cell) for cell in table.cells(named)] if named else []
        if len({part.shape[1] for part in rows}) > 1:
            raise InputError(f"{self.path} holds vectors of {shorten(str(part.shape[1]) for part in rows)} numbers")
        whole = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return whole, names if len(names) == len(whole) else None

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """Yield the images table by table, in order."""
        wanted = {place: index for index, place in enumerate(files.places.tolist())}
        start = 0
        for table in self.tables:
            if any(start <= place < start + table.count for place in wanted):
                for row, cell in enumerate(table.images()):
                    if start + row in wanted:
                        yield wanted[start + row], _bytes_of(table.path, row, cell)
            start += table.count


def _bytes_of(path: Path, row: int, cell: Any) -> bytes:
    """The file in a cell: bytes, a path relative to the table, or a struct of both."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, str):
        try:
            cell = (path.parent / cell).read_bytes()
        except OSError as error:
            text = f"{path}: row {row} names {one_line(cell)}, which cannot be read: {error.strerror}"
            raise InputError(text) from error
    if not isinstance(cell, bytes):
        raise InputError(f"{path}: row {row} holds no image")
    check_file_size(path, f"row {row}", len(cell))
    return cell


class _Table:
    """One file."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path, self._config = path, config
        self._is_arrow = path.suffix == ".arrow"

    @cached_property
    def columns(self) -> Columns:
        """The meaning of the columns, from Hugging Face's features, from types and from names."""
        images = [name for name, kind in self._features.items() if kind.get("_type") == "Image"]
        images = images or [field.name for field in self.schema if _holds_bytes(field.type)]
        if not images:  # vectors take precedence over a column of paths, which names their origin
            vectors = [field.name for field in self.schema if _holds_vectors(field.type)]
            images = vectors if len(vectors) == 1 else [name for name in vectors if name.lower() in VECTOR][:1]
        labels = [name for name, kind in self._features.items() if kind.get("_type") == "ClassLabel"]
        chosen = chosen_columns(self._config)
        columns = columns_of(str(self.path), self.schema.names, chosen, images=images, labels=labels)
        kind = self.schema.field(columns.image).type
        if not (_holds_bytes(kind) or _is_text(kind) or _holds_vectors(kind)):
            raise InputError(
                f"{self.path}: the column {columns.image} holds {one_line(kind, 60)}; images are files as bytes, or "
                "paths, and vectors are lists of floats"
            )
        return columns

    @property
    def kind(self) -> Any:
        return self.schema.field(self.columns.image).type

    @property
    def class_names(self) -> list[str] | None:
        """The names of a ClassLabel."""
        names = self._features.get(self.columns.label or "", {}).get("names")
        return [str(name) for name in names] if isinstance(names, list) else None

    @cached_property
    def _features(self) -> dict[str, Any]:
        """Metadata on the columns from ``datasets``; empty if there are none."""
        try:
            features = json.loads((self.schema.metadata or {})[b"huggingface"])["info"]["features"]
            return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
        except (KeyError, ValueError, TypeError, AttributeError):
            return {}

    @cached_property
    def schema(self) -> Any:
        with arrow_errors(self.path, "table"):
            schema = self._arrow().schema if self._is_arrow else self._parquet().schema_arrow
            str(schema.names)  # decode now, because names in a damaged file may not be UTF-8
            return schema

    @cached_property
    def count(self) -> int:
        with arrow_errors(self.path, "table"):
            if self._is_arrow:
                return sum(batch.num_rows for batch in self._arrow())
            return int(self._parquet().metadata.num_rows)

    def read(self, column: str) -> Any:
        """Read one column."""
        import pyarrow

        with arrow_errors(self.path, "table"):
            batches = [batch.column(0) for batch in self._batches(column, 1 << 16)]
            return pyarrow.chunked_array(batches, self.schema.field(column).type)

    def cells(self, column: str) -> list[Any]:
        """One column as Python values."""
        with arrow_errors(self.path, "table"):  # texts may not be UTF-8
            cells: list[Any] = self.read(column).to_pylist()
        return cells

    def images(self) -> Iterator[Any]:
        """Yield the cells of the image column, one batch in memory at a time."""
        with arrow_errors(self.path, "table"):
            for batch in self._batches(self.columns.image, 256):
                yield from batch.column(0).to_pylist()

    def paths(self) -> list[str]:
        """The files named in the cells, if these have paths instead of bytes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not (_is_text(self.kind) or pa.types.is_struct(self.kind)):
            return []
        paths: list[str] = []
        with arrow_errors(self.path, "table"):
            for batch in self._batches(self.columns.image, 256):
                cells = batch.column(0)
                if pa.types.is_struct(cells.type):
                    named = "path" in {field.name for field in cells.type}
                    bare = cells.filter(pc.is_null(pc.struct_field(cells, "bytes")))
                    cells = pc.struct_field(bare, "path") if named else []
                paths += [str(path) for path in cells if path.is_valid]
        return paths

    def _batches(self, column: str, size: int) -> Iterator[Any]:
        if not self._is_arrow:
            yield from self._parquet().iter_batches(size, columns=[column])
            return
        for batch in self._arrow():
            rows = batch.select([column])
            rows.validate(full=True)  # offsets in a damaged file could point anywhere
            yield rows

    def _parquet(self) -> Any:
        from pyarrow.parquet import ParquetFile

        return ParquetFile(arrow_file(self.path))

    def _arrow(self) -> Any:
        """Open the stream written by ``save_to_disk``, or Arrow's file format."""
        import pyarrow

        source = arrow_file(self.path)
        if source.read(6) != b"ARROW1":
            source.seek(0)
            return pyarrow.ipc.open_stream(source)
        reader = pyarrow.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return pyarrow.RecordBatchReader.from_batches(reader.schema, batches)


def _holds_bytes(kind: Any) -> bool:
    """Whether a column has binary type, or is a struct with bytes as in ``datasets``."""
    text = str(kind)
    if text.startswith("struct<") and "bytes: null" in text:  # no row has bytes, all have paths
        return "path: string" in text or "path: large_string" in text
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text and "binary" in text)


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string")


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _holds_vectors(kind: Any) -> bool:
    """Whether a column has lists of floats, of fixed or variable length."""
    from pyarrow import types

    return _is_list(kind) and bool(types.is_floating(kind.value_type))


def vectors_of(column: Any, where: str) -> np.ndarray:
    """Convert a column of lists of numbers, all of one length, to (N, D)."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    numbers = _is_list(kind) and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    if not numbers or not len(column):
        raise InputError(f"{where} holds {len(column)} {one_line(kind, 60)}, not lists of numbers")
    widths = pc.min_max(pc.list_value_length(column)).as_py()
    values = pc.list_flatten(column)
    if column.null_count or values.null_count or widths["min"] != widths["max"] or not widths["min"]:
        raise InputError(f"{where} has empty cells or lists of different lengths: all lists must have the same length")
    return np.asarray(values.to_numpy()).reshape(len(column), widths["min"])
