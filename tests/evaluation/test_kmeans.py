"""Several starts of K-means together, compared with single ones of scikit-learn."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as reference_plus_plus
from sklearn.datasets import load_digits

from softvq_cli.evaluation import kmeans
from softvq_cli.evaluation.clustering import cluster

# Whole pixels lie half way between two centres now and then, where a rounding decides: move them a little.
DIGITS = (load_digits().data + np.random.default_rng(0).normal(0, 0.1, (1797, 64))).astype(np.float32)


def centres_of(rows: kmeans.Rows, clusters: int, starts: int) -> np.ndarray:
    return rows.at(kmeans.plus_plus(rows, clusters, [np.random.default_rng(seed) for seed in range(starts)]))


@pytest.mark.parametrize("clusters", [1, 10, 300])
def test_each_start_ends_where_scikit_learn_ends_from_the_same_centres(clusters: int) -> None:
    rows = kmeans.Rows(DIGITS, clusters)
    centres = centres_of(rows, clusters, 4)
    for start, first in zip(kmeans.lloyd(rows, centres), centres, strict=True):
        reference = KMeans(clusters, init=first, n_init=1).fit(rows.at(slice(None)))
        assert start.inertia == pytest.approx(reference.inertia_, rel=1e-3)
        assert np.mean(start.labels == reference.labels_) > 0.98


def test_the_first_centres_are_as_good_as_scikit_learns() -> None:
    """By the sum of squared distances to the nearest one, over many draws."""
    rows = kmeans.Rows(DIGITS, 10)

    def potential(centres: np.ndarray) -> float:
        _, least = rows.nearest(centres[None])
        return float(least.sum(dtype=np.float64) + rows.squares.sum())

    ours = [potential(centres) for centres in centres_of(rows, 10, 30)]
    theirs = [potential(reference_plus_plus(rows.at(slice(None)), 10, random_state=seed)[0]) for seed in range(30)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_a_centre_without_rows_moves_to_the_farthest_one() -> None:
    z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [30.0]], np.float32)
    rows = kmeans.Rows(z, 3)
    far_away = np.array([[[0.1], [9.05], [1000.0]]]) - z.mean()
    [start] = kmeans.lloyd(rows, far_away)
    assert len(np.unique(start.labels)) == 3
    assert start.inertia == pytest.approx(0.02 + 0.005, rel=1e-3)


@pytest.mark.parametrize("stored", [1 << 23, 0])
@pytest.mark.parametrize("clusters", [1, 2, 300])
def test_bounds_change_no_label(clusters: int, stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kmeans.Rows(DIGITS, clusters)
    for name, value in (("BOUNDED_CLUSTERS", 1), ("_STORED", stored), ("_MOVES", 1000)):
        monkeypatch.setattr(kmeans, name, value)
    bounded = kmeans.Rows(DIGITS, clusters)
    assert bounded.bounded and bounded.stored == (stored > 0)
    centres = centres_of(plain, clusters, 3)
    centres[0, -1] += 1000  # a centre without rows
    for one, other in zip(kmeans.lloyd(plain, centres), kmeans.lloyd(bounded, centres), strict=True):
        assert np.array_equal(one.labels, other.labels) and one.iterations == other.iterations
        assert one.inertia == pytest.approx(other.inertia, rel=1e-12)


def test_much_data_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to the rows themselves, 256 bytes each here."""
    monkeypatch.setattr(kmeans, "BOUNDED_ROWS", 100_000)
    monkeypatch.setattr(kmeans, "MOST_ITERATIONS", 2)
    z = np.random.default_rng(0).standard_normal((300_000, 64), dtype=np.float32)
    tracemalloc.start()
    cluster(z, np.arange(len(z)) % 10, n_init=2, jobs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / len(z) < 400


def widened(noise: float, d: int = 300) -> np.ndarray:
    """Digits in ``d`` dimensions."""
    random = np.random.default_rng(0)
    return (DIGITS @ random.normal(size=(64, d)) + noise * random.normal(size=(len(DIGITS), d))).astype(np.float32)


@pytest.mark.parametrize("d", [300, 2000])  # fewer dimensions than rows, and more
def test_wide_rows_are_finished_in_all_dimensions(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z = widened(10.0 if d == 300 else 3.0, d)
    low, again = (cluster(z, clusters=10, n_init=12, jobs=jobs) for jobs in (1, 2))
    assert low.as_dict() == again.as_dict()
    assert low.as_dict()["principal_components"] == {"n": 64, "variance": low.projected_variance}
    assert low.projected_variance is not None and low.projected_variance > 0.8
    centres = np.stack([z[low.assignments == k].mean(axis=0, dtype=np.float64) for k in range(10)])
    assert low.inertia == pytest.approx(np.square(z - centres[low.assignments]).sum(), rel=1e-5)
    monkeypatch.setattr(kmeans, "WIDE_ENOUGH", d + 1)
    whole = cluster(z, clusters=10, n_init=12)
    assert whole.projected_variance is None and "principal_components" not in whole.as_dict()
    assert low.inertia == pytest.approx(whole.inertia, rel=1e-3)
    assert low.spread["inertia"].std == pytest.approx(whole.spread["inertia"].std, rel=0.8)


def test_rows_of_equal_variance_everywhere_are_not_projected() -> None:
    assert cluster(widened(1000.0), clusters=3, n_init=1).projected_variance is None
