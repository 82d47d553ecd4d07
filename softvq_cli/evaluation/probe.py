"""Probes: how well a simple classifier predicts the class from frozen latents. Softmax regression and k-NN.

Softmax regression is fitted by L-BFGS; training by Adam, as in the published notebooks, is for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.datasets.dataset import evenly_spaced
from softvq_cli.devices import evaluation_threads
from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.evaluation.numerics import Features, conditioned
from softvq_cli.evaluation.search import nearest
from softvq_cli.evaluation.statistics import Summary, summary
from softvq_cli.process import quiet, threads
from softvq_cli.ranges import MOST_COUNT, check_jobs, check_number, check_seed
from softvq_cli.words import SOLVERS, Solver

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MOST_DRAWS = 10_000
MOST_TRAIN_ROWS, TRAIN_ROWS = 20_000, 2000
"""With more training rows than the first, the training accuracy of k-NN is measured on the second number of them."""
_STANDSTILL = 10
"""Multiple of the tolerance that is accepted for the gradient if rounding prevents a further decrease of the loss."""
_FAR_FROM_ZERO = 10
"""Multiple of their spread: rows farther from 0 are shifted before Adam, which could not learn from them."""


@dataclass(frozen=True)
class Probe:
    """The accuracy of a classifier of the latents."""

    accuracy: float
    """Accuracy on the test rows."""
    train_accuracy: float
    per_class: dict[str, float]
    """Accuracy on the test rows of each class that occurs there, by name."""
    confusion: np.ndarray
    """int64 (C, C): rows are true classes, columns predicted ones, in the order of ``classes``."""
    predicted: np.ndarray
    """int64 (n_test,): the predicted class of each test row, as an index into ``classes``; not in the JSON."""
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    method: dict[str, Any]
    """What was fitted: the solver or the number of neighbours, and its settings."""
    weights: np.ndarray | None = None
    """float64 (C, d + 1): W and, in the last column, b of softmax regression; not in the JSON."""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "probe_accuracy": self.accuracy,
            "train_accuracy": self.train_accuracy,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "classes": list(self.classes),
            "n_train": self.n_train,
            "n_test": self.n_test,
            **self.method,
        }


@evaluation_threads()
def probe(
    train_z: np.ndarray,
    train_labels: np.ndarray | None,
    test_z: np.ndarray,
    test_labels: np.ndarray | None,
    *,
    solver: Solver = "lbfgs",
    class_names: Sequence[str] = (),
    seed: int = 0,
    l2: float = 0.0,
    lr: float = 0.01,
    iterations: int = 30_000,
    batch_size: int = 128,
) -> Probe:
    """Fit p(y | z) = softmax(W z + b) by maximum likelihood on the train rows; measure it on the test rows.

    Rows are (N, d) and (M, d), labels int (N,), of at least two classes, and int (M,). Test rows of a class without
    train rows count as wrong. The solver "lbfgs" finds the optimum of the convex problem; its only setting is ``l2``,
    the weight of ‖W‖² / 2 added to the mean cross-entropy, for features with unit variance. "adam" is the training of
    the published notebooks: ``iterations`` updates with ``batch_size`` rows each.
    """
    y, y_test, classes = _check_input(train_z, train_labels, test_z, test_labels)
    if solver not in SOLVERS:
        raise UsageError(unknown_name("solver", solver, SOLVERS))
    seed = check_seed(seed)
    lr, l2 = check_number("lr", lr, float, above=0), check_number("l2", l2, float, low=0)
    iterations = int(check_number("iterations", iterations, low=1, high=MOST_COUNT))
    batch_size = int(check_number("batch_size", batch_size, low=1, high=MOST_COUNT))
    if solver == "lbfgs":
        W, b, converged = fit_lbfgs(train_z, y, l2=l2)
        settings: dict[str, Any] = {"l2": l2, "converged": converged}
    else:
        W, b = fit_adam(train_z, y, lr=lr, iterations=iterations, batch_size=batch_size, seed=seed)
        settings = {"lr": lr, "iterations": iterations, "batch_size": batch_size, "seed": seed}
    names = name_classes(classes, class_names)
    found = _measure(y, _predict(train_z, W, b), y_test, _predict(test_z, W, b), names, {"solver": solver, **settings})
    return replace(found, weights=np.column_stack([W, b]))


def few_labels(
    train_z: np.ndarray,
    train_labels: np.ndarray | None,
    test_z: np.ndarray,
    test_labels: np.ndarray | None,
    *,
    labels_per_class: int,
    draws: int = 5,
    seed: int = 0,
) -> Summary:
    """Accuracies of probes on ``labels_per_class`` rows per class, drawn ``draws`` times; test rows as in ``probe``.

    A few rows can be separable, and then maximum likelihood has no finite optimum. Therefore the weights of the
    standardised features have a standard normal prior: a penalty of 1/n, which is scikit-learn's default.
    """
    labels_per_class = int(check_number("few_labels", labels_per_class, low=1, high=MOST_COUNT))
    draws, seed = int(check_number("draws", draws, low=1, high=MOST_DRAWS)), check_seed(seed)
    y, _, classes = _check_input(train_z, train_labels, test_z, test_labels)
    seen = np.unique(y)
    rarest = int(np.bincount(y)[seen].min())
    if rarest < labels_per_class:
        raise InputError(f"the rarest class has {rarest} rows, fewer than {labels_per_class} labels per class")
    accuracies = []
    for child in np.random.SeedSequence(seed).spawn(draws):
        generator = np.random.default_rng(child)
        rows = np.concatenate([generator.choice(np.flatnonzero(y == c), labels_per_class, replace=False) for c in seen])
        accuracies.append(probe(train_z[rows], classes[y[rows]], test_z, test_labels, l2=1 / len(rows)).accuracy)
    return summary(accuracies)


def neighbours(
    train_z: np.ndarray,
    train_labels: np.ndarray | None,
    test_z: np.ndarray,
    test_labels: np.ndarray | None,
    *,
    k: int = 5,
    class_names: Sequence[str] = (),
    jobs: int | None = None,
) -> Probe:
    """k-NN: a test row gets the most frequent class of its ``k`` nearest train rows (Euclidean distance).

    Ties go to the class with the lowest label. For the training accuracy, a row is not its own neighbour. With more
    than MOST_TRAIN_ROWS it is measured on TRAIN_ROWS of them; ``method`` then has ``train_rows``.

    Rows and labels are as in :func:`probe`; the result does not depend on ``jobs``, the number of threads.
    """
    y, y_test, classes = _check_input(train_z, train_labels, test_z, test_labels)
    k, jobs = int(check_number("neighbours", k, low=1, high=MOST_COUNT)), check_jobs(jobs)
    if len(train_z) <= k:
        raise InputError(
            f"{len(train_z)} train rows are too few for {k} neighbours each: use fewer neighbours or more rows"
        )
    method = {"neighbours": k}
    if len(train_z) <= MOST_TRAIN_ROWS:
        measured, near = y, nearest(train_z, k, jobs=jobs)[1]
    else:
        rows = evenly_spaced(len(train_z), TRAIN_ROWS)
        measured, near = y[rows], _other_rows(train_z, k, rows, jobs)
        method["train_rows"] = len(rows)
    test_near = nearest(train_z, k, queries=test_z, jobs=jobs)[1]
    votes, test_votes = (_vote(y[rows], len(classes)) for rows in (near, test_near))
    probe = _measure(measured, votes, y_test, test_votes, name_classes(classes, class_names), method)
    return replace(probe, n_train=len(y))


def _other_rows(z: np.ndarray, k: int, rows: np.ndarray, jobs: int | None) -> np.ndarray:
    """The k nearest rows of ``z`` for each of its rows with index in ``rows`` (M,), without itself: int64 (M, k)."""
    near = nearest(z, k + 1, queries=z[rows], jobs=jobs)[1]
    own = near == rows[:, None]
    own[~own.any(axis=1), -1] = True  # with more than k copies of a row, the row itself may be missing
    return np.asarray(near[~own].reshape(len(rows), k))


def _vote(labels: np.ndarray, classes: int) -> np.ndarray:
    """The most frequent class of each row: indices (N, k) → (N,)."""
    votes = np.zeros((len(labels), classes), dtype=np.int32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return np.asarray(votes.argmax(axis=1))


def _check_input(
    train_z: np.ndarray, train_labels: np.ndarray | None, test_z: np.ndarray, test_labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(train labels, test labels, classes): labels become indices into the sorted labels that occur in either."""
    for split, z, labels in (("train", train_z, train_labels), ("test", test_z, test_labels)):
        if labels is None:
            raise InputError(
                "the {} rows have no labels, but a probe needs them: train on images in class folders, put "
                "NAME.labels.npy next to NAME.npy, or give {labels}",
                split,
            )
        if len(labels) != len(z):
            raise InputError(f"{len(labels)} labels for {len(z)} {split} rows: they must be equal in number")
    assert train_labels is not None and test_labels is not None
    if train_z.shape[1] != test_z.shape[1]:
        raise InputError(
            f"the train rows have {train_z.shape[1]} dimensions, the test rows {test_z.shape[1]}: "
            "embed both with the same checkpoint"
        )
    if len(np.unique(train_labels)) < 2:
        raise InputError("the train rows have only one class: a probe needs at least two")
    classes = np.unique(np.concatenate([train_labels, test_labels]))
    return np.searchsorted(classes, train_labels), np.searchsorted(classes, test_labels), classes


