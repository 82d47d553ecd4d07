"""The files that a command reads and writes, checked before any work begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.errors import RefusedError, SoftVQError, UsageError
from softvq_cli.files import atomic_write

if TYPE_CHECKING:
    import numpy as np


def refuse_existing(*paths: Path, overwrite: bool, makes_folder: bool = False) -> None:
    """Make sure that the files can be written, rather than find out after an hour's work.

    Args:
        paths: of the files.
        overwrite: whether they may replace what is there.
        makes_folder: whether their folder is made where it is missing.

    Raises:
        RefusedError: one of them is there and ``overwrite`` is not set.
        SoftVQError: a folder is not there, or is where the file should be.
    """
    for path in paths:
        if path.is_dir():
            raise SoftVQError(f"cannot write {path}: it is a folder; give the name of a file")
        if not (path.parent.is_dir() or makes_folder):
            raise SoftVQError(f"cannot write {path}: there is no folder {path.parent}; make it first")
        if path.exists() and not overwrite:
            raise RefusedError(f"{path} is there already: --overwrite replaces it, or give another name")


def refuse_both(*, resume: bool, overwrite: bool) -> None:
    """Make sure that a run is to be either continued or replaced (UsageError)."""
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: give one of them")


def numbered(path: Path, n: int) -> list[Path]:
    """``NAME.npy`` for one file, ``NAME-1.npy``, ``NAME-2.npy``… for several."""
    return [path] if n == 1 else [path.with_stem(f"{path.stem}-{number + 1}") for number in range(n)]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all.

    Raises:
        SoftVQError: it could not be written.
    """
    import numpy as np

    with atomic_write(path) as file:
        np.save(file, array)
