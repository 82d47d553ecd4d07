"""Maps: the same seed gives the same map, near rows stay near, and the quality measures are correct."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from softvq_cli.errors import InputError, UsageError
from softvq_cli.evaluation.quality import map_quality
from softvq_cli.evaluation.tsne import mapped, tsne
from softvq_cli.reporter import Reporter

Z, Y = load_digits(return_X_y=True)
Z, Y = Z[:300].astype(np.float32), Y[:300]


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return tsne(Z, jobs=1)


def brute_force(z: np.ndarray, points: np.ndarray, k: int) -> tuple[float, float]:
    """(trustworthiness, k-NN recall) from their definitions."""
    n = len(z)

    def ranks(x: np.ndarray) -> np.ndarray:
        distance = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2)
        np.fill_diagonal(distance, -1)
        return distance.argsort(1).argsort(1)  # 0 is the row itself

    there, here = ranks(z), ranks(points)
    near_here = (here >= 1) & (here <= k)
    intruders = near_here & (there > k)
    trust = 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * (there - k)[intruders].sum()
    return float(trust), float((near_here & (there >= 1) & (there <= k)).sum() / (n * k))


def test_the_number_of_workers_changes_no_byte(points: np.ndarray) -> None:
    assert tsne(Z, jobs=2).tobytes() == points.tobytes()


def test_interpolation_too_is_independent_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softvq_cli.evaluation.tsne.FFT_FROM", 10)
    monkeypatch.setattr("openTSNE.TSNE", _short(__import__("openTSNE").TSNE))
    assert tsne(Z[:120], jobs=1).tobytes() == tsne(Z[:120], jobs=2).tobytes()


def _short(real: type) -> type:
    class Short(real):  # type: ignore[misc]
        def __init__(self, **options: object) -> None:
            assert options["negative_gradient_method"] == "fft"
            super().__init__(**options, n_iter=30, early_exaggeration_iter=20)

    return Short


def test_exaggeration_draws_clusters_together(points: np.ndarray) -> None:
    def tightness(points: np.ndarray) -> float:
        within = np.mean([points[y == Y].var(axis=0).sum() for y in range(10)])
        return float(within / points.var(axis=0).sum())

    assert tightness(tsne(Z, exaggeration=4, jobs=1)) < 0.9 * tightness(points)


@pytest.mark.parametrize("fft_from", [10, 10_000])
def test_a_map_may_be_a_line(fft_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softvq_cli.evaluation.tsne.FFT_FROM", fft_from)
    line = tsne(Z[:60], perplexity=15, dimensions=1, jobs=1)
    assert line.shape == (60, 1)
    assert map_quality(Z[:60], line).trustworthiness > 0.8


def test_near_rows_stay_near(points: np.ndarray) -> None:
    found = map_quality(Z, points)
    assert points.shape == (300, 2)
    assert found.trustworthiness > 0.95 and found.knn_recall > 0.5
    shuffled = map_quality(Z, np.random.default_rng(0).permutation(points))
    assert shuffled.trustworthiness < 0.6 and shuffled.knn_recall < 0.1


@pytest.mark.parametrize("k", [1, 5, 12])
def test_the_measures_follow_their_definitions(points: np.ndarray, k: int) -> None:
    random = np.random.default_rng(3)
    z, plane = random.normal(size=(60, 5)), random.normal(size=(60, 2))
    plane += z[:, :2]
    found = map_quality(z, plane, k=k)
    assert (found.trustworthiness, found.knn_recall) == pytest.approx(brute_force(z, plane, k))


def test_many_rows_are_sampled_by_the_seed(monkeypatch: pytest.MonkeyPatch, points: np.ndarray) -> None:
    whole = map_quality(Z, points)
    monkeypatch.setattr("softvq_cli.evaluation.quality.QUALITY_ROWS", 150)
    assert map_quality(Z, points).n == 150
    assert map_quality(Z, points) == map_quality(Z, points)
    assert map_quality(Z, points).trustworthiness == pytest.approx(whole.trustworthiness, abs=0.05)


def test_the_seed_decides_a_random_start() -> None:
    first, same, other = (tsne(Z[:30], perplexity=5, init="random", seed=seed) for seed in (0, 0, 1))
    assert first.tobytes() == same.tobytes() != other.tobytes()


@pytest.mark.parametrize("z", [np.zeros((30, 3), np.float32), np.arange(30, dtype=np.float32)[:, None]])
def test_rows_without_principal_axes_are_mapped(z: np.ndarray) -> None:
    assert np.isfinite(tsne(z, perplexity=5)).all()


@pytest.mark.parametrize("n", [4, 50])
def test_a_perplexity_that_is_too_large_names_the_largest(n: int) -> None:
    largest = np.floor((n - 1) / 3 * 10) / 10
    with pytest.raises(InputError, match=f"{largest:g} "):
        tsne(Z[:n])
    assert np.isfinite(tsne(Z[:n], perplexity=largest)).all()


@pytest.mark.parametrize(
    "given", [{"perplexity": 0.5}, {"exaggeration": 0.5}, {"exaggeration": 13}, {"dimensions": 3}, {"init": "pcs"}]
)
def test_what_cannot_be_mapped_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        tsne(Z, **given)


@pytest.mark.parametrize("n", [20, 21])
def test_what_cannot_be_compared_is_refused(n: int) -> None:
    with pytest.raises(InputError):
        map_quality(Z[:21], Z[:n, :2])


def test_of_many_rows_a_drawn_sample_is_mapped_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softvq_cli.evaluation.tsne.MOST_MAPPED", 60)
    reporter, notes = Reporter(), []
    reporter.note = notes.append  # type: ignore[method-assign]
    points = tsne(Z[:100], perplexity=5, jobs=1, reporter=reporter)
    shown = mapped(points)
    assert points.shape == (100, 2) and shown.sum() == 60 and np.isnan(points[~shown]).all()
    assert len(notes) == 1 and "60" in notes[0] and "100" in notes[0]
    assert points[shown].tobytes() == tsne(Z[:100][shown], perplexity=5, jobs=1).tobytes()
    assert (mapped(tsne(Z[:100], perplexity=5, jobs=1, seed=1)) != shown).any()


def test_a_map_of_approximate_neighbours_is_as_good_and_decided_by_the_seed(
    monkeypatch: pytest.MonkeyPatch, points: np.ndarray
) -> None:
    monkeypatch.setattr("softvq_cli.evaluation.tsne.APPROXIMATE_FROM", 100)
    first, again = tsne(Z, jobs=1), tsne(Z, jobs=2)
    assert first.tobytes() == again.tobytes()
    assert map_quality(Z, first).trustworthiness == pytest.approx(map_quality(Z, points).trustworthiness, abs=0.02)
