"""Vectors as data: rows of floating-point numbers, as other models write them, from arrays, tables and .csv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, tables
from softvq_cli.datasets.dataset import Dataset, blocks
from softvq_cli.datasets.records import Division, divide
from softvq_cli.errors import InputError, Message, one_line
from softvq_cli.words import VectorScale

NAME_OF_ROW = ("id", "image_id")
"""Columns that name images in a list without numbers, and rows in a list of numbers."""


def checked(array: np.ndarray, where: str) -> np.ndarray:
    """float32 (N, D), all finite; a float32 array that is mapped from a file stays so."""
    if not array.size:
        raise InputError(f"{where} is not an array of vectors: its shape is {array.shape}")
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found below
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
    """The vectors of a table, (N, D) and perhaps names of all its rows; ``key`` stands for its content."""
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
    """Rows of numbers in a .csv or .tsv; None if it has less than two columns of them, or one that names images."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the reader of lists says what is wrong
    mark = tables.delimiter_of(path.name, text.partition("\n")[0])
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    header, values = next(lines, []), next(lines, [])
    headless = all(map(_is_number, header))
    names = [f"column {number}" for number in range(1, len(header) + 1)] if headless else header
    values = header if headless and not values else values
    images = tables.column_called(
        [name for name in names if name.lower() not in NAME_OF_ROW], tables.IMAGE + tables.IMAGE_MORE
    )
    if config.image_column is not None or images is not None or len(names) != len(values):
        return None
    named = None if headless else tables.column_called(names, tables.NAME)
    cells = zip(names, values, strict=True)
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
    all_lines = csv.reader(io.StringIO(text if others else "", newline=""), delimiter=mark)
    body = [line for line in all_lines if line][0 if headless else 1 :]
    ragged = next((number for number, line in enumerate(body, 1) if len(line) != len(names)), None)
    if ragged is not None:
        raise InputError(f"{path}: row {ragged} has {len(body[ragged - 1])} cells, the first line {len(names)}")
    text_of = {name: [line[names.index(name)] for line in body] for name in others}
    splits = tables.roles_of_column(str(path), text_of[columns.split]) if columns.split else [None] * len(rows)
    labels = text_of[columns.label] if columns.label else None
    division = divide(str(path), splits, labels, name=lambda row: f"{path.name}#{row}", notes=columns.notes)
    key = cache.key_of("vectors", cache.stamp_of(path), chosen)
    return of_table(path, division, rows, text_of[named] if named else None, key)


def _numbers(path: Path, text: str, mark: str, headless: bool, places: list[int]) -> np.ndarray:
    """float64 (N, D): those columns of a .csv."""
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


# ---- the scale


class Standard(NamedTuple):
    """What makes vectors standardised: x → (x - mean) / spread."""

    mean: np.ndarray
    """float32 (D,)."""
    spread: np.ndarray
    """float32 (D,): one number for all columns, or one for each."""
    variance: float
    """Of all standardised numbers of the training split: the denominator of nMSE."""


def standard_of(vectors: np.ndarray, scale: VectorScale) -> Standard:
    """The mean of each column, and the root mean square of what is left: of all columns together, or of each.

    A column without any spread stays as it is.
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
