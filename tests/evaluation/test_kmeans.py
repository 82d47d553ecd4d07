"""Several starts of K-means at once, against scikit-learn's one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as reference_plus_plus
from sklearn.datasets import load_digits

from softvq_cli.evaluation import kmeans

# Whole pixels lie half way between two centres now and then, where a rounding decides: move them a little.
DIGITS = (load_digits().data + np.random.default_rng(0).normal(0, 0.1, (1797, 64))).astype(np.float32)


def centres_of(rows: kmeans.Rows, clusters: int, starts: int) -> np.ndarray:
    return rows.centred[kmeans.plus_plus(rows, clusters, [np.random.default_rng(seed) for seed in range(starts)])]


@pytest.mark.parametrize("clusters", [1, 3, 10, 300])
def test_each_start_ends_where_scikit_learn_ends_from_the_same_centres(clusters: int) -> None:
    rows = kmeans.Rows(DIGITS, clusters)
    centres = centres_of(rows, clusters, 4)
    for start, first in zip(kmeans.lloyd(rows, centres), centres, strict=True):
        reference = KMeans(clusters, init=first, n_init=1).fit(rows.centred)
        assert start.inertia == pytest.approx(reference.inertia_, rel=1e-3)
        assert np.mean(start.labels == reference.labels_) > 0.98


def test_the_inertia_is_that_of_the_labels() -> None:
    rows = kmeans.Rows(DIGITS, 10)
    for start in kmeans.lloyd(rows, centres_of(rows, 10, 3)):
        centres = np.stack([DIGITS[start.labels == k].mean(axis=0, dtype=np.float64) for k in range(10)])
        assert start.inertia == pytest.approx(np.square(DIGITS - centres[start.labels]).sum(), rel=1e-4)


def test_a_start_alone_ends_where_it_ends_among_others() -> None:
    """But for what a rounding of the distances decides."""
    rows = kmeans.Rows(DIGITS, 10)
    together = kmeans.run(rows, 10, "k-means++", range(7))
    for seed, start in enumerate(together):
        [alone] = kmeans.run(rows, 10, "k-means++", [seed])
        assert alone.inertia == pytest.approx(start.inertia, rel=1e-3)
        assert np.mean(alone.labels == start.labels) > 0.98


def test_the_first_centres_are_as_good_as_scikit_learns() -> None:
    """By the sum of squared distances to the nearest one, over many draws."""
    rows = kmeans.Rows(DIGITS, 10)

    def potential(centres: np.ndarray) -> float:
        _, least = rows.nearest(centres[None])
        return float(least.sum(dtype=np.float64) + rows.squares.sum())

    ours = [potential(centres) for centres in centres_of(rows, 10, 30)]
    theirs = [potential(reference_plus_plus(rows.centred, 10, random_state=seed)[0]) for seed in range(30)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_a_centre_without_rows_moves_to_the_farthest_one() -> None:
    z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [30.0]], np.float32)
    rows = kmeans.Rows(z, 3)
    far_away = np.array([[[0.1], [9.05], [1000.0]]]) - z.mean()
    [start] = kmeans.lloyd(rows, far_away)
    assert len(np.unique(start.labels)) == 3
    assert start.inertia == pytest.approx(0.02 + 0.005, rel=1e-3)


def test_random_starts_are_distinct_rows() -> None:
    [start] = kmeans.run(kmeans.Rows(DIGITS[:12], 12), 12, "random", [0])
    assert sorted(start.labels.tolist()) == list(range(12))
    assert start.inertia == pytest.approx(0, abs=1e-6)
