"""The embedding files: their names, and what is in them.

``NAME.npy`` is float32 (N, d) and loads with ``numpy.load`` anywhere; ``NAME.labels.npy`` (int64 (N,))
and ``NAME.json`` stand beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.errors import UsageError

FORMAT = "softvq-embedding"
VERSION = 1


@dataclass(frozen=True)
class Embedding:
    """One vector a row, and what is known of the rows."""

    path: Path
    z: np.ndarray
    """float32 (N, d), or float64 where the file holds more than float32 can; a read-only memory map where it holds
    either in this machine's order."""
    labels: np.ndarray | None
    """int64 (N,), or None."""
    class_names: tuple[str, ...]
    """One name a class, in the order of the labels; empty where they are not known."""
    info: dict[str, Any]
    """What ``NAME.json`` says; empty where the array is someone else's."""

    def __len__(self) -> int:
        return len(self.z)


def labels_path(path: str | os.PathLike[str]) -> Path:
    """``NAME.npy`` → ``NAME.labels.npy``."""
    return Path(path).with_suffix(".labels.npy")


def info_path(path: str | os.PathLike[str]) -> Path:
    """``NAME.npy`` → ``NAME.json``."""
    return Path(path).with_suffix(".json")


def check_name(path: Path) -> None:
    """Make sure that the side files of ``path`` have names of their own.

    Raises:
        UsageError: the name does not end in ``.npy``, or ends in ``.labels.npy``.
    """
    if path.suffix != ".npy" or path.name.endswith(".labels.npy"):
        raise UsageError(
            f"embeddings are written to a file that ends in .npy (and not in .labels.npy) or, as one table, in "
            f".parquet, not {path}"
        )


def first_row_not_finite(rows: np.ndarray) -> int | None:
    """The number of the first row that has NaN or infinity, of ``rows`` (N, d)."""
    finite = np.isfinite(rows).all(axis=1)
    return None if finite.all() else int(finite.argmin())
