"""Vectors as data: rows of floating-point numbers, as other models write them, from arrays, tables and .csv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets.dataset import Dataset, blocks
from softvq_cli.datasets.naming import shorten
from softvq_cli.datasets.records import Records, divided
from softvq_cli.datasets.tables import IMAGE, IMAGE_MORE, LABEL, NAME, SPLIT, column_called, role_of_value
from softvq_cli.errors import InputError, Message, one_line
from softvq_cli.words import VectorScale

NAME_OF_ROW = ("id", "image_id")
"""Columns that name images in a list without numbers, and rows in a list of numbers."""


def are_vectors(array: np.ndarray, config: DataConfig) -> bool:
    """Whether an array holds vectors: rows of floats, of which nobody says that they are images."""
    return array.ndim == 2 and array.dtype.kind == "f" and config.image_shape is None


def checked(array: np.ndarray, where: str) -> np.ndarray:
    """float32 (N, D), all finite; a float32 array that is mapped from a file stays so.

    Raises:
        InputError: it is empty, too large for memory as float32, or a number is NaN or infinite.
    """
    if not array.size:
        raise InputError(f"{where} holds no vectors: its shape is {array.shape}")
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found below
            vectors = np.asarray(array, np.float32)
    except MemoryError as error:
        raise InputError(f"{where} does not fit into memory as float32; save it as float32, which is mapped") from error
    start = 0
    for block in blocks(vectors):
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            raise InputError(f"{where} holds NaN, infinity or what float32 cannot hold in row {start + bad[0]}")
        start += len(block)
    return vectors


def note_of(vectors: np.ndarray) -> Message:
    """What is said of rows that could have been images."""
    return Message("vectors of {} numbers (rows that are images need {image_shape} H,W,C)", vectors.shape[1])


def of_table(path: Path, records: Records, rows: np.ndarray, names: Sequence[str] | None) -> Dataset:
    """The vectors of a table.

    Args:
        path: what to call it.
        records: which rows there are, in their order, with labels.
        rows: (N, D), all rows of the table.
        names: of all rows, where the table has them.
    """
    places = np.asarray(records.places)
    ordered = bool((places == np.arange(len(rows))).all()) if len(places) == len(rows) else False
    vectors = checked(rows if ordered else rows[places], str(path))
    return Dataset(
        path.name,
        "all",
        vectors,
        records.labels,
        records.class_names,
        file_names=None if names is None else tuple(names[place] for place in places.tolist()),
        notes=(*records.notes, Message("vectors of {} numbers", vectors.shape[1])),
        train=records.train,
    )


# ---- .csv


def read_csv(path: Path, config: DataConfig) -> Dataset | None:
    """Rows of numbers in a .csv or .tsv; None if it has less than two columns of them, or one that names images.

    Raises:
        InputError: it cannot be read, or a cell holds no number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the reader of lists says what is wrong
    first, _, rest = text.partition("\n")
    mark = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",;\t" if mark in first), ",")
    second = rest.partition("\n")[0]
    header, values = (next(csv.reader([line], delimiter=mark), []) for line in (first, second or first))
    if config.image_column is not None or len(header) != len(values):
        return None
    headless = all(map(_is_number, header))
    columns = [f"column {number}" for number in range(1, len(header) + 1)] if headless else header
    if column_called([name for name in columns if name.lower() not in NAME_OF_ROW], IMAGE + IMAGE_MORE) is not None:
        return None
    unlabelled = headless or config.label_column == "none"
    possible = [name for name in columns if not (name.lower() == "y" and {"x", "X"} & set(columns))]
    label = config.label_column if config.label_column != "none" else None
    label = label or (None if unlabelled else column_called(possible, LABEL))
    split = config.split_column or (None if headless else column_called(columns, SPLIT))
    for setting, name in (("label_column", label), ("split_column", split)):
        if name is not None and name not in columns:
            raise InputError(f"{path} has no column {name!r} ({setting}); it has {shorten(columns, 12)}")
    named = None if headless else column_called(columns, NAME)
    numeric = [
        number
        for number, (name, value) in enumerate(zip(columns, values, strict=True))
        if _is_number(value) and name.strip() and name not in (label, split, named)
    ]
    if len(numeric) < 2:
        return None
    skip = 0 if headless else 1
    try:
        rows = np.loadtxt(
            io.StringIO(text),
            np.float64,
            delimiter=mark,
            skiprows=skip,
            usecols=numeric,
            comments=None,
            quotechar='"',
            ndmin=2,
        )
    except ValueError as error:
        raise InputError(f"{path} holds a cell that is no number: {one_line(error)}") from error
    places = {name: columns.index(name) for name in (label, split, named) if name is not None}
    cells: dict[str, list[str]] = {name: [] for name in places}
    if places:
        for row in list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))[skip:]:
            if row:
                for name, place in places.items():
                    cells[name].append(row[place])
    files = Records([f"{path.name}#{row}" for row in range(len(rows))], range(len(rows)), [0] * len(rows))
    roles = [role_of_value(str(path), value) for value in cells[split]] if split else [None] * len(rows)
    labels: list[Any] = cells[label] if label else [None] * len(rows)
    unused = [name for number, name in enumerate(columns) if number not in numeric and name not in places]
    notes = [f"columns that are not used: {shorten(unused, 8)}"] if unused else []
    if label is None and not unlabelled:
        notes.append(Message("no column is plainly the label ({label_column} names one): no labels"))
    records = divided(str(path), files, roles, labels, None, notes)
    return of_table(path, records, rows, cells[named] if named else None)


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
