"""Fitting one softmax layer: the optimum by L-BFGS, and the notebooks' training by Adam."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.devices import threads
from softvq_cli.evaluation.rows import span

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_TOLERANCE = 1e-4
"""Of each component of the gradient."""
_STANDSTILL = 10
"""Times the tolerance: where the gradient may be when rounding lets the loss fall no more."""
_ROWS_A_FEATURE = 50
"""From so many on the features are whitened: too many to be separated by chance."""
_MANY_FEATURES = 512
"""From so many on, which are images, L-BFGS takes very long where they are correlated: fewer rows are whitened too."""
_SMALLEST = 1e-6
"""Of the largest variance: directions with less are not blown up to unit variance, but to this share of it."""
_WIDE = 1e5
"""The span of rows (see :func:`softvq_cli.evaluation.rows.span`) that unit variance does not serve."""
_FAR_FROM_ZERO = 10
"""Times their spread: rows that Adam does not learn from as they are."""
_FARTHEST = 1e12
"""Of a small norm: rows beyond are drawn to it."""


def fit_lbfgs(x: np.ndarray, y: np.ndarray, *, l2: float = 0.0) -> tuple[np.ndarray, np.ndarray, bool]:
    """The optimum of mean cross-entropy + l2 ‖W'‖² / 2, in float64; W' are the weights of standardised features.

    Features of unit variance are what makes it converge; without a penalty they change nothing else.

    Args:
        x: (N, d).
        y: int (N,), indices of classes; those that do not occur are never predicted.
        l2: weight of the penalty.

    Returns:
        W (C, d) and b (C,) for the features as they are, with C = max(y) + 1, and whether the gradient came down
        to the tolerance, 1e-4 in every component (a tenth of it changes no accuracy and takes three times as long),
        or stands within ten times it where rounding lets the loss fall no more.
    """
    from sklearn.linear_model import LogisticRegression

    classes = len(np.unique(y))
    binary = classes == 2  # scikit-learn fits w = W_1 - W_0 then, and ‖W‖² = ‖w‖² / 2
    strength = l2 * len(x) / (2 if binary else 1)
    model = LogisticRegression(C=1 / strength if strength > 0 else np.inf, max_iter=2000)
    features = _features(x, whiten=l2 == 0, classes=classes)
    converged = _converge(model, features, y)
    if features.tentative and model.score(features.rows, y) == 1:
        features = _features(x, whiten=l2 == 0)
        converged = _converge(model, features, y)
    coef, intercept = model.coef_, model.intercept_
    if binary:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    W, b = np.zeros((y.max() + 1, x.shape[1])), np.full(y.max() + 1, -np.inf)
    W[model.classes_] = coef if features.axes is None else coef @ features.axes.T
    W /= features.scale
    b[model.classes_] = intercept - (coef * features.offset).sum(axis=1) - W[model.classes_] @ features.shift
    return W, b, converged


def _converge(model: LogisticRegression, features: _Features, y: np.ndarray) -> bool:
    """Fit ``model``; whether the gradient came down to the tolerance.

    SciPy also calls it success when the loss stands still, as it does where a first step leads nowhere.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(tol=features.tolerance).fit(features.rows, y)
    error = model.predict_proba(features.rows)
    error[np.arange(len(y)), np.searchsorted(model.classes_, y)] -= 1
    gradient = (error.T @ features.rows / len(y))[-len(model.coef_) :] + model.coef_ / (model.C * len(y))
    largest = max(np.abs(gradient).max(), np.abs(error.mean(axis=0)).max())
    return bool(largest <= _STANDSTILL * features.tolerance)


