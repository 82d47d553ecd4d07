"""Vectors as data: rows of floating-point numbers from arrays, tables and .csv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, folder, tables
from softvq_cli.datasets.dataset import Dataset, blocks
from softvq_cli.datasets.naming import shorten
from softvq_cli.datasets.records import MISSING, Division, divide
from softvq_cli.errors import InputError, Message, one_line
from softvq_cli.words import VectorScale

NAME_OF_ROW = ("id", "image_id", "imageid")
"""Columns that name images, if there are files of these names or few numbers, and otherwise rows of numbers."""


def checked(array: np.ndarray, where: str) -> np.ndarray:
    """Check that the array is finite and convert it to float32 (N, D); a float32 memory map is returned unchanged."""
    if not array.size:
        raise InputError(f"{where} is not an array of vectors: its shape is {array.shape}")
    try:
        with np.errstate(over="ignore"):  # values too large for float32 become infinite, which is detected below
            vectors = np.asarray(array, np.float32)
    except MemoryError as error:
        raise InputError(
            f"{where} does not fit into memory as float32; save it as float32, then it is read from disk"
        ) from error
    start = 0
    for block in blocks(vectors):
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            raise InputError(f"{where} holds NaN, infinity or a number too large for float32 in row {start + bad[0]}")
        start += len(block)
    return vectors


def of_table(path: Path, division: Division, rows: np.ndarray, names: Sequence[str] | None, key: str) -> Dataset:
    """The vectors of a table (N, D), optionally with names of all rows; ``key`` identifies the content in the cache."""
    places = division.rows
    vectors = checked(rows if np.array_equal(places, np.arange(len(rows))) else rows[places], str(path))
    return Dataset(
        path.name,
        *("all", vectors, division.labels, division.class_names),
        file_names=None if names is None else tuple(names[place] for place in places.tolist()),
        notes=(*division.notes, Message("vectors of {} numbers", vectors.shape[1])),
        train=division.train,
        key=key,
    )


# ---- .csv


def read_csv(path: Path, config: DataConfig) -> Dataset | None:
    """Rows of numbers in a .csv or .tsv file; None if it has fewer than two numeric columns, or names images."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the reader of lists reports the error
    mark = tables.delimiter_of(path.name, text.partition("\n")[0])
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    header, values = next(lines, []), next(lines, [])
    numbered = bool(values) and header in ([*map(str, range(n, len(header) + n))] for n in (0, 1))  # by pandas
    headless = all(map(_is_number, header)) and not numbered
    names = [f"column {number}" for number in range(1, len(header) + 1)] if headless else header
    values = header if headless and not values else values
    ids = [name for name in names if name.strip().lower() in NAME_OF_ROW]
    images = tables.column_called([name for name in names if name not in ids], tables.IMAGE + tables.IMAGE_MORE)
    if config.image_column is not None or images is not None or len(names) != len(values):
        return None
    if any(folder.names_file(path, values[names.index(name)].strip()) for name in ids):
        return None
    named = None if headless else tables.column_called(names, tables.NAME)
    cells = zip(names, _first_cells(values, lines), strict=True)
    numeric = [name for name, value in cells if name.strip() and name != named and _is_number(value)]
    chosen = tables.chosen_columns(config)
    if headless and config.label_column is None:
        chosen["label_column"] = "none"
    columns = tables.columns_of(str(path), names, chosen, data=[*numeric, *([named] if named else [])])
    numeric = [name for name in numeric if name not in (columns.label, columns.split)]
    if len(numeric) < 2:
        return None
    rows = _numbers(path, text, mark, headless, [names.index(name) for name in numeric])
    others = [name for name in (columns.label, columns.split, named) if name is not None]
    text_of = _columns_of_text(path, text, mark, headless, names, others)
    splits = tables.roles_of_column(str(path), text_of[columns.split]) if columns.split else [None] * len(rows)
    labels = text_of[columns.label] if columns.label else None
    notes = [f"the first line, {shorten(header)}, is treated as the names of the columns"] if numbered else []
    notes += [*columns.notes, *_doubts(names, ids)]
    division = divide(str(path), splits, labels, name=lambda row: f"{path.name}#{row}", notes=notes)
    key = cache.key_of("vectors", cache.stamp_of(path), chosen)
    return of_table(path, division, rows, text_of[named] if named else None, key)


def _first_cells(values: list[str], lines: Iterable[list[str]]) -> list[str]:
    """The first cell of each column that has a value: an empty cell does not say what the column is."""
    gaps = MISSING | {""}
    for line in lines:
        if gaps.isdisjoint(values):
            break
        more = [*line, *values[len(line) :]]
        values = [after if value in gaps else value for value, after in zip(values, more, strict=False)]
    return values


def _doubts(names: Sequence[str], ids: Sequence[str]) -> list[Message]:
    """Notes if the rows of numbers may have been meant as images."""
    text = "no file near the list has the name in its column {}: its rows are read as vectors"
    doubts = [Message(text, name) for name in ids if name.lower() != "id"]
    if any(name.lower().startswith("pixel") for name in names):
        doubts.append(Message("rows that are images have to be saved with numpy.save and need {image_shape} H,W,C"))
    return doubts


def _columns_of_text(
    path: Path, text: str, mark: str, headless: bool, names: list[str], wanted: list[str]
) -> dict[str, list[str]]:
    """The cells of these columns by name; nothing is read if there are none."""
    lines = csv.reader(io.StringIO(text if wanted else "", newline=""), delimiter=mark)
    body = [line for line in lines if line][0 if headless else 1 :]
    ragged = next((number for number, line in enumerate(body, 1) if len(line) != len(names)), None)
    if ragged is not None:
        raise InputError(f"{path}: row {ragged} has {len(body[ragged - 1])} cells, the first line {len(names)}")
    return {name: [line[names.index(name)] for line in body] for name in wanted}


def _numbers(path: Path, text: str, mark: str, headless: bool, places: list[int]) -> np.ndarray:
    skip, file = 0 if headless else 1, io.StringIO(text)
    try:
        return np.loadtxt(file, delimiter=mark, skiprows=skip, usecols=places, comments=None, quotechar='"', ndmin=2)
    except ValueError as error:
        raise InputError(f"{path} holds a cell that is not a number: {one_line(error)}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- scaling


class Standard(NamedTuple):
    """Parameters for standardising vectors: x → (x - mean) / spread."""

    mean: np.ndarray
    """float32 (D,)."""
    spread: np.ndarray
    """float32 (D,): the same value for all columns, or one per column."""
    variance: float
    """Variance of all standardised training values: the denominator of the nMSE."""


def standard_of(vectors: np.ndarray, scale: VectorScale) -> Standard:
    """The mean of each column, and the root mean square of the deviations: of all columns together, or of each.

    A constant column is not scaled.
    """
    n, mean = len(vectors), np.zeros(vectors.shape[1])
    for block in blocks(vectors):
        mean += block.sum(axis=0, dtype=np.float64)
    mean /= n
    squares = np.zeros_like(mean)
    for block in blocks(vectors):
        squares += np.square(block - mean).sum(axis=0)
    variances = squares / n
    spread = np.sqrt(variances if scale == "columns" else np.full_like(mean, variances.mean()))
    spread = np.where(spread > 0, spread, 1.0)
    return Standard(
        mean.astype(np.float32), spread.astype(np.float32), max(float((variances / spread**2).mean()), 1e-12)
    )
