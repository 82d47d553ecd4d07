"""Who is near whom in the latents: nearest rows, rows that are alone, pairs that are nearly equal, typical rows.

All distances are Euclidean, and between rows that are not the same row; equal rows are at distance 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softvq_cli.errors import UsageError
from softvq_cli.evaluation.rows import nearest


@dataclass(frozen=True)
class Neighbourhoods:
    """The k nearest other rows of each row, the nearest first."""

    rows: np.ndarray
    """int64 (N, k)."""
    distances: np.ndarray
    """float64 (N, k), not decreasing along a row."""

    def loneliness(self, k: int) -> np.ndarray:
        """float64 (N,): the distance to the k-th nearest row, or to the farthest that is known.

        A row is the more alone the larger it is (Ramaswamy, Rastogi and Shim, SIGMOD 2000); k above 1 finds
        two odd rows that have only each other too.
        """
        return self.distances[:, min(k, self.distances.shape[1]) - 1]


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that look alike, the most alike first."""

    first: np.ndarray
    """int64 (P,)."""
    second: np.ndarray
    """int64 (P,), above ``first``."""
    difference: np.ndarray
    """float64 (P,): root mean square difference of the pixels, 0 … 255."""


def nearest_rows(z: np.ndarray, k: int, *, jobs: int | None = None) -> Neighbourhoods:
    """The k nearest other rows of each row, exactly.

    Args:
        z: (N, d), N at least 2.
        k: at least 1; all other rows where there are no more than k.
        jobs: threads; :func:`softvq_cli.devices.processors` unless given.

    Raises:
        UsageError: fewer than two rows, or ``k`` below 1.
    """
    if len(z) < 2 or k < 1:
        raise UsageError(f"{k} nearest rows of {len(z)} are none: give two rows at least and k of 1 at least")
    distances, rows = nearest(z, min(k, len(z) - 1), jobs=jobs)
    return Neighbourhoods(rows, distances)


def similar_pairs(images: np.ndarray, neighbourhoods: Neighbourhoods, count: int) -> Pairs:
    """The pairs (i, j), i < j, with the smallest difference of pixels, among rows and their nearest rows.

    The difference is √ mean (a − b)² over the pixels and channels of two images a and b. Pairs that are not each
    other's neighbours in the latents are not compared; equal images have equal latents, so that none of
    them is missed unless there are more than k of one kind.

    Args:
        images: uint8 (N, H, W, C).
        neighbourhoods: of the same rows.
        count: pairs at most.
    """
    n, k = neighbourhoods.rows.shape
    ends = np.sort(np.stack([np.repeat(np.arange(n), k), neighbourhoods.rows.reshape(-1)], axis=1), axis=1)
    ends = np.unique(ends, axis=0)
    difference = np.concatenate(
        [_rms(images[part[:, 0]], images[part[:, 1]]) for part in np.array_split(ends, -(-len(ends) // 4096))]
    )
    best = np.argsort(difference, kind="stable")[:count]
    return Pairs(ends[best, 0], ends[best, 1], difference[best])


def distance_to_centre(z: np.ndarray, assignments: np.ndarray) -> np.ndarray:
    """float64 (N,): how far each row is from the mean of its cluster's rows; small is typical.

    Args:
        z: (N, d).
        assignments: int (N,), the cluster of each row.
    """
    _, index = np.unique(assignments, return_inverse=True)
    sums = np.zeros((index.max() + 1, z.shape[1]))
    np.add.at(sums, index, z)
    centres = sums / np.bincount(index)[:, None]
    return np.asarray(np.linalg.norm(z - centres[index], axis=1))


def _rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 (P,) of two uint8 (P, H, W, C)."""
    squares = np.square(a.astype(np.int32) - b)
    return np.asarray(np.sqrt(squares.reshape(len(a), -1).mean(axis=1)))
