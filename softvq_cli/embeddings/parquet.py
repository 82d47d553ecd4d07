"""Embeddings as one Parquet table, the format of viewers and Hugging Face's ``datasets``; and tables of codes.

``vector`` is a list of float32 with constant length; ``label``, ``class`` and ``file`` are optional; ``index`` is the
row number. The table's metadata has the content of ``NAME.json``.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.datasets.tables import vectors_of
from softvq_cli.embeddings.embedding import Embedding
from softvq_cli.errors import InputError, one_line, optional
from softvq_cli.files import arrow_errors, arrow_file, atomic_write, discard_abandoned, write_text

_ROWS = 1024
"""Rows in a row group; this many images are encoded in memory at a time."""
_CODE = "code_"
"""The prefix of code columns."""
_OURS, _HUGGING_FACE = b"softvq", b"huggingface"
"""Keys of the table's metadata."""


@dataclass(frozen=True)
class Columns:
    """The optional columns of a table; None: no column."""

    images: np.ndarray | None = None
    """uint8 (N, H, W, C), stored as PNG."""
    map: np.ndarray | None = None
    """float (N, 2)."""
    clusters: np.ndarray | None = None
    """int (N,)."""
    neighbours: tuple[np.ndarray, np.ndarray] | None = None
    """Rows, int (N, k), and distances, float (N, k)."""
    in_train: np.ndarray | None = None
    """bool (N,): which rows are in the training split."""


def check_available() -> None:
    """Raise SoftVQError if the packages for tables are missing."""
    optional("pyarrow", "tables", "pyarrow")


def write(path: Path, rows: Embedding, columns: Columns) -> None:
    """Write the vectors of ``rows`` and ``columns`` to ``NAME.parquet`` atomically (SoftVQError)."""
    check_available()
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    fields = _content(rows, columns, slice(0))
    features = {name: feature for name, (_, feature, _) in fields.items()}
    metadata = {_OURS: _stamp(rows), _HUGGING_FACE: json.dumps({"info": {"features": features}})}
    schema = pa.schema([(name, kind) for name, (kind, _, _) in fields.items()], metadata)
    discard_abandoned(path.parent, glob.escape(path.name))
    with atomic_write(path) as file, ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), _ROWS):
            content = _content(rows, columns, slice(start, start + _ROWS))
            arrays = [v if isinstance(v, pa.Array) else pa.array(v, kind) for kind, _, v in content.values()]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def write_codes(path: Path, rows: Embedding, in_train: np.ndarray | None = None) -> None:
    """Write the codes ``rows`` of items to ``NAME.parquet`` or ``NAME.csv`` atomically (SoftVQError).

    ``id`` is the file name of an item, or its index without file names; ``code_1``, ``code_2``, … are its codes, stage
    by stage (with a grid, position by position). ``code`` has all of them as text; ``suffix`` numbers the items with
    the same codes from 0, in the order of the data, so that ``unique``, for example ``12-4-9-0``, identifies one item.
    """
    codes = np.asarray(rows.z, np.int64)
    texts = ["-".join(map(str, row)) for row in codes.tolist()]
    suffixes = _suffixes(codes)
    names = rows.info.get("file_names")
    columns: dict[str, Any] = {"id": [_text(name) for name in names] if names else np.arange(len(rows))}
    columns |= {f"{_CODE}{number}": column for number, column in enumerate(codes.T, 1)}
    columns |= {"code": texts, "suffix": suffixes}
    columns["unique"] = [f"{text}-{suffix}" for text, suffix in zip(texts, suffixes, strict=True)]
    if rows.labels is not None:
        columns["label"] = rows.labels
        if rows.class_names:
            columns["class"] = [_text(rows.class_names[label]) for label in rows.labels]
    columns["split"] = _splits(rows.info.get("split"), in_train, slice(None), len(rows))
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_text(path, text.getvalue())
        return
    check_available()
    import pyarrow as pa
    from pyarrow.parquet import write_table

    table = pa.table(columns).replace_schema_metadata({_OURS: _stamp(rows)})
    discard_abandoned(path.parent, glob.escape(path.name))
    with atomic_write(path) as file:
        write_table(table, file)


def _stamp(rows: Embedding) -> str:
    """The content of ``NAME.json``, without the file names, which are a column."""
    return json.dumps({name: value for name, value in rows.info.items() if name != "file_names"})