def name_classes(classes: np.ndarray, class_names: Sequence[str]) -> tuple[str, ...]:
    """The name of each label: from ``class_names`` if it has one, else the number."""
    return tuple(class_names[c] if 0 <= c < len(class_names) else str(c) for c in classes.tolist())


def _measure(
    y: np.ndarray,
    predicted: np.ndarray,
    y_test: np.ndarray,
    predicted_test: np.ndarray,
    names: tuple[str, ...],
    method: dict[str, Any],
) -> Probe:
    """Compare predicted and true classes of the train and test rows; all are indices into ``names``."""
    C = len(names)
    confusion = np.bincount(y_test * C + predicted_test, minlength=C * C).reshape(C, C)
    totals = confusion.sum(axis=1)
    return Probe(
        accuracy=float((y_test == predicted_test).mean()),
        train_accuracy=float((y == predicted).mean()),
        per_class={names[c]: float(confusion[c, c] / totals[c]) for c in range(C) if totals[c]},
        confusion=confusion,
        predicted=predicted_test,
        classes=names,
        n_train=len(y),
        n_test=len(y_test),
        method=method,
    )


def _predict(z: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The most probable class of each row: int64 (N,)."""
    step = 1 << 16  # float64 copies of a slice at a time
    return np.concatenate([(z[i : i + step].astype(np.float64) @ W.T + b).argmax(1) for i in range(0, len(z), step)])


def fit_lbfgs(x: np.ndarray, y: np.ndarray, *, l2: float = 0.0) -> tuple[np.ndarray, np.ndarray, bool]:
    """Minimise mean cross-entropy + l2 ‖W'‖² / 2 in float64, where W' are the weights of standardised features.

    Standardisation is needed for convergence; without a penalty it does not change the optimum.

    ``y`` are class indices; classes that do not occur are never predicted. Returns W (C, d) and b (C,) for the original
    features, with C = max(y) + 1, and whether it converged. It has converged if every gradient component is within the
    tolerance of 1e-4 (a tenth of it changes no accuracy and takes three times as long), or within ten times that if
    rounding prevents a further decrease of the loss.
    """
    from sklearn.linear_model import LogisticRegression

    classes = len(np.unique(y))
    binary = classes == 2  # scikit-learn then fits w = W_1 - W_0, with ‖W‖² = ‖w‖² / 2
    strength = l2 * len(x) / (2 if binary else 1)
    model = LogisticRegression(C=1 / strength if strength > 0 else np.inf, max_iter=2000)
    features = conditioned(x, whiten=l2 == 0, classes=classes)
    converged = _converge(model, features, y)
    if features.tentative and model.score(features.rows, y) == 1:
        features = conditioned(x, whiten=l2 == 0)
        converged = _converge(model, features, y)
    coef, intercept = model.coef_, model.intercept_
    if binary:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    W, b = np.zeros((y.max() + 1, x.shape[1])), np.full(y.max() + 1, -np.inf)
    W[model.classes_] = coef if features.axes is None else coef @ features.axes.T
    W /= features.scale
    b[model.classes_] = intercept - (coef * features.offset).sum(axis=1) - W[model.classes_] @ features.shift
    return W, b, converged


def _converge(model: LogisticRegression, features: Features, y: np.ndarray) -> bool:
    """Fit ``model``; returns whether the gradient reached the tolerance.

    SciPy also reports success if the loss stops decreasing, for example because the first step fails.
    """
    from sklearn.exceptions import ConvergenceWarning

    with quiet(ConvergenceWarning):
        model.set_params(tol=features.tolerance).fit(features.rows, y)
    error = model.predict_proba(features.rows)
    error[np.arange(len(y)), np.searchsorted(model.classes_, y)] -= 1
    gradient = (error.T @ features.rows / len(y))[-len(model.coef_) :] + model.coef_ / (model.C * len(y))
    largest = max(np.abs(gradient).max(), np.abs(error.mean(axis=0)).max())
    return bool(largest <= _STANDSTILL * features.tolerance)


def fit_adam(
    x: np.ndarray, y: np.ndarray, *, lr: float, iterations: int, batch_size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The training of the notebooks: Adam, batches drawn with replacement, Glorot uniform weights, unscaled features.

    Rows farther from 0 than ten times their spread are shifted so that their median is 0. Adam would learn nothing from
    the original rows, and float32 would lose most of their digits.

    Returns W (C, d) and b (C,), with C = max(y) + 1.
    """
    import torch

    shift = np.median(x, axis=0).astype(np.float64)
    spread = float(np.median(np.square(x - shift).sum(axis=1)))
    if np.square(shift).sum() <= _FAR_FROM_ZERO**2 * spread:
        shift = np.zeros_like(shift)
    generator = torch.Generator().manual_seed(seed)
    features = torch.tensor(x - shift if shift.any() else x, dtype=torch.float32)
    targets = torch.from_numpy(y)
    # skip_init: the initial weights, which are overwritten below, would use the caller's generator.
    layer = torch.nn.utils.skip_init(torch.nn.Linear, x.shape[1], int(y.max()) + 1)  # type: ignore[no-untyped-call]
    torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True)
    with threads(1):  # the products are so small that more threads would be slower
        for _ in range(iterations):
            rows = torch.randint(len(features), (batch_size,), generator=generator)
            loss = torch.nn.functional.cross_entropy(layer(features[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    W, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return W, b - W @ shift
