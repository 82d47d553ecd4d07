"""Nearest neighbours: exact, by scikit-learn, and approximate for maps."""

from __future__ import annotations

import numpy as np

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.errors import UsageError
from softvq_cli.evaluation.numerics import prepare

_QUERIES = 1024
"""Minimum number of queries per thread in scikit-learn's search."""


def nearest(
    z: np.ndarray, k: int, *, queries: np.ndarray | None = None, jobs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k nearest rows of ``z`` for each query: (distances, indices), each (M, k), nearest first.

    Without ``queries`` (M, d), the queries are the rows (N, d) of ``z``, and a row is not its own neighbour. With k
    rows or fewer, all others are returned. The result does not depend on ``jobs``, the number of threads.
    """
    from sklearn.neighbors import NearestNeighbors

    if queries is None and (len(z) < 2 or k < 1):
        raise UsageError("{} nearest rows of {} rows cannot be found: give at least two rows and k of 1", k, len(z))
    k = k if queries is not None else min(k, len(z) - 1)
    prepared, count = prepare(z), len(z if queries is None else queries)
    # scikit-learn distributes the queries over its threads if there are enough, else the rows. In the latter case, the
    # order of rows at equal distance depends on the threads.
    with evaluation_threads(min(processors(jobs), max(1, (count - 1) // _QUERIES))) as threads:
        search = NearestNeighbors(n_neighbors=k, algorithm=prepared.algorithm, n_jobs=threads).fit(prepared.apply(z))
        near: tuple[np.ndarray, np.ndarray] = search.kneighbors(None if queries is None else prepared.apply(queries))
    return near


def nearly_nearest(z: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Approximately the k nearest other rows, by random projections (Annoy): (distances, indices), each (N, k).

    The trees depend only on ``seed``; one thread builds them.
    """
    from openTSNE.nearest_neighbors import Annoy

    rows, distances = Annoy(prepare(z).apply(z), k, "euclidean", n_jobs=1, random_state=seed).build()
    return np.asarray(distances), np.asarray(rows)