def _suffixes(codes: np.ndarray) -> np.ndarray:
    """Number of earlier rows with the same codes, for each row of ``codes`` (N, n): int64 (N,)."""
    _, groups, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(groups.reshape(-1), kind="stable")
    suffixes = np.empty(len(codes), np.int64)
    suffixes[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return suffixes


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], Any]:
    """Read (vectors or codes (N, d), labels int (N,), class names, the content of ``NAME.json``).

    The last is None for tables of other programs. Only the types are checked. InputError: the table has neither vectors
    nor codes, or is damaged.
    """
    with arrow_errors(path, "Parquet table"):
        from pyarrow.parquet import ParquetFile

        file = ParquetFile(arrow_file(path))
        schema = file.schema_arrow
        metadata = schema.metadata or {}
        ours: Any = json.loads(metadata[_OURS]) if _OURS in metadata else None
        of_codes = isinstance(ours, dict) and ours.get("representation") == "codes"
        columns = [name for name in schema.names if name.startswith(_CODE)] if of_codes else ["vector"]
        if not columns or columns[0] not in schema.names:
            names = ", ".join(one_line(name, 40) for name in schema.names[:8])
            raise InputError(f"{path} has no column named {'code_1' if of_codes else 'vector'}; it has {names}")
        labelled = "label" in schema.names
        named = of_codes and "id" in schema.names and str(schema.field("id").type) == "string"
        table = file.read([*columns, *(["label"] if labelled else []), *(["id"] if named else [])])
        if named:
            ours["file_names"] = table.column("id").to_pylist()
        if of_codes:
            z = np.stack([_whole(table.column(name), name, path) for name in columns], axis=1)
        else:
            z = vectors_of(table.column("vector"), f"{path}: its column vector")
        labels = _whole(table.column("label"), "label", path) if labelled else None
        return z, labels, _class_names(metadata) if labelled else (), ours


def _content(rows: Embedding, columns: Columns, part: slice) -> dict[str, tuple[Any, Any, Any]]:
    """Name of each column → its type in Arrow, its type in ``datasets``, and its values in the rows ``part``."""
    import pyarrow as pa

    def many(kind: str, length: int = -1) -> dict[str, Any]:
        return {"feature": {"dtype": kind, "_type": "Value"}, "length": length, "_type": "Sequence"}

    z, numbers = np.ascontiguousarray(rows.z[part], dtype=np.float32), np.arange(len(rows))[part]
    files = [_text(name) for name in (rows.info.get("file_names") or [])[part]]
    d = z.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), d)
    whole, text = {"dtype": "int64", "_type": "Value"}, {"dtype": "string", "_type": "Value"}
    content: dict[str, tuple[Any, Any, Any]] = {
        "index": (pa.int64(), whole, numbers),
        "vector": (pa.list_(pa.float32(), d), many("float32", d), vectors),
    }
    if rows.labels is not None:
        names, labels = list(rows.class_names), rows.labels[part]
        content["label"] = (pa.int64(), {"names": names, "_type": "ClassLabel"} if names else whole, labels)
        if names:
            content["class"] = (pa.string(), text, [_text(names[label]) for label in labels])
    if rows.info.get("file_names"):
        content["file"] = (pa.string(), text, files)
    if "split" in rows.info:
        content["split"] = (pa.string(), text, _splits(rows.info["split"], columns.in_train, part, len(numbers)))
    if columns.images is not None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pairs = zip(map(_png, columns.images[part]), files or [f"{number}.png" for number in numbers], strict=True)
        content["image"] = (kind, {"_type": "Image"}, [{"bytes": png, "path": path} for png, path in pairs])
    if columns.map is not None:
        for axis, values in zip("xy", columns.map[part].astype(np.float32).T, strict=True):
            content[axis] = (pa.float32(), {"dtype": "float32", "_type": "Value"}, values)
    if columns.clusters is not None:
        content["cluster"] = (pa.int64(), whole, columns.clusters[part])
    if columns.neighbours is not None:
        kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
        near = zip(*(array[part].tolist() for array in columns.neighbours), strict=True)
        cells = [{"ids": ids, "distances": distances} for ids, distances in near]
        content["neighbors"] = (kind, {"ids": many("int64"), "distances": many("float32")}, cells)
    return content


def _splits(split: Any, in_train: np.ndarray | None, part: slice, count: int) -> list[str]:
    """The split name of each row in ``part``."""
    if in_train is None:
        return [str(split)] * count
    return ["train" if trained else "test" for trained in in_train[part]]


def _png(image: np.ndarray) -> bytes:
    """Encode one image, uint8 (H, W, 1 or 3), as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "png")
    return buffer.getvalue()


def _text(name: str) -> str:
    """Escape a file name that is not valid Unicode as in JSON, because Arrow accepts only valid text."""
    return name.encode(errors="backslashreplace").decode()


def _whole(column: Any, name: str, path: Path) -> np.ndarray:
    """An integer column as int (N,)."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count:
        raise InputError(
            f"{path}: its column {name} holds {one_line(column.type, 60)}: it takes whole numbers, one per row"
        )
    return np.asarray(column.to_numpy())


def _class_names(metadata: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The class names that ``datasets`` stores for the column ``label``; empty if there are none."""
    value: Any = json.loads(metadata.get(_HUGGING_FACE, b"{}"))
    for name in ("info", "features", "label", "names"):
        value = value.get(name) if isinstance(value, dict) else None
    return tuple(map(str, value)) if isinstance(value, list) else ()
