"""Vectors as data: rows of floating-point numbers, as other models write them, from arrays, tables and .csv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache
from softvq_cli.datasets.dataset import Dataset, blocks
from softvq_cli.datasets.records import Records, divided
from softvq_cli.datasets.tables import (
    IMAGE,
    IMAGE_MORE,
    NAME,
    chosen_columns,
    column_called,
    columns_of,
    delimiter_of,
    role_of_value,
)
from softvq_cli.errors import InputError, Message, one_line
from softvq_cli.words import VectorScale

NAME_OF_ROW = ("id", "image_id")
"""Columns that name images in a list without numbers, and rows in a list of numbers."""


def are_vectors(array: np.ndarray, config: DataConfig) -> bool:
    """Whether an array holds vectors: rows of floats, of which nobody says that they are images."""
    return array.ndim == 2 and array.dtype.kind == "f" and config.image_shape is None


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


def note_of(vectors: np.ndarray) -> Message:
    """What is said of rows that could have been images."""
    return Message("vectors of {} numbers (rows that are images need {image_shape} H,W,C)", vectors.shape[1])


def of_table(path: Path, records: Records, rows: np.ndarray, names: Sequence[str] | None, key: str) -> Dataset:
    """The vectors of a table, (N, D) and perhaps names of all its rows; ``key`` stands for its content."""
    places = np.asarray(records.places)
    vectors = checked(rows if np.array_equal(places, np.arange(len(rows))) else rows[places], str(path))
    return Dataset(
        path.name,
        "all",
        vectors,
        records.labels,
        records.class_names,
        file_names=None if names is None else tuple(names[place] for place in places.tolist()),
        notes=(*records.notes, Message("vectors of {} numbers", vectors.shape[1])),
        train=records.train,
        key=key,
    )


# ---- .csv


def read_csv(path: Path, config: DataConfig) -> Dataset | None:
    """Rows of numbers in a .csv or .tsv; None if it has less than two columns of them, or one that names images."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the reader of lists says what is wrong
    first, _, rest = text.partition("\n")
    mark = delimiter_of(path.name, first)
    header, values = (
        next(csv.reader([line], delimiter=mark), []) for line in (first, rest.partition("\n")[0] or first)
    )
    if config.image_column is not None or len(header) != len(values):
        return None
    headless = all(map(_is_number, header))
    columns = [f"column {number}" for number in range(1, len(header) + 1)] if headless else header
    if column_called([name for name in columns if name.lower() not in NAME_OF_ROW], IMAGE + IMAGE_MORE) is not None:
        return None
    named = None if headless else column_called(columns, NAME)
    numeric = [
        name
        for name, value in zip(columns, values, strict=True)
        if _is_number(value) and name.strip() and name != named
    ]
    chosen = chosen_columns(config)
    if headless and config.label_column is None:
        chosen["label_column"] = "none"
    roles = columns_of(str(path), columns, chosen, data=[*numeric, *([named] if named else [])])
    numeric = [name for name in numeric if name not in (roles.label, roles.split)]
    if len(numeric) < 2:
        return None
    rows = _numbers(path, text, mark, headless, [columns.index(name) for name in numeric])
    lines = (
        csv.reader(io.StringIO(text, newline=""), delimiter=mark) if {roles.label, roles.split, named} - {None} else ()
    )
    cells = [line for line in lines if line][0 if headless else 1 :]

    def column(name: str | None) -> list[str | None]:
        return [None] * len(rows) if name is None else [line[columns.index(name)] for line in cells]

    files = Records([f"{path.name}#{row}" for row in range(len(rows))], range(len(rows)), [0] * len(rows))
    splits = [None if cell is None else role_of_value(str(path), cell) for cell in column(roles.split)]
    records = divided(str(path), files, splits, column(roles.label), None, roles.notes)
    item_names = [str(cell) for cell in column(named)] if named else None
    key = cache.key_of("vectors", cache.stamp([cache.File.at(path.name, path)]), chosen)
    return of_table(path, records, rows, item_names, key)


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
