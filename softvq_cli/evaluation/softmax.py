"""Fitting one softmax layer: the optimum by L-BFGS, and the notebooks' training by Adam."""

from __future__ import annotations

import warnings

import numpy as np


def fit_lbfgs(x: np.ndarray, y: np.ndarray, *, l2: float = 0.0) -> tuple[np.ndarray, np.ndarray, bool]:
    """The optimum of mean cross-entropy + l2 ‖W'‖² / 2, in float64; W' are the weights of standardised features.

    Features of unit variance are what makes it converge; without a penalty they change nothing else.

    Args:
        x: (N, d).
        y: int (N,), indices of classes; those that do not occur are never predicted.
        l2: weight of the penalty.

    Returns:
        W (C, d) and b (C,) for the features as they are, with C = max(y) + 1, and whether the gradient came down
        to the tolerance, 1e-4 in every component: a tenth of it changes no accuracy and takes three times as long.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    shift, scale = _standardisation(x)
    standard = np.subtract(x, shift, dtype=np.float64)  # the one copy: raw pixels in float64 are large
    standard /= scale
    binary = len(np.unique(y)) == 2  # scikit-learn fits w = W_1 - W_0 then, and ‖W‖² = ‖w‖² / 2
    strength = l2 * len(x) / (2 if binary else 1)
    model = LogisticRegression(C=1 / strength if strength > 0 else np.inf, tol=1e-4, max_iter=2000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(standard, y)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coef, intercept = model.coef_, model.intercept_
    if binary:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    W, b = np.zeros((y.max() + 1, x.shape[1])), np.full(y.max() + 1, -np.inf)
    W[model.classes_] = coef / scale
    b[model.classes_] = intercept - (coef / scale) @ shift
    return W, b, converged


def fit_adam(
    x: np.ndarray, y: np.ndarray, *, lr: float, iterations: int, batch_size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The notebooks' training: Adam on batches drawn with replacement, Glorot uniform weights, features as they are.

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

    generator = torch.Generator().manual_seed(seed)
    features, targets = torch.tensor(x, dtype=torch.float32), torch.from_numpy(y)
    # skip_init, or the weights that are overwritten below would be drawn from the caller's generator.
    layer = torch.nn.utils.skip_init(torch.nn.Linear, x.shape[1], int(y.max()) + 1)  # type: ignore[no-untyped-call]
    torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the products are so small that threads only wait for each other
    try:
        for _ in range(iterations):
            rows = torch.randint(len(features), (batch_size,), generator=generator)
            loss = torch.nn.functional.cross_entropy(layer(features[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def _standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column in float64; 1 for a column that does not vary."""
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, 1.0)
