"""Lloyd's K-means from several starts at once.

The starts share the rows: one matrix product gives the distances from every row to every centre of every start, where
a start alone has a product too thin to be fast. From one iteration to the next few rows change their cluster, so the
sums behind the centres are updated by those rows alone, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from softvq_cli.words import Init

TOLERANCE = 1e-4
"""A start has converged when its centres move by less than this share of the rows' mean variance, or no row changes its
cluster; scikit-learn's default."""
MOST_ITERATIONS = 300
_BLOCK = 1 << 18
"""Distances at a time, to stay in the cache."""


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
        z: float32 (N, d).
    """

    def __init__(self, z: np.ndarray) -> None:
        self.n, self.d = z.shape
        mean = z.mean(axis=0, dtype=np.float64)
        self.centred = z - mean  # float64 (N, d): squares of centred rows lose the fewest digits
        self.squares = np.square(self.centred).sum(axis=1)  # ‖x‖², float64 (N,)
        self.extended = np.ones((self.d + 1, self.n), np.float32)  # each column a row and a 1
        self.extended[:-1] = self.centred.T
        self.tolerance = TOLERANCE * float(self.centred.var(axis=0).mean())

    def nearest(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of the centres (G, K, d) of each start to each row.

        Returns:
            The smallest unsigned integer (G, N), the centre, the first of several at the same distance; float32 (G, N),
            ‖x − c‖² − ‖x‖².
        """
        G, K, _ = centres.shape
        # ‖c‖² − 2 x·c, as one product of (K·G, d + 1) with (d + 1, rows).
        factors = np.concatenate([-2.0 * centres, np.square(centres).sum(axis=2, keepdims=True)], axis=2)
        factors = np.ascontiguousarray(factors.transpose(1, 0, 2), dtype=np.float32).reshape(K * G, -1)
        small = np.min_scalar_type(K)
        labels, least = np.empty((G, self.n), small), np.empty((G, self.n), np.float32)
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


def run(rows: Rows, clusters: int, init: Init, seeds: Sequence[int]) -> list[Start]:
    """One start for each seed, in order, until each has converged.

    Args:
        rows: at least ``clusters`` of them.
        clusters: number of centres K.
        init: "k-means++", greedy as in scikit-learn, or "random" rows.
        seeds: of each start's own generator; only the rounding of a start's distances depends on those beside it.
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
        found, least = rows.nearest(centres)
        same = _follow(rows, labels, found, sums, counts)
        done = same | last | (iteration > MOST_ITERATIONS)
        for g in np.flatnonzero(done):
            inertia = (
                rows.squares.sum()
                + (counts[g] * np.square(centres[g]).sum(axis=1) - 2.0 * (centres[g] * sums[g]).sum(axis=1)).sum()
            )
            ended[int(going[g])] = Start(max(0.0, float(inertia)), found[g].astype(np.int32), iteration)
        if done.all():
            break
        keep = ~done
        going, labels, sums, counts = going[keep], found[keep], sums[keep], counts[keep]
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
    start, row = np.nonzero(np.ones(now.shape, bool) if before is None else before != now)
    target, sign = start * K + now[start, row], np.ones(len(row))
    if before is not None:
        target, row = np.concatenate([target, start * K + before[start, row]]), np.concatenate([row, row])
        sign = np.concatenate([sign, -sign])
    moves = sparse.csr_matrix((sign, (target, row)), shape=(G * K, rows.n))
    sums += np.asarray(moves @ rows.centred).reshape(G, K, d)
    counts += np.bincount(target, sign, G * K).astype(np.int64).reshape(G, K)
    unchanged: np.ndarray = np.bincount(start, minlength=G) == 0
    return unchanged


def plus_plus(rows: Rows, clusters: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): int64 (G, K), rows far from those chosen before.

    Each new row is the best of 2 + ⌊ln K⌋ candidates, drawn with probabilities that grow with the squared distance to
    the nearest row so far.
    """
    G, trials = len(generators), 2 + int(np.log(clusters))
    chosen = np.empty((G, clusters), np.int64)
    chosen[:, 0] = [generator.integers(rows.n) for generator in generators]
    nearest = _squared_distances(rows, chosen[:, :1])[:, 0]  # float32 (G, N)
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
    """float32 (G, M, N): ‖x − x_i‖² for the rows i in ``of`` (G, M)."""
    points = rows.centred[of.reshape(-1)]
    factors = np.concatenate([-2.0 * points, rows.squares[of.reshape(-1), None]], axis=1).astype(np.float32)
    distances = factors @ rows.extended
    distances += rows.squares.astype(np.float32)
    np.maximum(distances, 0.0, out=distances)
    return distances.reshape(*of.shape, rows.n)
