"""Nearest neighbours: exact, by scikit-learn or (for many rows) matrix products, and approximate for maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.errors import UsageError
from softvq_cli.evaluation.numerics import prepare, span

_QUERIES = 1024
"""Minimum number of queries per thread in scikit-learn's search."""
_MANY_PAIRS, _FEW_NEIGHBOURS = 1 << 27, 32
"""Minimum number of (query, row) pairs, and maximum number of neighbours, for which matrix products are faster."""
_LARGEST_FLOAT32 = 1e5
"""Maximum span of the rows for which float32 finds the candidates; their distances are computed in float64."""
_ROUNDING = 4e-6
"""Error of a squared distance in float32, relative to the squared norms."""
_BLOCK = 256
"""Number of queries at a time."""
_TILE = 1024
"""Number of rows at a time: the distances of a block to a tile fit into the processor's cache."""


def nearest(
    z: np.ndarray, k: int, *, queries: np.ndarray | None = None, jobs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k nearest rows of ``z`` for each query: (distances, indices), each (M, k), nearest first.

    Without ``queries`` (M, d), the queries are the rows (N, d) of ``z``, and a row is not its own neighbour. With k
    rows or fewer, all others are returned. The result does not depend on ``jobs``, the number of threads.
    """
    if queries is None and (len(z) < 2 or k < 1):
        raise UsageError("{} nearest rows of {} rows cannot be found: give at least two rows and k of 1", k, len(z))
    k = k if queries is not None else min(k, len(z) - 1)
    count = len(z if queries is None else queries)
    if count * len(z) >= _MANY_PAIRS and k <= _FEW_NEIGHBOURS and span(z, shift=z.mean(axis=0)) <= _LARGEST_FLOAT32:
        return _by_products(z, k, queries, jobs)
    from sklearn.neighbors import NearestNeighbors

    prepared = prepare(z)
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


class _Rows(NamedTuple):
    """The rows, shifted by ``mean``, in the forms that the search needs."""

    z: np.ndarray  # (N, d), not shifted
    mean: np.ndarray  # float64 (d,)
    tiles: list[np.ndarray]  # float32 (d + 1, _TILE): the rows as columns; the last entry is the squared norm
    sample: np.ndarray  # the same for every sixteenth row
    largest: float  # the largest squared norm


def _by_products(z: np.ndarray, k: int, queries: np.ndarray | None, jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The same as :func:`nearest`: candidates from float32 products, ranked in float64."""
    import joblib

    mean, tiles = z.mean(axis=0, dtype=np.float64), []
    for start in range(0, len(z), _TILE):
        part = z[start : start + _TILE]
        tile = np.empty((z.shape[1] + 1, len(part)), np.float32)
        tile[:-1] = (part - mean).T
        tile[-1] = np.square(tile[:-1]).sum(axis=0)
        tiles.append(tile)
    few = 16 if len(z) >= 64 * k else 1
    sample = np.concatenate([tile[:, ::few] for tile in tiles], axis=1)
    rows = _Rows(z, mean, tiles, sample, float(max(tile[-1].max() for tile in tiles)))
    targets = z if queries is None else queries
    with evaluation_threads(jobs) as threads:
        pool = joblib.Parallel(threads, backend="threading")
        blocks = pool(
            joblib.delayed(_nearest_of_block)(
                rows, targets[first : first + _BLOCK], k, first if queries is None else -1
            )
            for first in range(0, len(targets), _BLOCK)
        )
    distances, indices = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return distances, indices


def _nearest_of_block(rows: _Rows, queries: np.ndarray, k: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Search for a block of queries; ``first`` is the row number of the first query, or −1 if they are not rows."""
    exact = queries - rows.mean
    q = exact.astype(np.float32)
    margin = (np.square(q).sum(axis=1) + rows.largest) * _ROUNDING
    wanted = k + (first >= 0)
    factors = np.concatenate([-2 * q, np.ones((len(q), 1), np.float32)], axis=1)  # times (x, ‖x‖²): ‖x − q‖² − ‖q‖²
    # The k-th nearest of a sample is an upper bound for that of all rows.
    limit = np.partition(factors @ rows.sample, wanted - 1, axis=1)[:, [wanted - 1]] + 2 * margin[:, None]
    candidates = []
    # Reuse the memory for every tile: allocation would take as long as the product.
    products, nearer = np.empty(len(q) * _TILE, np.float32), np.empty(len(q) * _TILE, bool)
    for number, tile in enumerate(rows.tiles):
        shape = (len(q), tile.shape[1])
        product = np.matmul(factors, tile, out=products[: shape[0] * shape[1]].reshape(shape))
        near = np.flatnonzero(np.less_equal(product, limit, out=nearer[: product.size].reshape(shape)))
        query, row = np.divmod(near, tile.shape[1])
        candidates.append((query, row + number * _TILE, product.reshape(-1)[near]))
    query, row, product = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    if first >= 0:
        others = row != query + first
        query, row, product = query[others], row[others], product[others]
    order = np.lexsort((product, query))
    query, row, product = query[order], row[order], product[order]
    starts = np.searchsorted(query, np.arange(len(q)))
    undecided = product <= (product[starts + k - 1] + 2 * margin)[query]
    query, row = query[undecided], row[undecided]
    squares = np.empty(len(row))
    for part in (slice(start, start + (1 << 16)) for start in range(0, len(row), 1 << 16)):
        squares[part] = np.square(rows.z[row[part]] - rows.mean - exact[query[part]]).sum(axis=1)
    order = np.lexsort((row, squares, query))
    best = order[np.searchsorted(query, np.arange(len(q)))[:, None] + np.arange(k)]
    return np.sqrt(squares[best]), row[best]
