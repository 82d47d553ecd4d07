"""Embedding files are written row by row, and replaced so that a reader never sees new latents beside old labels.

The three files are written in full under temporary names, then the old side files go, the latents are renamed into
place, and the new side files follow.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from softvq_cli.embeddings.files import FORMAT, VERSION, check_name, first_row_not_finite, info_path, labels_path
from softvq_cli.errors import InputError, SoftVQError
from softvq_cli.files import atomic_write


class RowWriter:
    """Takes the rows of one embedding file in order; made by :func:`writer`."""

    def __init__(self, file: BinaryIO, path: Path, n: int, d: int, dtype: np.dtype[Any]) -> None:
        """Write the header, which already says how many rows will follow."""
        self._file, self._path, self._n, self._d, self._dtype = file, path, n, d, dtype
        self.rows = 0
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: np.ndarray) -> None:
        """Add ``rows``, (B, d).

        Raises:
            InputError: a value is NaN or infinite.
            ValueError: another width than promised.
        """
        if rows.ndim != 2 or rows.shape[1] != self._d:
            raise ValueError(f"rows of shape {rows.shape} do not fit an array of {self._d} columns")
        bad = first_row_not_finite(rows)
        if bad is not None:
            raise InputError(
                f"row {self.rows + bad} is NaN or infinite, so {self._path} was not written: "
                "check the images and the weights of the checkpoint"
            )
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Check that every promised row came (ValueError)."""
        if self.rows != self._n:
            raise ValueError(f"{self.rows} rows were written of {self._n}")


@contextlib.contextmanager
def writer(
    path: str | os.PathLike[str],
    n: int,
    d: int,
    *,
    dtype: Any = np.float32,
    labels: np.ndarray | None = None,
    info: Mapping[str, Any] | None = None,
) -> Iterator[RowWriter]:
    """Stream ``n`` rows of ``d`` numbers to ``path``, which appears when all are there.

    Args:
        path: ``NAME.npy``. Its old side files are replaced, or removed where no new ones are given.
        n: number of rows.
        d: number of columns.
        dtype: of the file.
        labels: int64 (n,), for ``NAME.labels.npy``.
        info: for ``NAME.json``; format, version, n and d are added.

    Raises:
        UsageError: the name does not end in ``.npy``, or ends in ``.labels.npy``.
        SoftVQError: a file cannot be written; then nothing is changed.
    """
    path = Path(path)
    check_name(path)
    with contextlib.ExitStack() as stack:  # left in the opposite order: latents, labels, info
        side_files = []
        if info is not None:
            file = stack.enter_context(atomic_write(info_path(path)))
            stamped = {"format": FORMAT, "version": VERSION, "n": n, "d": d, **info}
            file.write(json.dumps(stamped, indent=2, allow_nan=False).encode() + b"\n")
            side_files.append(file)
        if labels is not None:
            if labels.shape != (n,):
                raise ValueError(f"labels of shape {labels.shape} do not fit {n} rows")
            file = stack.enter_context(atomic_write(labels_path(path)))
            np.lib.format.write_array(file, labels.astype("<i8"), version=(1, 0), allow_pickle=False)
            side_files.append(file)
        file = stack.enter_context(atomic_write(path))
        rows = RowWriter(file, path, n, d, np.dtype(dtype).newbyteorder("<"))
        yield rows
        rows.finish()
        for written in (*side_files, file):  # on the disk before the first of the old files goes
            written.flush()
            os.fsync(written.fileno())
        _remove(labels_path(path))
        _remove(info_path(path))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SoftVQError(f"cannot replace {path}: {error.strerror}; remove it and try again") from error
