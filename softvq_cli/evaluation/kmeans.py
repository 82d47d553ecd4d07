"""Lloyd's K-means from several starts at once.

All starts share the rows: one matrix product computes the distances from every row to every centre of every start. For
a single start the product would be too narrow to be fast. Few rows change their cluster in an iteration, so the sums of
each cluster are updated by these rows only, in float64. With many rows or centres, each start runs separately and uses
Hamerly's bounds to skip rows that cannot change their cluster.

Distances are computed in float32 if its precision suffices, which is nearly always the case; otherwise from differences
in float64, which are slower.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

from softvq_cli.evaluation.numerics import axes_of_few, largest_eigenvectors, span
from softvq_cli.words import Init

TOLERANCE = 1e-4
"""A start has converged when its centres move by less than this fraction of the rows' mean variance, or no row changes
its cluster. It is scikit-learn's default."""
MOST_ITERATIONS = 300
BOUNDED_CLUSTERS, BOUNDED_ROWS = 50, 500_000
"""With at least this many clusters or rows, each start runs separately with bounds; for fewer, this is slower."""
COMPONENTS, WIDE_ENOUGH, ENOUGH_ROWS, VARIANCE = 64, 256, 1000, 0.8
"""Rows with at least WIDE_ENOUGH dimensions first converge in their leading principal components, then in all
dimensions, if the components have this fraction of the variance."""
_BLOCK = 1 << 18
"""Number of distances computed at a time, so that they stay in the cache."""
_MOVES = 1 << 19
"""Number of rows (times starts) whose moves are summed at a time, about a hundred bytes each."""
_STORED = 1 << 23
"""Maximum number of values stored in float64; for larger data they are computed when needed."""
_LARGEST_FLOAT32 = 1e5
"""Maximum span of the rows (:func:`softvq_cli.evaluation.numerics.span`) for which float32 separates near centres."""
_ROUNDING = 4e-6
"""Maximum error of a squared distance in float32, relative to the squared norms."""


@dataclass(frozen=True)
class Start:
    """The result of one start."""

    inertia: float
    """Sum of the squared distances to the nearest centre."""
    labels: np.ndarray
    """The cluster of each row, (N,), as the smallest unsigned integer type."""
    iterations: int


