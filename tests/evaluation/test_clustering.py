"""K-means and its agreement with classes, compared with brute force and scikit-learn."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.mixture import GaussianMixture

from softvq_cli.errors import InputError, UsageError
from softvq_cli.evaluation.clustering import cluster, hungarian_accuracy, means, nearest_centre

DIGITS, TARGETS = load_digits(return_X_y=True)
DIGITS = DIGITS.astype(np.float32)


def brute_force(labels: np.ndarray, assignments: np.ndarray) -> float:
    """The best accuracy over all one-to-one maps of clusters to classes."""
    classes, found = np.unique(labels), np.unique(assignments)
    padded = [*classes, *[None] * max(0, len(found) - len(classes))]
    best = 0.0
    for names in itertools.permutations(padded, len(found)):
        name = dict(zip(found, names, strict=True))
        best = max(best, float(np.mean([name[a] == y for a, y in zip(assignments, labels, strict=True)])))
    return best


@pytest.mark.parametrize("classes", [1, 2, 4, 6])
@pytest.mark.parametrize("clusters", [1, 2, 3, 6])
def test_accuracy_is_that_of_the_best_assignment(classes: int, clusters: int) -> None:
    random = np.random.default_rng(classes * 10 + clusters)
    labels = random.integers(classes, size=30) * 7 - 3
    assignments = np.where(random.random(30) < 0.5, labels % clusters, random.integers(clusters, size=30))
    assert hungarian_accuracy(labels, assignments) == pytest.approx(brute_force(labels, assignments))


def test_measures_are_those_of_scikit_learn() -> None:
    found = cluster(DIGITS, TARGETS, n_init=5)
    assert (found.clusters, found.n_init, found.n) == (10, 5, 1797) and 0.6 < found.accuracy < 0.9
    assert found.nmi == pytest.approx(normalized_mutual_info_score(TARGETS, found.assignments))
    assert found.ari == pytest.approx(adjusted_rand_score(TARGETS, found.assignments))
    centres = np.stack([DIGITS[found.assignments == k].mean(0, dtype=np.float64) for k in range(10)])
    assert found.inertia == pytest.approx(((DIGITS - centres[found.assignments]) ** 2).sum(), rel=1e-4)
    assert found.accuracy == hungarian_accuracy(TARGETS, found.assignments)


def test_the_start_with_the_lowest_inertia_is_kept_and_more_starts_begin_with_the_same_ones() -> None:
    few, many = cluster(DIGITS, TARGETS, n_init=10), cluster(DIGITS, TARGETS, n_init=14)
    best = int(few.inertias.argmin())
    assert few.accuracies is not None and (few.inertia, few.accuracy) == (few.inertias[best], few.accuracies[best])
    assert len(set(few.inertias)) > 1 and np.array_equal(few.inertias, many.inertias[:10])
    assert not np.array_equal(few.inertias, cluster(DIGITS, TARGETS, n_init=10, seed=1).inertias)


def test_the_number_of_workers_changes_no_byte() -> None:
    results = [cluster(DIGITS, TARGETS, n_init=24, jobs=jobs) for jobs in (1, 2, 5)]
    for other in results[1:]:
        assert other.assignments.tobytes() == results[0].assignments.tobytes()
        assert other.inertias.tobytes() == results[0].inertias.tobytes()
        assert other.as_dict() == results[0].as_dict()


def test_without_labels_there_is_a_silhouette() -> None:
    found = cluster(DIGITS, clusters=10, n_init=3)
    assert found.silhouette == pytest.approx(silhouette_score(DIGITS, found.assignments), rel=1e-4)
    assert found.accuracy is found.nmi is found.ari is found.accuracies is None
    assert {"silhouette", "inertia"} <= found.as_dict().keys()
    assert "clustering_accuracy" not in found.as_dict()


def test_the_silhouette_of_many_rows_is_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softvq_cli.evaluation.clustering.SILHOUETTE_ROWS", 600)
    found = [cluster(DIGITS, clusters=10, n_init=2) for _ in range(2)]
    assert found[0].silhouette == found[1].silhouette
    assert found[0].silhouette == pytest.approx(silhouette_score(DIGITS, found[0].assignments), abs=0.02)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_changes_nothing_but_the_inertia(scale: float) -> None:
    plain = cluster(DIGITS[:300], TARGETS[:300], n_init=3)
    scaled = cluster((DIGITS[:300].astype(np.float64) * scale).astype(np.float32), TARGETS[:300], n_init=3)
    assert scaled.accuracy == pytest.approx(plain.accuracy, abs=0.01)
    assert scaled.inertia == pytest.approx(plain.inertia * scale**2, rel=1e-3)


def stretched(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Three long thin clusters next to each other, which K-means splits."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return random.normal(size=(n, 2)) * [4, 0.5] + np.array([0.0, 4.0]) * labels[:, None] + 500, labels


def test_a_mixture_finds_what_k_means_cuts() -> None:
    z, labels = stretched()
    k_means, mixture = (cluster(z, labels, n_init=5, method=method) for method in ("kmeans", "gmm"))  # type: ignore[arg-type]
    assert k_means.accuracy is not None and k_means.accuracy < 0.8
    assert mixture.accuracy is not None and mixture.accuracy > 0.98
    centres = np.stack([z[mixture.assignments == k].mean(axis=0) for k in range(3)])
    assert mixture.inertia == pytest.approx(np.square(z - centres[mixture.assignments]).sum())
    assert mixture.inertia > k_means.inertia and mixture.accuracies is None
    scaled = cluster((z * 1e-12).astype(np.float64), labels, n_init=5, method="gmm")
    assert np.array_equal(scaled.assignments, mixture.assignments)


def test_a_mixture_is_scikit_learn_s() -> None:
    random = np.random.default_rng(1)
    shapes = random.normal(size=(5, 3, 3))
    z = np.concatenate([random.normal(size=(200, 3)) @ shape + random.normal(0, 6, 3) for shape in shapes])
    reference = GaussianMixture(5, n_init=10, init_params="k-means++", random_state=0, max_iter=500)
    scaled = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0).mean())
    found = cluster(z, clusters=5, n_init=10, method="gmm")
    assert adjusted_rand_score(found.assignments, reference.fit_predict(scaled)) > 0.98


def test_merging_is_scikit_learn_s_ward(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster(DIGITS, TARGETS, method="agglomerative")
    reference = AgglomerativeClustering(10).fit_predict(DIGITS.astype(np.float64))
    assert adjusted_rand_score(found.assignments, reference) > 0.99
    monkeypatch.setattr("softvq_cli.evaluation.clustering.MOST_PAIRS", 1000)  # more are merged along a graph
    along = cluster(DIGITS, TARGETS, method="agglomerative")
    assert along.accuracy == pytest.approx(found.accuracy, abs=0.1)
    assert found.n_init == 1 and found.inertias.tolist() == [found.inertia]
    assert json.loads(json.dumps(found.as_dict()))["method"] == "agglomerative"


@pytest.mark.parametrize("method", ["kmeans", "gmm", "agglomerative"])
@pytest.mark.parametrize(("n", "clusters"), [(12, 12), (12, 1), (13, 5)])
def test_few_rows_are_clustered_by_any_method(
    method: str, n: int, clusters: int, recwarn: pytest.WarningsRecorder
) -> None:
    for z in (DIGITS[:n], np.ones((n, 3), np.float32)):
        found = cluster(z, clusters=clusters, n_init=2, method=method)  # type: ignore[arg-type]
        assert found.assignments.shape == (n,) and found.assignments.max() < clusters
        assert clusters > 1 or found.silhouette is None
    assert found.inertia == 0 and not recwarn.list


@pytest.mark.parametrize(
    ("labels", "clusters", "value"),
    [
        (np.arange(30), None, "30"),
        (np.arange(30), 4, "30"),
        (np.arange(30) % 3, 30, "30"),
        (np.arange(30) % 3, 20, "1.5"),
        (np.arange(30) // 2, None, "2.0"),
        (np.zeros(30, int), 3, ""),
        (np.arange(30) % 3, None, None),
        (None, 30, None),
    ],
)
def test_a_note_says_when_the_accuracy_is_worth_nothing(
    labels: np.ndarray | None, clusters: int | None, value: str | None
) -> None:
    """For any rows, here random ones."""
    z = np.random.default_rng(0).normal(size=(30, 3))
    found = cluster(z, labels, clusters=clusters, n_init=2)
    assert len(found.notes) == (value is not None)
    assert value is None or value in found.notes[0]
    if labels is not None and found.clusters == len(np.unique(labels)) == 30:
        assert found.accuracy == 1.0


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({}, UsageError, "clusters"),
        ({"clusters": 51}, InputError, "51"),
        ({"clusters": 3, "init": "kmeans++"}, UsageError, "init"),
        ({"clusters": 3, "method": "k-means"}, UsageError, "method"),
        ({"labels": TARGETS[:49]}, InputError, "49"),
    ],
)
def test_what_cannot_be_clustered_is_said(options: dict, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        cluster(DIGITS[:50], **options)


def test_empty_clusters_have_no_mean_and_get_no_rows() -> None:
    z, assignments = DIGITS[:60], np.array([4, 0, 2])[np.arange(60) % 3]
    centres = means(z, assignments, 5)
    assert np.isnan(centres[[1, 3]]).all()
    for k in (0, 2, 4):
        np.testing.assert_allclose(centres[k], z[assignments == k].mean(axis=0), rtol=1e-6)
    distances = np.stack([np.linalg.norm(z - centres[k], axis=1) for k in (0, 2, 4)])
    assert np.array_equal(nearest_centre(z, centres), np.array([0, 2, 4])[distances.argmin(axis=0)])
