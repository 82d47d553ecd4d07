"""Nearest neighbours: exactly, by scikit-learn or where there are many rows by cells; or nearly, for large maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.evaluation.numerics import prepare, span

_QUERIES = 1024
"""A thread of a search, at least; scikit-learn's bound."""
_MANY_PAIRS, _FEW_NEIGHBOURS = 1 << 29, 32
"""Pairs of a query and a row from which cells are faster, for at most so many neighbours."""
_LARGEST_FLOAT32 = 1e5
"""The span of the rows to which float32 finds candidates; the distances are then taken in float64."""
_ROUNDING = 4e-6
"""Of the squared norms: what a squared distance in float32 may be off by."""
_CHUNK = 1 << 16
"""Queries at a time."""


def nearest(
    z: np.ndarray, k: int, *, queries: np.ndarray | None = None, jobs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(distances, indices), each (M, k), of the k rows of ``z`` nearest to each query, exactly, the nearest first.

    The queries (M, d) are the rows (N, d) themselves unless given, which are then no neighbours of their own. The
    result does not depend on ``jobs``, the number of threads.
    """
    from sklearn.neighbors import NearestNeighbors

    count = len(z if queries is None else queries)
    if count * len(z) >= _MANY_PAIRS and k <= _FEW_NEIGHBOURS and span(z, shift=z.mean(axis=0)) <= _LARGEST_FLOAT32:
        return _by_cells(z, k, queries, jobs)
    prepared = prepare(z)
    # scikit-learn divides the queries among its threads if there are enough, else the rows, and then which of several
    # rows at the same distance come first depends on the threads.
    with evaluation_threads(min(processors(jobs), max(1, (count - 1) // _QUERIES))) as threads:
        search = NearestNeighbors(n_neighbors=k, algorithm=prepared.algorithm, n_jobs=threads).fit(prepared.apply(z))
        near: tuple[np.ndarray, np.ndarray] = search.kneighbors(None if queries is None else prepared.apply(queries))
    return near


def nearly_nearest(z: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(distances, indices), each (N, k), of nearly the k nearest other rows, by random projections (Annoy).

    The trees are decided by ``seed``; one thread builds them.
    """
    from openTSNE.nearest_neighbors import Annoy

    rows, distances = Annoy(prepare(z).apply(z), k, "euclidean", n_jobs=1, random_state=seed).build()
    return np.asarray(distances), np.asarray(rows)


class _Cells(NamedTuple):
    """Rows, sorted by the nearest of some centres."""

    centres: np.ndarray  # float32 (C, d)
    order: np.ndarray  # int64 (N,): the rows of the first cell, of the second, and so on
    offsets: np.ndarray  # int64 (C + 1,): where a cell begins in order
    rows: np.ndarray  # float32 (N, d), in that order
    norms: np.ndarray  # float32 (N,), squared
    radii: np.ndarray  # (C,): the largest distance of a row from the centre


def _by_cells(z: np.ndarray, k: int, queries: np.ndarray | None, jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`nearest`: candidates by cells in float32, and their distances in float64."""
    import joblib

    mean = z.mean(axis=0, dtype=np.float64)
    targets = z if queries is None else queries
    distances, rows = np.empty((len(targets), k)), np.empty((len(targets), k), np.int64)
    with evaluation_threads(jobs) as threads:
        cells = _cells((z - mean).astype(np.float32))
        pool = joblib.Parallel(threads, backend="threading")
        for first in range(0, len(targets), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            exact = targets[chunk] - mean
            q = exact.astype(np.float32)
            margin = (np.square(q).sum(axis=1) + cells.norms.max()) * _ROUNDING
            query, row, squared = _candidates(cells, q, margin, k + (queries is None), pool)
            if queries is None:  # a row is no neighbour of its own
                others = row != query + first
                query, row, squared = query[others], row[others], squared[others]
            query, row = _first(query, row, squared, k, margin)
            squares = np.concatenate(
                [
                    np.square(z[row[i : i + _CHUNK]] - mean - exact[query[i : i + _CHUNK]]).sum(axis=1)
                    for i in range(0, len(row), _CHUNK)
                ]
            )
            order = np.lexsort((row, squares, query))
            best = order[(np.searchsorted(query, np.arange(len(q)))[:, None] + np.arange(k)).ravel()]
            distances[chunk], rows[chunk] = np.sqrt(squares[best]).reshape(-1, k), row[best].reshape(-1, k)
    return distances, rows


def _cells(x: np.ndarray) -> _Cells:
    """A few iterations of K-means on a sample are enough: any centres are right, good ones are fast."""
    count = int(np.clip(np.sqrt(len(x)), 16, 1024))
    sample = x[np.linspace(0, len(x) - 1, min(len(x), 64 * count)).astype(np.int64)]
    centres = sample[np.random.default_rng(0).choice(len(sample), count, replace=False)]
    for _ in range(5):
        own, _ = _assigned(sample, centres)
        sizes = np.bincount(own, minlength=count)
        sums = np.stack([np.bincount(own, column, count) for column in sample.T], axis=1)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres).astype(np.float32)
    own, squared = _assigned(x, centres)
    order = np.argsort(own, kind="stable")
    offsets = np.searchsorted(own[order], np.arange(count + 1))
    radii = np.zeros(count, np.float32)
    np.maximum.at(radii, own, np.sqrt(squared))
    rows = x[order]
    return _Cells(centres, order, offsets, rows, np.square(rows).sum(axis=1), radii)


def _assigned(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the nearest centre of each row, its squared distance)."""
    own, squared = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
    for i in range(0, len(x), 4096):
        block = _squared(x[i : i + 4096], centres)
        own[i : i + 4096] = block.argmin(axis=1)
        squared[i : i + 4096] = np.take_along_axis(block, own[i : i + 4096, None], axis=1)[:, 0]
    return own, squared


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 (len(a), len(b)), not negative."""
    product: np.ndarray = a @ (-2 * b).T
    product += np.square(b).sum(axis=1)
    product += np.square(a).sum(axis=1)[:, None]
    np.maximum(product, 0, out=product)
    return product


def _candidates(
    cells: _Cells, q: np.ndarray, margin: np.ndarray, k: int, pool: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, row, squared distance) of all pairs that may be among the ``k`` nearest of the queries ``q``.

    A cell is looked at only if it may hold a row nearer than k that are known: no row of cell j is nearer to a query of
    cell i than the plane half way between the two centres, nor than its distance from the centre of j less the radius.
    """
    norms = np.square(q).sum(axis=1)
    to_centres = _squared(q, cells.centres)  # (M, C)
    own = to_centres.argmin(axis=1)
    between = np.sqrt(_squared(cells.centres, cells.centres))
    near = np.argsort(between, axis=1)
    sizes = np.diff(cells.offsets)
    members = [np.flatnonzero(own == cell) for cell in range(len(sizes))]

    def first_look(cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(queries of the cell, the squared distance that bounds their k nearest, which cells (n, C) may matter)."""
        mine = members[cell]
        enough = 1 + int(np.searchsorted(np.cumsum(sizes[near[cell]]), max(4 * k, 2 * len(cells.rows) // len(sizes))))
        some = np.concatenate([np.arange(cells.offsets[j], cells.offsets[j + 1]) for j in near[cell, :enough]])
        bound = np.partition(_squared(q[mine], cells.rows[some]), k - 1, axis=1)[:, k - 1] + 2 * margin[mine]
        away = to_centres[mine]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = (away - away[:, [cell]] - 2 * margin[mine, None]) / (2 * between[cell])
        plane[:, between[cell] == 0] = 0
        least = np.maximum(np.maximum(plane, np.sqrt(away) - cells.radii), 0)
        return mine, bound, np.square(least) * (1 - 1e-5) <= (bound + margin[mine])[:, None]

    import joblib

    bound, matter = np.empty(len(q), np.float32), np.empty((len(sizes), len(q)), bool)
    for mine, limits, which in pool(
        joblib.delayed(first_look)(cell) for cell in range(len(sizes)) if len(members[cell])
    ):
        bound[mine], matter[:, mine] = limits, which.T

    def look(cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mine = np.flatnonzero(matter[cell])
        part = slice(cells.offsets[cell], cells.offsets[cell + 1])
        product = q[mine] @ (-2 * cells.rows[part]).T
        product += cells.norms[part]
        near = np.flatnonzero(product <= (bound - norms)[mine, None])
        query, row = np.divmod(near, sizes[cell])
        return mine[query], cells.order[part][row], product.ravel()[near] + norms[mine[query]]

    looks = pool(joblib.delayed(look)(cell) for cell in range(len(sizes)) if sizes[cell])
    query, row, squared = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    return query, row, squared


def _first(
    query: np.ndarray, row: np.ndarray, squared: np.ndarray, k: int, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the candidates of each query, in the order of the queries, those that float64 has to decide between."""
    order = np.lexsort((squared, query))
    query, row, squared = query[order], row[order], squared[order]
    starts = np.searchsorted(query, np.arange(len(margin)))
    kept = squared <= (squared[starts + k - 1] + 2 * margin)[query]
    return query[kept], row[kept]
