"""Rows made fit for distances by matrix products, wherever they lie.

‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² is fast and loses what the squares have before the difference: rows at 1e7 ± 1, or one
row at 1e9 beside others at ± 1, leave nothing of it in float32, and little in float64. Here it is told from a sample of
the rows whether the digits last; where they do not, the rows are moved so that their median is 0 (the mean would follow
one far row), and where that is not enough either, distances are taken from differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.devices import evaluation_threads, processors

_SAMPLE = 256
"""Rows, evenly spaced, that stand for all."""
_SHARE = 0.1
"""Of the sample's nearest distances, this quantile is what the digits have to resolve."""
_ROUNDINGS = 32
"""Rows that differ by so many roundings of their norm are the same: an image that is there twice, in another batch."""
_QUERIES = 1024
"""A thread of a search, at least; scikit-learn's bound."""
LARGEST = 1e9
"""The span to which products in float64 keep about six digits of a distance to a near row."""


@dataclass(frozen=True)
class Prepared:
    """Rows for a search in float64."""

    shift: np.ndarray | None
    """float64 (d,), to be taken from all rows that are compared; None: they may stay where they are."""
    products: bool
    """Whether distances by products keep enough digits then; if not, take them from differences."""

    @property
    def algorithm(self) -> str:
        """Of scikit-learn's search for neighbours: its trees take differences."""
        return "brute" if self.products else "kd_tree"

    def apply(self, z: np.ndarray) -> np.ndarray:
        """(N, d): ``z`` itself, or float64."""
        return z if self.shift is None else np.asarray(z - self.shift)


def prepare(z: np.ndarray) -> Prepared:
    """What the rows ``z`` (N, d), finite, need before their distances are computed in float64."""
    largest = max(float(z.max()), -float(z.min()))
    if (largest == 0 or 1e-15 < largest < 1e15) and span(z) <= LARGEST:  # float32 has the squares of such
        return Prepared(None, True)
    shift = np.median(z, axis=0).astype(np.float64)
    return Prepared(shift, span(z, shift=shift) <= LARGEST)


def nearest(
    z: np.ndarray, k: int, *, queries: np.ndarray | None = None, jobs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(distances, indices), each (M, k), of the k rows of ``z`` nearest to each query, exactly, the nearest first.

    Args:
        z: (N, d).
        k: fewer than there are rows.
        queries: (M, d); the rows themselves unless given, which are then no neighbours of their own.
        jobs: threads, see :func:`softvq_cli.devices.processors`. The result does not depend on it.
    """
    from sklearn.neighbors import NearestNeighbors

    prepared = prepare(z)
    # scikit-learn divides the queries among its threads if there are enough, else the rows, and then which of several
    # rows at the same distance come first depends on the threads.
    count = min(processors(jobs), max(1, (len(z if queries is None else queries) - 1) // _QUERIES))
    with evaluation_threads(count) as threads:
        search = NearestNeighbors(n_neighbors=k, algorithm=prepared.algorithm, n_jobs=threads).fit(prepared.apply(z))
        found: tuple[np.ndarray, np.ndarray] = search.kneighbors(None if queries is None else prepared.apply(queries))
    return found


def span(z: np.ndarray, neighbours: int = _SAMPLE, *, shift: np.ndarray | float = 0.0, scale: Any = 1.0) -> float:
    """How many times the square of a near distance the largest squared norm of (z − shift) / scale is.

    Near is what lies between a row of a sample and the nearest other one of ``neighbours`` rows.

    Args:
        z: (N, d), as they were before anything was taken from them, lest near rows have become the same.
        neighbours: that the sample is compared with.
        shift: (d,).
        scale: (d,), positive.

    Returns:
        0 for rows that are all ``shift``, infinity for a sample of copies.
    """
    from scipy.spatial.distance import cdist

    blocks = ((z[i : i + 4096] - shift) / scale for i in range(0, len(z), 4096))
    largest = max(float(np.square(block, dtype=np.float64).sum(axis=1).max()) for block in blocks)
    if largest == 0:
        return 0.0
    sample, others = (_some(z, count) / scale for count in (_SAMPLE, neighbours))
    squares = cdist(sample, others, "sqeuclidean")
    squares[squares == 0] = np.inf  # the row itself, and its copies, which any digits tell from the others
    norms = np.add.outer(*(np.square(rows).sum(axis=1) for rows in (sample, others)))
    eps = np.finfo(np.result_type(z.dtype, np.float32)).eps
    copies = squares <= (_ROUNDINGS * eps) ** 2 * norms  # so are those that rounding has moved
    if np.isfinite(squares[~copies]).any():
        squares[copies] = np.inf
    near = squares.min(axis=1)
    near = near[np.isfinite(near)]
    return largest / float(np.quantile(near, _SHARE)) if len(near) else np.inf


def _some(z: np.ndarray, count: int) -> np.ndarray:
    """float64: at most ``count`` rows, evenly spaced."""
    rows = np.linspace(0, len(z) - 1, min(count, len(z))).round().astype(np.int64)
    return np.asarray(z[rows], dtype=np.float64)
