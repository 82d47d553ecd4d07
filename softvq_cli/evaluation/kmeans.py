"""Lloyd's K-means from several starts at once.

The starts share the rows: one matrix product gives the distances from every row to every centre of every start, where
a start alone has a product too thin to be fast. From one iteration to the next few rows change their cluster, so the
sums behind the centres are updated by those rows alone, in float64.

The distances are in float32 where their digits last, which is nearly always; else in float64, and where squares of rows
that lie far apart leave nothing of near ones in that either, from differences, which are slower.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

from softvq_cli.evaluation.numerics import LARGEST, span
from softvq_cli.words import Init

TOLERANCE = 1e-4
"""A start has converged when its centres move by less than this share of the rows' mean variance, or no row changes its
cluster; scikit-learn's default."""
MOST_ITERATIONS = 300
_BLOCK = 1 << 18
"""Distances at a time, to stay in the cache."""
_LARGEST_FLOAT32 = 1e5
"""The span of the rows (see :func:`softvq_cli.evaluation.numerics.span`) to which float32 tells near centres apart."""


@dataclass(frozen=True)
class Start:
    """Where one start ended."""

    inertia: float
    """Sum of the squared distances to the nearest centre."""
    labels: np.ndarray
    """int32 (N,), the cluster of each row."""
    iterations: int