class Rows:
    """The rows in the forms that the iterations need, shared by all starts and threads.

    ``z`` (N, d) must have its original precision, because float32 loses digits of rows far from 0. ``clusters`` is the
    number of centres to distinguish. The centred rows are divided by 2 to the power ``exponent``, which is exact, so
    that squares stay in the range of float32.
    """

    def __init__(self, z: np.ndarray, clusters: int, exponent: int = 0) -> None:
        self.n, self.d = z.shape
        self.exponent = exponent
        mean = z.mean(axis=0, dtype=np.float64)
        self.wide = span(z, clusters, shift=mean) > _LARGEST_FLOAT32
        # A distant row shifts the mean but not the median, and makes the variance useless as a scale of the other rows.
        self._z: np.ndarray = z
        self._shift = np.median(z, axis=0).astype(np.float64) if self.wide else mean
        self.stored = False
        if z.size <= _STORED:
            self._z, self.stored = self.at(slice(None)), True
        self.bounded = not self.wide and (clusters >= BOUNDED_CLUSTERS or self.n >= BOUNDED_ROWS)
        # Each column is a row followed by 1. With bounds, single rows are selected, which must be contiguous in memory.
        shape = (self.n, self.d + 1) if self.bounded else (self.d + 1, self.n)
        memory = np.ones(shape, np.float32)
        self.extended = memory.T if self.bounded else memory
        self.squares = np.empty(self.n)  # ‖x‖², float64 (N,), of centred rows, whose squares lose the fewest digits
        for block in self._blocks():
            centred = self.at(block)
            self.extended[:-1, block] = centred.T
            self.squares[block] = np.square(centred).sum(axis=1)
        self.tolerance = 0.0 if self.wide else TOLERANCE * self._mean_variance()

    def at(self, rows: Any) -> np.ndarray:
        """The given rows, centred and scaled: float64 (M, d)."""
        part: np.ndarray = self._z[rows]
        return part if self.stored else np.ldexp(part - self._shift, -self.exponent)

    def _blocks(self) -> Iterator[slice]:
        return (slice(i, i + (1 << 14)) for i in range(0, self.n, 1 << 14))

    def _mean_variance(self) -> float:
        if self.stored:
            return float(self._z.var(axis=0).mean())
        return float(self.squares.mean() / self.d)  # the rows are centred

    def principal(self, clusters: int) -> tuple[Rows, float] | None:
        """(rows in their leading principal components, fraction of variance); None if the fraction is too small."""
        if self.wide or self.d < WIDE_ENOUGH or self.n < ENOUGH_ROWS:
            return None
        blocks = (self.at(block) for block in self._blocks())
        if self.n < self.d:
            variances, axes, total = axes_of_few(np.concatenate(list(blocks)), COMPONENTS)
        else:
            products = np.zeros((self.d, self.d))
            for part in blocks:
                products += part.T @ part
            total = float(np.trace(products))
            variances, axes = largest_eigenvectors(products, COMPONENTS)
        share = float(variances.sum() / max(total, np.finfo(float).tiny))
        if share < VARIANCE:
            return None
        z = np.concatenate([(self.at(block) @ axes).astype(np.float32) for block in self._blocks()])
        return Rows(z, clusters), share

    def nearest(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of the centres (G, K, d) of each start for each row; of equal distances, the first centre.

        Returns the index of the centre (G, N), in the smallest unsigned type, and ‖x − c‖² − ‖x‖² (G, N).
        """
        G, K, _ = centres.shape
        small = np.min_scalar_type(K)
        labels, least = np.empty((G, self.n), small), np.empty((G, self.n), np.float64 if self.wide else np.float32)
        if self.wide:
            step = max(64, _BLOCK // K)
            for g, start in itertools.product(range(G), range(0, self.n, step)):
                block = cdist(self.at(slice(start, start + step)), centres[g], "sqeuclidean")
                labels[g, start : start + step] = block.argmin(axis=1)
                least[g, start : start + step] = block.min(axis=1) - self.squares[start : start + step]
            return labels, least
        factors = _factors(centres)
        step = max(64, _BLOCK // (K * G))
        for start in range(0, self.n, step):
            block = (factors @ self.extended[:, start : start + step]).reshape(K, G, -1)
            best, which = block[0], np.zeros(block[0].shape, small)
            for k in range(1, K):  # a vectorised argmin: later k overwrite earlier ones if they are nearer
                nearer = np.multiply(block[k] < best, small.type(k), dtype=small)
                np.maximum(which, nearer, out=which)
                np.minimum(best, block[k], out=best)
            labels[:, start : start + step], least[:, start : start + step] = which, best
        return labels, least

    def two_nearest(self, centres: np.ndarray, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(nearest of the centres (K, d), distance to it, distance to the second) for ``rows``; None: all rows."""
        K, count = len(centres), self.n if rows is None else len(rows)
        labels, best, second = np.empty(count, np.min_scalar_type(K)), np.empty(count), np.empty(count)
        factors, step = _factors(centres[None]), max(64, _BLOCK // K)
        for start in range(0, count, step):
            part: Any = slice(start, start + step) if rows is None else rows[start : start + step]
            block = factors @ self.extended.T[part].T  # (K, step)
            least, next_least = block[0].copy(), np.full(block.shape[1], np.inf, np.float32)
            which = np.zeros(block.shape[1], labels.dtype)
            for k in range(1, K):
                np.minimum(next_least, np.maximum(least, block[k]), out=next_least)
                nearer = np.multiply(block[k] < least, labels.dtype.type(k), dtype=labels.dtype)
                np.maximum(which, nearer, out=which)
                np.minimum(least, block[k], out=least)
            labels[start : start + step] = which
            for distances, values in ((best, least), (second, next_least)):
                distances[start : start + step] = np.sqrt(np.maximum(values + self.squares[part], 0.0))
        return labels, best, second

    def inertia(self, labels: np.ndarray, centres: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> float:
        """Σ ‖x − c‖² of one start; from the sums (K, d) and counts (K,) of its clusters if that is precise enough."""
        if self.wide:
            total = float(np.square(self.at(slice(None)) - centres[labels]).sum())
        else:
            expanded = counts * np.square(centres).sum(axis=1) - 2.0 * (centres * sums).sum(axis=1)
            total = max(0.0, float(self.squares.sum() + expanded.sum()))
        return float(np.ldexp(total, 2 * self.exponent))


def _factors(centres: np.ndarray) -> np.ndarray:
    """Factors (K·G, d + 1) of the centres (G, K, d), whose product with (x, 1) is ‖c‖² − 2 x·c."""
    G, K, _ = centres.shape
    factors = np.concatenate([-2.0 * centres, np.square(centres).sum(axis=2, keepdims=True)], axis=2)
    return np.ascontiguousarray(factors.transpose(1, 0, 2), dtype=np.float32).reshape(K * G, -1)


def run(rows: Rows, clusters: int, init: Init, seeds: Sequence[int], low: Rows | None = None) -> list[Start]:
    """Run one start per seed until all have converged, and return them in order.

    Each start has its own generator; other starts affect only the rounding of its distances. If the rows have a
    projection ``low``, each start first converges there.
    """
    first = low or rows
    if first.bounded and len(seeds) > 1:
        return [start for seed in seeds for start in run(rows, clusters, init, [seed], low)]
    generators = [np.random.default_rng(seed) for seed in seeds]
    if init == "random":
        chosen = np.stack([generator.choice(rows.n, clusters, replace=False) for generator in generators])
    else:
        chosen = plus_plus(first, clusters, generators)
    starts = lloyd(first, np.stack([first.at(each) for each in chosen]))
    if low is None:
        return starts
    labels = np.stack([start.labels for start in starts])
    sums, counts = np.zeros((len(seeds), clusters, rows.d)), np.zeros((len(seeds), clusters), np.int64)
    _follow(rows, None, labels, sums, counts)
    return lloyd(rows, sums / np.maximum(counts, 1)[:, :, None])


def lloyd(rows: Rows, centres: np.ndarray) -> list[Start]:
    """Lloyd's iterations of the centred rows from ``centres``, float64 (G, K, d).

    An empty cluster moves its centre to the row that is farthest from its own centre.
    """
    if rows.bounded:
        return [_bounded(rows, each) for each in centres]
    G, K, d = centres.shape
    ended: dict[int, Start] = {}
    going = np.arange(G)
    labels: np.ndarray | None = None
    sums, counts = np.zeros((G, K, d)), np.zeros((G, K), np.int64)
    last = np.zeros(G, bool)  # starts that have converged and only need their final labels
    for iteration in range(1, MOST_ITERATIONS + 2):
        now, least = rows.nearest(centres)
        same = _follow(rows, labels, now, sums, counts)
        done = same | last | (iteration > MOST_ITERATIONS)
        for g in np.flatnonzero(done):
            inertia = rows.inertia(now[g], centres[g], sums[g], counts[g])
            ended[int(going[g])] = Start(inertia, now[g].copy(), iteration)
        if done.all():
            break
        keep = ~done
        going, labels, sums, counts = going[keep], now[keep], sums[keep], counts[keep]
        before, centres = centres[keep], sums / np.maximum(counts, 1)[:, :, None]
        for g in np.flatnonzero((counts == 0).any(axis=1)):
            _fill(rows, centres[g], counts[g], least[np.flatnonzero(keep)[g]] + rows.squares)
        last = np.square(centres - before).sum(axis=(1, 2)) <= rows.tolerance
    return [ended[g] for g in range(G)]


def _bounded(rows: Rows, centres: np.ndarray) -> Start:
    """The same for one start with the bounds of Hamerly (2010), which avoid most distance computations.

    ``upper`` is an upper bound of a row's distance to its centre, ``lower`` a lower bound of that to any other centre.
    A row is checked only if ``upper`` exceeds ``lower`` and half the distance from its centre to the nearest other.
    """
    K, d = centres.shape
    sums, counts = np.zeros((1, K, d)), np.zeros((1, K), np.int64)
    labels, upper, lower = rows.two_nearest(centres, None)
    _follow(rows, None, labels[None], sums, counts)
    last = False
    for iteration in range(1, MOST_ITERATIONS + 2):
        if iteration > 1:
            open_rows = _open(rows, centres, labels, upper, lower)
            before = labels.copy()
            labels[open_rows], upper[open_rows], lower[open_rows] = rows.two_nearest(centres, open_rows)
            if _follow(rows, before[None], labels[None], sums, counts)[0]:
                last = True
        if last or iteration > MOST_ITERATIONS:
            break
        previous, centres = centres, sums[0] / np.maximum(counts[0], 1)[:, None]
        if (counts == 0).any():
            _fill(rows, centres, counts[0], np.square(upper))
        shifts = np.linalg.norm(centres - previous, axis=1)
        last = float(np.square(shifts).sum()) <= rows.tolerance
        farthest = int(shifts.argmax())
        upper += shifts[labels]
        others = np.full(K, shifts[farthest])
        others[farthest] = np.delete(shifts, farthest).max(initial=0.0)
        lower -= others[labels]
    return Start(rows.inertia(labels, centres, sums[0], counts[0]), labels, iteration)


def _open(rows: Rows, centres: np.ndarray, labels: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The rows whose nearest centre may have changed, with a margin for float32 rounding."""
    between = cdist(centres, centres)
    np.fill_diagonal(between, np.inf)
    bound = np.maximum(lower, (between.min(axis=1) / 2)[labels])
    rounding = _ROUNDING * (rows.squares + np.square(centres).sum(axis=1).max())
    return np.flatnonzero(np.square(upper) + rounding >= np.square(np.maximum(bound, 0.0)))


def _fill(rows: Rows, centres: np.ndarray, counts: np.ndarray, distances: np.ndarray) -> None:
    """Move the centres of empty clusters to the rows with the largest squared ``distances`` (N,)."""
    empty = np.flatnonzero(counts == 0)
    centres[empty] = rows.at(np.argsort(distances)[::-1][: len(empty)])


def _follow(rows: Rows, before: np.ndarray | None, now: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Update the sums for the rows that changed their cluster; returns which starts had no change, bool (G,)."""
    G, K, d = sums.shape
    moved = np.ones(now.shape, bool) if before is None else before != now
    unchanged = ~moved.any(axis=1)
    if rows.wide:  # recompute, because what was rounded away next to a distant row would stay lost
        moved[:], before, sums[:], counts[:] = True, None, 0.0, 0
    step = max(1, _MOVES // G if rows.stored else _MOVES // rows.d)  # else float64 copies are made here
    for first in range(0, rows.n, step):
        start, row = np.nonzero(moved[:, first : first + step])
        if not len(row):
            continue
        row += first
        target, sign = start * K + now[start, row], np.ones(len(row))
        if before is not None:
            target, row = np.concatenate([target, start * K + before[start, row]]), np.concatenate([row, row])
            sign = np.concatenate([sign, -sign])
        which, column = (slice(None), row) if rows.stored else np.unique(row, return_inverse=True)
        z = rows.at(which)
        moves = sparse.csr_matrix((sign, (target, column)), shape=(G * K, len(z)))
        sums += np.asarray(moves @ z).reshape(G, K, d)
        counts += np.bincount(target, sign, G * K).astype(np.int64).reshape(G, K)
    return np.asarray(unchanged)


def plus_plus(rows: Rows, clusters: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): initial rows, int64 (G, K), far from each other.

    Each new row is the best of 2 + ⌊ln K⌋ candidates, drawn with probability proportional to the squared distance from
    the nearest chosen row.
    """
    G, trials = len(generators), 2 + int(np.log(clusters))
    chosen = np.empty((G, clusters), np.int64)
    chosen[:, 0] = [generator.integers(rows.n) for generator in generators]
    nearest = _squared_distances(rows, chosen[:, :1])[:, 0]  # (G, N)
    for k in range(1, clusters):
        candidates = np.empty((G, trials), np.int64)
        for g, generator in enumerate(generators):
            steps = np.cumsum(nearest[g], dtype=np.float64)
            drawn = np.searchsorted(steps, generator.random(trials) * steps[-1], side="right")
            candidates[g] = np.minimum(drawn, rows.n - 1)
        distances = _squared_distances(rows, candidates)  # (G, trials, N)
        np.minimum(distances, nearest[:, None], out=distances)
        best = distances.sum(axis=2, dtype=np.float64).argmin(axis=1)
        chosen[:, k] = candidates[np.arange(G), best]
        nearest = distances[np.arange(G), best]
    return chosen


def _squared_distances(rows: Rows, of: np.ndarray) -> np.ndarray:
    """‖x − x_i‖² for the rows i in ``of`` (G, M): float32 or float64 (G, M, N)."""
    points = rows.at(of.reshape(-1))
    if rows.wide:
        return np.asarray(cdist(points, rows.at(slice(None)), "sqeuclidean").reshape(*of.shape, rows.n))
    factors = np.concatenate([-2.0 * points, rows.squares[of.reshape(-1), None]], axis=1).astype(np.float32)
    # If the rows are contiguous in memory, this order of the product is twice as fast for few factors.
    transposed = (rows.extended.T @ factors.T).T if rows.bounded else None
    distances = factors @ rows.extended if transposed is None else np.ascontiguousarray(transposed)
    distances += rows.squares.astype(np.float32)
    np.maximum(distances, 0.0, out=distances)
    return distances.reshape(*of.shape, rows.n)
