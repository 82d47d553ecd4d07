"""Rows far from 0, or next to distant rows, keep the precision of float64, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from softvq_cli.errors import InputError
from softvq_cli.evaluation import kmeans
from softvq_cli.evaluation.clustering import Clustering, cluster
from softvq_cli.evaluation.numerics import prepare, span
from softvq_cli.evaluation.probe import neighbours, probe
from softvq_cli.evaluation.quality import map_quality
from softvq_cli.evaluation.tsne import tsne
from softvq_cli.words import ClusterMethod

Y = load_digits().target
# In float64, and no two rows at the same distance from a third.
Z = load_digits().data / 4 + np.random.default_rng(0).normal(0, 0.02, (1797, 64))
TRAIN, TEST = slice(0, 1200), slice(1200, None)
OFFSETS = [1e7, 1e12]


def with_far_row(size: float, z: np.ndarray = Z) -> np.ndarray:
    far = z.copy()
    far[5] = size
    return far


def in_two_places(distance: float) -> np.ndarray:
    """Move every second row, so that neither the mean nor the median is near all of them."""
    z = Z.copy()
    z[::2] += distance
    return z


def exact_inertia(z: np.ndarray, labels: np.ndarray) -> float:
    return sum(float(np.square(z[labels == k] - z[labels == k].mean(axis=0)).sum()) for k in np.unique(labels))


@pytest.fixture(scope="module")
def plain_clustering() -> Clustering:
    return cluster(Z, Y, n_init=4)


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_changes_no_cluster(offset: float, plain_clustering: Clustering) -> None:
    plain, moved = plain_clustering, cluster(Z + offset, Y, n_init=4)
    assert np.mean(plain.assignments == moved.assignments) > 0.999
    assert moved.inertia == pytest.approx(plain.inertia, rel=1e-6 if offset < 1e12 else 1e-4)
    assert cluster(np.c_[Z, np.full(len(Z), offset)], Y, n_init=4).accuracy == plain.accuracy


@pytest.mark.parametrize(("size", "init"), [(1e4, "k-means++"), (1e12, "random"), (1e30, "k-means++")])
def test_one_far_row_takes_one_cluster_and_leaves_the_others(size: float, init: str) -> None:
    found = cluster(with_far_row(size), Y, clusters=11, n_init=10, init=init)  # type: ignore[arg-type]
    others = np.delete(np.arange(len(Z)), 5)
    reference = KMeans(10, n_init=10, random_state=0).fit(Z[others])
    assert (found.assignments == found.assignments[5]).sum() == 1
    assert found.inertia == pytest.approx(exact_inertia(Z[others], found.assignments[others]), rel=1e-6)
    assert found.inertia <= reference.inertia_ * 1.01
    nmi = normalized_mutual_info_score(Y[others], found.assignments[others])
    assert nmi == pytest.approx(normalized_mutual_info_score(Y[others], reference.labels_), abs=0.05)


@pytest.mark.parametrize("distance", [1e4, 1e9])
def test_clusters_are_found_in_two_places_far_from_each_other(distance: float) -> None:
    z = in_two_places(distance)
    found = cluster(z, clusters=20, n_init=5)
    parts = [np.arange(0, len(Z), 2), np.arange(1, len(Z), 2)]
    assert not set(found.assignments[parts[0]]) & set(found.assignments[parts[1]])
    separate = sum(KMeans(10, n_init=5, random_state=0).fit(Z[part]).inertia_ for part in parts)
    assert found.inertia == pytest.approx(exact_inertia(z, found.assignments), rel=1e-5)
    assert found.inertia < separate * 1.04


SMALL = PCA(8, random_state=0).fit_transform(Z)[:400]
"""Few enough rows and columns for a mixture of Gaussians."""


@pytest.mark.parametrize("method", ["gmm", "agglomerative"])
def test_the_other_methods_see_no_offset(method: ClusterMethod) -> None:
    plain = cluster(SMALL, Y[:400], method=method, n_init=1)
    for offset in (1e7, 1e12):
        moved = cluster(SMALL + offset, Y[:400], method=method, n_init=1)
        assert np.array_equal(moved.assignments, plain.assignments)


def test_a_far_row_is_merged_last_and_refused_by_a_mixture() -> None:
    for size in (1e4, 1e30):
        far = cluster(with_far_row(size, SMALL), Y[:400], method="agglomerative", clusters=11, n_init=1)
        assert (far.assignments == far.assignments[5]).sum() == 1
        with pytest.raises(InputError):
            cluster(with_far_row(size, SMALL), method="gmm", clusters=11, n_init=1)


def test_ordinary_rows_are_clustered_in_float32() -> None:
    for z in (Z, Z + 1e9, Z * 1e-20, Z * np.tile([1.0, 100.0], 32)):
        assert not kmeans.Rows(z, 10).wide
    assert kmeans.Rows(with_far_row(1e4), 10).wide


@pytest.mark.parametrize("z", [Z + 1e9, with_far_row(1e12), in_two_places(1e9)])
def test_the_silhouette_is_that_of_exact_distances(z: np.ndarray) -> None:
    found = cluster(z, clusters=8, n_init=2)
    distances = np.stack([np.sqrt(np.square(z - row).sum(axis=1)) for row in z])
    expected = silhouette_score(distances, found.assignments, metric="precomputed")
    assert found.silhouette == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "z",
    [
        *(Z + offset for offset in OFFSETS),
        *(np.c_[Z, np.full(len(Z), offset)] for offset in OFFSETS),
        *(with_far_row(1e30), in_two_places(1e4), in_two_places(1e9)),
        *((Z * scale).astype(np.float32) for scale in (1e-30, 1e30)),
    ],
)
def test_neighbours_are_those_of_exact_distances(z: np.ndarray) -> None:
    found = neighbours(z[TRAIN], Y[TRAIN], z[TEST], Y[TEST], k=3)
    exact = KNeighborsClassifier(3, algorithm="kd_tree").fit(z[TRAIN], Y[TRAIN])  # by differences
    assert found.accuracy == pytest.approx(exact.score(z[TEST], Y[TEST]), abs=0.002)


@pytest.mark.parametrize("z", [Z[:300] + 1e9, with_far_row(1e9, Z[:300]), with_far_row(1e30, Z[:300]), Z[:300] * 1e-30])
def test_a_map_keeps_the_neighbours(z: np.ndarray) -> None:
    points = tsne(z, jobs=1)
    assert np.isfinite(points).all()
    plain, own = map_quality(Z[:300], points), map_quality(z, points)
    assert plain.trustworthiness > 0.95 and plain.knn_recall > 0.5
    assert own.trustworthiness == pytest.approx(plain.trustworthiness, abs=0.01)


@pytest.mark.parametrize("offset", [1e2, 1e12])
def test_adam_learns_from_rows_far_from_zero(offset: float) -> None:
    def accuracy(z: np.ndarray) -> float:
        return probe(z[TRAIN], Y[TRAIN], z[TEST], Y[TEST], solver="adam", iterations=400).accuracy

    plain = accuracy(Z - np.median(Z[TRAIN], axis=0))
    assert plain > 0.86
    assert accuracy(Z + offset) == pytest.approx(plain, abs=0.004)
    assert accuracy(np.c_[Z, np.full(len(Z), offset)]) == pytest.approx(plain, abs=0.02)


@pytest.fixture(scope="module")
def plain_accuracy() -> float:
    return probe(Z[TRAIN], Y[TRAIN], Z[TEST], Y[TEST]).accuracy


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_probe_does_not_see_an_offset(offset: float, plain_accuracy: float) -> None:
    plain = plain_accuracy
    assert probe(Z[TRAIN] + offset, Y[TRAIN], Z[TEST] + offset, Y[TEST]).accuracy == pytest.approx(plain, abs=0.004)
    column = np.c_[Z, np.full(len(Z), offset)]
    assert probe(column[TRAIN], Y[TRAIN], column[TEST], Y[TEST]).accuracy == pytest.approx(plain, abs=0.004)


@pytest.fixture(scope="module")
def scikit_learns_accuracy() -> float:
    reference = LogisticRegression(C=np.inf, max_iter=5000).fit(Z[TRAIN], Y[TRAIN])
    return float(reference.score(Z[TEST], Y[TEST]))


@pytest.mark.parametrize("z", [with_far_row(1e4), with_far_row(1e30), in_two_places(1e9)])
def test_the_probe_learns_from_rows_beside_far_ones(z: np.ndarray, scikit_learns_accuracy: float) -> None:
    assert probe(z[TRAIN], Y[TRAIN], z[TEST], Y[TEST]).accuracy > scikit_learns_accuracy - 0.06


def codewords(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """float32 (3000, 32), rows of 18 codewords only, which have fewer dimensions than columns; labels (3000,)."""
    index = rng.integers(18, size=3000)
    y = np.where(rng.random(3000) < 0.4, index % 6, rng.integers(6, size=3000))
    return rng.normal(size=(18, 32)).astype(np.float32)[index], y


@pytest.mark.parametrize("spread", [1e-14, 1e-8, 1e-3])
def test_the_probe_sees_through_how_little_rows_near_one_codeword_differ(spread: float) -> None:
    rng = np.random.default_rng(3)
    z, y = codewords(rng)
    moved = z + spread * rng.normal(size=z.shape)
    found, plain = (probe(rows[:2000], y[:2000], rows[2000:], y[2000:]) for rows in (moved, z))
    assert plain.accuracy > 0.4
    assert found.accuracy == pytest.approx(plain.accuracy, abs=0.01)
    assert found.method["converged"]


def test_the_span_is_told_from_a_sample() -> None:
    grid = np.arange(256.0)[:, None]
    assert span(grid) == 255.0**2
    assert span(grid, shift=np.array([255.0]), scale=np.array([4.0])) == 255.0**2
    assert span(np.ones((9, 2)), shift=np.ones(2)) == 0.0
    assert span(np.ones((9, 2))) == np.inf
    assert span(grid.astype(np.int64)) == 255.0**2
    rng = np.random.default_rng(3)
    z, _ = codewords(rng)
    moved = z + 3e-8 * rng.normal(size=z.shape).astype(np.float32)  # copies that rounding has moved are copies
    assert span(moved) == pytest.approx(span(z), rel=1e-3)
    assert span(moved.astype(np.float64)) > 1e14  # no rounding there
    assert prepare(Z).apply(Z) is Z
    assert prepare(in_two_places(1e9)).algorithm == "kd_tree"