class Rows:
    """The rows in the forms that the iterations need, shared by all starts and threads.

    Args:
        z: (N, d), as exact as it is known: what float32 would lose of it counts where it lies far from 0.
        clusters: number of centres K to be told apart.
        exponent: the centred rows are divided by two to this, which is exact, lest squares leave the range of float32.
    """

    def __init__(self, z: np.ndarray, clusters: int, exponent: int = 0) -> None:
        self.n, self.d = z.shape
        self.exponent = exponent
        # float64 (N, d): squares of centred rows lose the fewest digits.
        mean = z.mean(axis=0, dtype=np.float64)
        self.centred = np.ldexp(z - mean, -exponent)
        self.tolerance = TOLERANCE * float(self.centred.var(axis=0).mean())
        self.wide = span(z, clusters, shift=mean) > _LARGEST_FLOAT32
        self.products = True
        if self.wide:
            # One far row moves the mean but not the median; and a share of the variance says nothing of near rows.
            median = np.median(z, axis=0).astype(np.float64)
            self.centred = np.ldexp(z - median, -exponent)
            self.tolerance = 0.0
            self.products = span(z, clusters, shift=median) <= LARGEST
        self.squares = np.square(self.centred).sum(axis=1)  # ‖x‖², float64 (N,)
        self.dtype: Any = np.float64 if self.wide else np.float32
        self.extended = np.ones((self.d + 1, self.n), self.dtype)  # each column a row and a 1
        self.extended[:-1] = self.centred.T

    def nearest(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of the centres (G, K, d) of each start to each row, the first of several at the same distance.

        That is the centre (G, N), of the smallest unsigned type, and ‖x − c‖² − ‖x‖² (G, N) in float32 or float64.
        """
        G, K, _ = centres.shape
        small = np.min_scalar_type(K)
        labels, least = np.empty((G, self.n), small), np.empty((G, self.n), self.dtype)
        if not self.products:
            step = max(64, _BLOCK // K)
            for g, start in itertools.product(range(G), range(0, self.n, step)):
                block = cdist(self.centred[start : start + step], centres[g], "sqeuclidean")
                labels[g, start : start + step] = block.argmin(axis=1)
                least[g, start : start + step] = block.min(axis=1) - self.squares[start : start + step]
            return labels, least
        # ‖c‖² − 2 x·c, as one product of (K·G, d + 1) with (d + 1, rows).
        factors = np.concatenate([-2.0 * centres, np.square(centres).sum(axis=2, keepdims=True)], axis=2)
        factors = np.ascontiguousarray(factors.transpose(1, 0, 2), dtype=self.dtype).reshape(K * G, -1)
        step = max(64, _BLOCK // (K * G))
        for start in range(0, self.n, step):
            block = (factors @ self.extended[:, start : start + step]).reshape(K, G, -1)
            best, which = block[0], np.zeros(block[0].shape, small)
            for k in range(1, K):  # an argmin that vectorises: k only grows, so the last one that is nearer stays
                nearer = np.multiply(block[k] < best, small.type(k), dtype=small)
                np.maximum(which, nearer, out=which)
                np.minimum(best, block[k], out=best)
            labels[:, start : start + step], least[:, start : start + step] = which, best
        return labels, least

    def inertia(self, labels: np.ndarray, centres: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> float:
        """Σ ‖x − c‖² of one start, from the sums (K, d) and counts (K,) of its labels where they have the digits."""
        if self.wide:
            return float(np.square(self.centred - centres[labels]).sum())
        expanded = counts * np.square(centres).sum(axis=1) - 2.0 * (centres * sums).sum(axis=1)
        return max(0.0, float(self.squares.sum() + expanded.sum()))


def run(rows: Rows, clusters: int, init: Init, seeds: Sequence[int]) -> list[Start]:
    """One start for each seed, in order, until each has converged.

    Each start has its own generator; only the rounding of its distances depends on the starts next to it.
    """
    generators = [np.random.default_rng(seed) for seed in seeds]
    if init == "random":
        chosen = np.stack([generator.choice(rows.n, clusters, replace=False) for generator in generators])
    else:
        chosen = plus_plus(rows, clusters, generators)
    return lloyd(rows, rows.centred[chosen])


def lloyd(rows: Rows, centres: np.ndarray) -> list[Start]:
    """Lloyd's iterations from ``centres``, float64 (G, K, d), of the centred rows.

    A centre that loses all its rows moves to the row that is farthest from its own.
    """
    G, K, d = centres.shape
    ended: dict[int, Start] = {}
    going = np.arange(G)
    labels: np.ndarray | None = None
    sums, counts = np.zeros((G, K, d)), np.zeros((G, K), np.int64)
    last = np.zeros(G, bool)  # has converged, and only the labels have to follow its centres
    for iteration in range(1, MOST_ITERATIONS + 2):
        now, least = rows.nearest(centres)
        same = _follow(rows, labels, now, sums, counts)
        done = same | last | (iteration > MOST_ITERATIONS)
        for g in np.flatnonzero(done):
            inertia = float(np.ldexp(rows.inertia(now[g], centres[g], sums[g], counts[g]), 2 * rows.exponent))
            ended[int(going[g])] = Start(inertia, now[g].astype(np.int32), iteration)
        if done.all():
            break
        keep = ~done
        going, labels, sums, counts = going[keep], now[keep], sums[keep], counts[keep]
        before, centres = centres[keep], sums / np.maximum(counts, 1)[:, :, None]
        for g in np.flatnonzero((counts == 0).any(axis=1)):
            empty = np.flatnonzero(counts[g] == 0)
            distances = least[np.flatnonzero(keep)[g]] + rows.squares
            centres[g, empty] = rows.centred[np.argsort(distances)[::-1][: len(empty)]]
        last = np.square(centres - before).sum(axis=(1, 2)) <= rows.tolerance
    return [ended[g] for g in range(G)]


def _follow(rows: Rows, before: np.ndarray | None, now: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Move the rows that changed their cluster from one sum to the other; which starts have none, bool (G,)."""
    G, K, d = sums.shape
    moved = np.ones(now.shape, bool) if before is None else before != now
    unchanged = ~moved.any(axis=1)
    if rows.wide:  # anew, or what a far row that left has rounded away would stay lost
        moved[:], before, sums[:], counts[:] = True, None, 0.0, 0
    start, row = np.nonzero(moved)
    target, sign = start * K + now[start, row], np.ones(len(row))
    if before is not None:
        target, row = np.concatenate([target, start * K + before[start, row]]), np.concatenate([row, row])
        sign = np.concatenate([sign, -sign])
    moves = sparse.csr_matrix((sign, (target, row)), shape=(G * K, rows.n))
    sums += np.asarray(moves @ rows.centred).reshape(G, K, d)
    counts += np.bincount(target, sign, G * K).astype(np.int64).reshape(G, K)
    return np.asarray(unchanged)


def plus_plus(rows: Rows, clusters: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): int64 (G, K), rows far from those chosen before.

    Each new row is the best of 2 + ⌊ln K⌋ candidates, drawn with probabilities that grow with the squared distance to
    the nearest row so far.
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
    """float32 or float64 (G, M, N): ‖x − x_i‖² for the rows i in ``of`` (G, M)."""
    points = rows.centred[of.reshape(-1)]
    if not rows.products:
        return np.asarray(cdist(points, rows.centred, "sqeuclidean").reshape(*of.shape, rows.n))
    factors = np.concatenate([-2.0 * points, rows.squares[of.reshape(-1), None]], axis=1).astype(rows.dtype)
    distances = factors @ rows.extended
    distances += rows.squares.astype(rows.dtype)
    np.maximum(distances, 0.0, out=distances)
    return distances.reshape(*of.shape, rows.n)
