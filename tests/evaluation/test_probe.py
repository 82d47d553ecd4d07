"""The softmax and the k-NN probe, compared with formulas in NumPy and with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from softvq_cli.errors import InputError, UsageError
from softvq_cli.evaluation import probe as probe_module
from softvq_cli.evaluation.probe import few_labels, fit_lbfgs, neighbours, probe

Z, Y = load_digits(return_X_y=True)
Z = Z.astype(np.float32)
TRAIN, TEST = slice(0, 1200), slice(1200, None)
SPLITS = (Z[TRAIN], Y[TRAIN], Z[TEST], Y[TEST])


def noisy(classes: int = 3, n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, for which a finite optimum exists, on features of very different scales."""
    random = np.random.default_rng(1)
    y = random.integers(classes, size=n)
    z = random.normal(size=(n, 4)) + np.eye(4)[y] * 1.5
    return (z * [1, 100, 0.01, 5] + [0, 1000, 0, -3]).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_lbfgs_is_at_the_optimum(classes: int, l2: float) -> None:
    z, y = noisy(classes)
    W, b, converged = fit_lbfgs(z, y, l2=l2)
    logits = z.astype(np.float64) @ W.T + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    error = p - np.eye(classes)[y]
    x = (z - z.mean(0, dtype=np.float64)) / z.std(0, dtype=np.float64)
    penalty = l2 * W * z.std(0, dtype=np.float64)  # on the weights of the standardised features
    assert converged
    np.testing.assert_allclose(error.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(error.T @ x / len(x) + penalty, 0, atol=1e-4)


def test_a_fit_that_stands_still_is_not_called_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_still(self: LogisticRegression, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
        self.classes_ = np.unique(y)
        self.coef_, self.intercept_ = np.zeros((len(self.classes_), x.shape[1])), np.zeros(len(self.classes_))
        return self

    z, y = noisy()
    monkeypatch.setattr(LogisticRegression, "fit", stand_still)
    assert not fit_lbfgs(z, y)[2]


def smooth_images(n: int, *, separation: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 520 features, each nearly the same as its neighbours', and two classes that overlap or do not."""
    random = np.random.default_rng(2)
    y = random.integers(2, size=n)
    z = random.normal(size=(n, 26)) @ np.repeat(np.eye(26), 20, axis=1) + 0.3 * random.normal(size=(n, 520))
    z[:, :20] += separation * y[:, None]
    return z.astype(np.float32), y


def test_lbfgs_is_at_the_optimum_of_wide_rows_whose_features_are_correlated() -> None:
    z, y = smooth_images(4000, separation=0.5)
    W, b, converged = fit_lbfgs(z, y)
    z = z.astype(np.float64)
    p = 1 / (1 + np.exp(z @ (W[0] - W[1]) + b[0] - b[1]))
    assert converged
    np.testing.assert_allclose(((p - y)[:, None] * (z - z.mean(0)) / z.std(0)).mean(0), 0, atol=1e-4)
    assert 0.55 < float(((p > 0.5) == y).mean()) < 0.95


def test_wide_rows_that_a_plane_separates_have_the_features_of_unit_variance() -> None:
    """There is no optimum then, and whitening would emphasise directions in which the rows hardly differ."""
    z, y = smooth_images(1800, separation=6.0)
    found = probe(z[:1500], y[:1500], z[1500:], y[1500:])
    x = (z - z[:1500].mean(0)) / z[:1500].std(0)
    reference = LogisticRegression(C=np.inf, max_iter=2000).fit(x[:1500], y[:1500])
    assert found.train_accuracy == 1
    assert found.accuracy == pytest.approx(reference.score(x[1500:], y[1500:]), abs=0.004)
    W, _, _ = fit_lbfgs(z[:1500], y[:1500])
    direction, expected = (W[1] - W[0]) * z[:1500].std(0), reference.coef_[0]
    assert direction @ expected / np.linalg.norm(direction) / np.linalg.norm(expected) > 0.999


def test_adam_comes_near_the_optimum() -> None:
    z, y = noisy()
    z = ((z - z.mean(0)) / z.std(0)).astype(np.float32)
    exact = probe(z[:400], y[:400], z[400:], y[400:])
    adam = probe(z[:400], y[:400], z[400:], y[400:], solver="adam", iterations=300)
    assert adam.accuracy == pytest.approx(exact.accuracy, abs=0.04)
    again = probe(z[:400], y[:400], z[400:], y[400:], solver="adam", iterations=300)
    assert again.as_dict() == adam.as_dict()


def test_confusion_and_classes_agree_with_the_accuracy() -> None:
    found = probe(*SPLITS, class_names=tuple("abcdefghij"))
    assert found.confusion.sum() == found.n_test == 597
    assert np.trace(found.confusion) / 597 == pytest.approx(found.accuracy)
    assert np.array_equal(found.confusion.sum(1), np.bincount(Y[TEST]))
    assert list(found.per_class) == list("abcdefghij")
    assert found.per_class["c"] == pytest.approx(found.confusion[2, 2] / found.confusion[2].sum())
    assert 0.85 < found.accuracy < found.train_accuracy == 1.0
    strange = probe(Z[TRAIN], Y[TRAIN] * 1000 - 4000, Z[TEST], Y[TEST] * 1000 - 4000)
    assert strange.accuracy == found.accuracy and list(strange.per_class)[:2] == ["-4000", "-3000"]


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "neighbours"])
def test_a_class_that_was_not_trained_counts_as_wrong(solver: str) -> None:
    known = Y[TRAIN] != 4
    data = (Z[TRAIN][known], Y[TRAIN][known], Z[TEST], Y[TEST])
    found = neighbours(*data) if solver == "neighbours" else probe(*data, solver=solver, iterations=300)  # type: ignore[arg-type]
    assert found.per_class["4"] == 0
    assert found.confusion[:, 4].sum() == 0
    assert found.per_class["0"] > 0.8


def test_neighbours_vote_as_in_scikit_learn() -> None:
    for k in (1, 5):
        found = neighbours(*SPLITS, k=k)
        assert found.accuracy == pytest.approx(KNeighborsClassifier(k).fit(*SPLITS[:2]).score(*SPLITS[2:]))
    assert found.train_accuracy < 1  # a row does not vote for itself
    assert found.as_dict()["neighbours"] == 5
    assert neighbours(*SPLITS, k=5, jobs=1).as_dict() == neighbours(*SPLITS, k=5, jobs=2).as_dict()


def test_of_many_rows_some_tell_the_training_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    every = neighbours(*SPLITS, k=3)
    monkeypatch.setattr(probe_module, "MOST_TRAIN_ROWS", 10)
    monkeypatch.setattr(probe_module, "TRAIN_ROWS", len(SPLITS[0]))
    some = neighbours(*SPLITS, k=3)
    assert some.as_dict() == {**every.as_dict(), "train_rows": len(SPLITS[0])}


def test_a_draw_goes_to_the_lowest_label() -> None:
    z = np.array([[-1.0], [1.0], [50.0], [51.0]], np.float32)
    found = neighbours(z, np.array([3, 2, 9, 9]), np.zeros((2, 1), np.float32), np.array([2, 3]), k=2)
    assert found.per_class == {"2": 1.0, "3": 0.0}


def test_few_labels_are_balanced_draws_with_a_spread() -> None:
    few, many = (few_labels(*SPLITS, labels_per_class=k, draws=4) for k in (5, 50))
    assert 0.6 < few.mean < many.mean < 0.97
    assert few.n == 4 and few.std is not None and few.std > 0
    assert few_labels(*SPLITS, labels_per_class=5, draws=4) == few
    assert few_labels(*SPLITS, labels_per_class=5, draws=4, seed=1).values != few.values


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ((Z, None, Z, Y), "train"),
        ((Z, Y, Z, None), "test"),
        ((Z, Y[:-1], Z, Y), "1796"),
        ((Z, Y, Z, Y[:5]), "1797"),
        ((Z, Y, Z[:, :60], Y), "60"),
        ((Z, np.ones(len(Y), int), Z, Y), "train"),
    ],
)
@pytest.mark.parametrize("measure", [probe, neighbours])
def test_what_cannot_be_probed_is_said(data: Any, value: str, measure: Any) -> None:
    with pytest.raises(InputError, match=value):
        measure(*data)


def test_too_few_rows_and_an_unknown_solver_are_said() -> None:
    """For numbers out of range, see test_ranges."""
    with pytest.raises(InputError, match="1200"):
        neighbours(*SPLITS, k=1200)
    with pytest.raises(InputError, match="11"):
        few_labels(*SPLITS, labels_per_class=200)
    with pytest.raises(UsageError, match="solver"):
        probe(*SPLITS, solver="lbfg")  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [0.0, 0.3, 1e9])
def test_rows_that_are_all_equal_give_the_commonest_class(offset: float) -> None:
    """The decoder's input of a codebook that has collapsed to one code."""
    z, labels = np.full((600, 8), offset, np.float32), np.repeat([0, 1, 1], 200)
    assert probe(z, labels, z, labels).accuracy == pytest.approx(2 / 3)