def fit_adam(
    x: np.ndarray, y: np.ndarray, *, lr: float, iterations: int, batch_size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The notebooks' training: Adam on batches drawn with replacement, Glorot uniform weights, features as they are.

    Rows that lie farther from 0 than ten times their spread are moved so that their median is 0: Adam learns nothing
    of them where they are, and float32 has little of them.

    Args:
        x: (N, d).
        y: int (N,), indices of classes.
        lr: learning rate.
        iterations: number of updates.
        batch_size: rows an update.
        seed: of the weights and the batches.

    Returns:
        W (C, d) and b (C,), with C = max(y) + 1.
    """
    import torch

    shift = np.median(x, axis=0).astype(np.float64)
    spread = float(np.median(np.square(x - shift).sum(axis=1)))
    if np.square(shift).sum() <= _FAR_FROM_ZERO**2 * spread:
        shift = np.zeros_like(shift)
    generator = torch.Generator().manual_seed(seed)
    features = torch.tensor(x - shift if shift.any() else x, dtype=torch.float32)
    targets = torch.from_numpy(y)
    # skip_init, or the weights that are overwritten below would be drawn from the caller's generator.
    layer = torch.nn.utils.skip_init(torch.nn.Linear, x.shape[1], int(y.max()) + 1)  # type: ignore[no-untyped-call]
    torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True)
    with threads(1):  # the products are so small that threads only wait for each other
        for _ in range(iterations):
            rows = torch.randint(len(features), (batch_size,), generator=generator)
            loss = torch.nn.functional.cross_entropy(layer(features[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    W, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return W, b - W @ shift


@dataclass(frozen=True)
class _Features:
    """Rows on which L-BFGS converges, and the way back."""

    rows: np.ndarray
    """(N, d): ((x − shift) / scale) @ axes − offset; float64, or where there are axes float32, which is enough for
    unit variance and twice as fast."""
    shift: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None
    """(d, d); None for the identity."""
    tolerance: float
    """That brings the gradient for unit variance down to the one that is asked for."""
    offset: np.ndarray | float = 0.0
    """(d,): where most of the rows would be without it."""
    tentative: bool = False
    """Whitened although so few rows may be separated by chance; if they are, there is no optimum to come to sooner."""


def _features(x: np.ndarray, *, whiten: bool, classes: int | None = None) -> _Features:
    """Unit variance, and where there are enough rows or only that helps, no correlation.

    Correlated features are what L-BFGS takes long for: without them it needs a quarter of the iterations. The optimum
    is the same, but where a few rows can be separated there is none, and what is found then is better left as it was.
    With their number of ``classes``, wide rows are whitened as soon as not any labels could be separated.
    """
    n, d = x.shape
    whiten = whiten and d > 1
    shift, scale = _standardisation(x)
    if whiten:
        median = np.median(x, axis=0).astype(np.float64)
        if span(x, shift=median, scale=scale) > _WIDE:
            return _of_few_places(x, median)
    rows = np.subtract(x, shift, dtype=np.float64)  # the one copy: raw pixels in float64 are large
    rows /= scale
    many = n >= _ROWS_A_FEATURE * d
    tentative = not many and classes is not None and d >= _MANY_FEATURES and n >= classes * d
    if not (whiten and (many or tentative)):
        return _Features(rows, shift, scale, None, _TOLERANCE)
    variances, axes = np.linalg.eigh(rows.T @ rows / n)
    axes, tolerance = _to_unit_variance(axes, np.sqrt(np.maximum(variances, _SMALLEST * variances[-1])))
    return _Features((rows @ axes).astype(np.float32), shift, scale, axes, tolerance, tentative=tentative)


def _of_few_places(x: np.ndarray, median: np.ndarray) -> _Features:
    """Of rows that are near each other and far from others: unit variance would leave nothing to learn from.

    Centred where most of them are: in a direction in which they hardly differ, that is far from 0.
    """
    rows = _without_the_farthest(x - median)
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    rows /= scale
    deviations, axes = _principal(rows - rows.mean(axis=0))
    axes, tolerance = _to_unit_variance(axes, deviations)
    whitened = rows @ axes
    offset = np.median(whitened, axis=0)
    return _Features((whitened - offset).astype(np.float32), median, scale, axes, tolerance, offset)


def _to_unit_variance(axes: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, float]:
    """(axes that divide by the standard deviations along them, the smallest first; the tolerance then)."""
    positive = np.where(deviations > 0, deviations, 1.0)  # none is, of constant rows: a collapsed codebook's
    return axes / positive, _TOLERANCE / max(1.0, deviations[-1])


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(standard deviations, the smallest first; axes) of centred rows, without their squares, which have half the
    digits."""
    _, values, axes = np.linalg.svd(np.linalg.qr(rows)[1])
    values = np.maximum(values, 1e-15 * values[0])[::-1] / np.sqrt(len(rows))
    return np.pad(values, (len(axes) - len(values), 0), mode="edge"), axes.T[:, ::-1]


def _without_the_farthest(rows: np.ndarray) -> np.ndarray:
    """float64 ``rows`` of which those too far for any digit of the others to be kept beside them come nearer."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    most = _FARTHEST * np.quantile(norms[norms > 0], 0.1) if norms.any() else 1.0
    return np.asarray(rows * np.minimum(1.0, most / np.maximum(norms, most)))


def _standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column in float64; 1 for a column that does not vary."""
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    rounding = 1e-6 if x.dtype.itemsize <= 4 else 1e-14
    return mean, np.where(std > rounding * np.abs(mean), std, 1.0)
