"""What a finished run keeps of each image of its test split: plain ``.npy`` files, a row an image.

The stage of ``run`` that finds something writes it; a report reads it again. Whether a file speaks of the checkpoint
that lies beside it is seen from ``summary.json``, where the stage's result stands under the checkpoint's seal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.files import atomic_write
from softvq_cli.npy import map_file

MAP = "map-test.npy"
"""float64 (N, 2): t-SNE of z_e."""
CLUSTERS = "clusters-test.npy"
"""int64 (N,): the cluster of each image, of the best start of K-means."""
PREDICTIONS = "predictions-test.npy"
"""int64 (N,): the label that the softmax probe gives each image."""
ERRORS = "errors-test.npy"
"""float64 (N,): nMSE of each image, whose mean is the split's."""

_FORM: dict[str, tuple[str, tuple[int, ...]]] = {
    MAP: ("f", (2,)),
    CLUSTERS: ("i", ()),
    PREDICTIONS: ("i", ()),
    ERRORS: ("f", ()),
}
"""The kind of number and the shape of a row."""


def keep(folder: Path, name: str, rows: np.ndarray) -> None:
    """Write one of the files, whole or not at all.

    Raises:
        SoftVQError: it cannot be written.
    """
    with atomic_write(folder / name) as file:
        np.save(file, rows, allow_pickle=False)


def kept(folder: Path, name: str, n: int) -> np.ndarray | None:
    """The rows of one of the files; None where there is none.

    Raises:
        InputError: it is damaged, or does not have a row for each of ``n`` images.
    """
    path = folder / name
    if not path.exists():
        return None
    rows: np.ndarray = np.array(map_file(path))
    kind, shape = _FORM[name]
    if rows.dtype.kind != kind or rows.shape != (n, *shape) or not np.isfinite(rows).all():
        raise InputError(f"{path} has not a finite row for each of the {n} test images; remove it, it is found again")
    return rows


def predicted_labels(train_labels: np.ndarray, test_labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What a probe predicts, int64 (N,), as labels: it counts the classes that occur in either split, in order."""
    classes: Any = np.unique(np.concatenate([train_labels, test_labels]))
    return np.asarray(classes[predicted])
