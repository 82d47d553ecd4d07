"""Statistics over repeated trainings: means with intervals, paired differences, variance components, agreement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from softvq_cli.errors import InputError

CONFIDENCE = 0.95
"""Confidence level of intervals."""
_DRAWS = 10_000
"""Number of bootstrap samples."""
FEWEST = 3
"""Minimum number of values for a standard deviation to be shown."""


@dataclass(frozen=True)
class Summary:
    """A summary of some values."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1 in the denominator); None for one value."""
    n: int
    low: float
    high: float
    values: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        document = {"mean": self.mean, "std": self.std, "n": self.n, "min": self.low, "max": self.high}
        return {**document, "values": list(self.values)}


def summary(values: Sequence[float] | np.ndarray) -> Summary:
    """Mean, sample standard deviation and range of at least one finite value."""
    x = _finite(values)
    std = float(x.std(ddof=1)) if len(x) > 1 else None
    return Summary(float(x.mean()), std, len(x), float(x.min()), float(x.max()), tuple(x.tolist()))


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a - b with a confidence interval."""

    mean: float
    low: float | None
    """None for one pair, because its spread is unknown; so are the next two."""
    high: float | None
    p: float | None
    """Two-sided p value of the null hypothesis of no difference."""
    n: int
    confidence: float = CONFIDENCE

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def paired_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> PairedDifference:
    """The mean of a_i − b_i, where a_i and b_i have the same seed, with the interval of Student's t test."""
    if len(a) != len(b):
        raise InputError(f"{len(a)} values cannot be paired with {len(b)}")
    d = _finite(a) - _finite(b)
    n, mean = len(d), float(d.mean())
    if n == 1:
        return PairedDifference(mean, None, None, None, n)
    return _t_test(mean, float(d.std(ddof=1) / np.sqrt(n)), n - 1, n)


def welch_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> PairedDifference | None:
    """The same for independent samples with unequal variances, by Welch's t test; None if either has a single value.

    If values of the same seed are not correlated, pairing them only costs degrees of freedom.
    """
    x, y = _finite(a), _finite(b)
    if len(x) < 2 or len(y) < 2:
        return None
    parts = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    squares = parts[0] ** 2 / (len(x) - 1) + parts[1] ** 2 / (len(y) - 1)
    freedom = sum(parts) ** 2 / squares if squares else 1.0
    return _t_test(float(x.mean() - y.mean()), sum(parts) ** 0.5, freedom, len(x))


def _t_test(mean: float, error: float, freedom: float, n: int) -> PairedDifference:
    """The confidence interval of a mean with this standard error, and the p value of mean 0."""
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    t = abs(mean) / error if error > 0 else np.inf if mean else 0.0
    return PairedDifference(mean, mean - half, mean + half, float(2 * stats.t.sf(t, freedom)), n)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of several p values, in the given order, for tests selected after seeing the data."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


@dataclass(frozen=True)
class Components:
    """The variance components of a measure that is computed from many starts for each training."""

    seeds: float
    """Standard deviation between trainings, of the expected value over starts."""
    seeds_low: float
    """Lower bound of the 95 % confidence interval of ``seeds`` (with ``seeds_high``); wide for few trainings."""
    seeds_high: float
    starts: float
    """Standard deviation between the starts of one training."""


def variance_components(means: Sequence[float], stds: Sequence[float], starts: int) -> Components:
    """The standard deviations σ_seed and σ_start of a one-way random-effects model.

    σ_start² is the mean variance within trainings. σ_seed² is the variance of their means minus σ_start² / n, the part
    due to the finite number of starts n, or 0 if that is larger (Searle, Casella and McCulloch 1992, section 3.6). The
    interval is that of the variance of the means (χ² with one degree of freedom less than trainings), minus the same.
    ``means`` and sample standard deviations ``stds`` are those of the ``starts`` of each training.
    """
    from scipy import stats

    if len(means) != len(stds) or len(means) < 2:
        raise InputError("variance components need the mean and the standard deviation of two trainings or more")
    within = float((_finite(stds) ** 2).mean())
    variance, freedom = float(_finite(means).var(ddof=1)), len(means) - 1
    low, high = (freedom * variance / float(stats.chi2.isf((1 + side * CONFIDENCE) / 2, freedom)) for side in (-1, 1))
    seeds, low, high = (max(0.0, total - within / starts) ** 0.5 for total in (variance, low, high))
    return Components(seeds, low, high, within**0.5)


def hierarchical_bootstrap(
    groups: Sequence[Sequence[float] | np.ndarray],
    scores: Sequence[Sequence[float] | np.ndarray] | None = None,
) -> tuple[float, float]:
    """Percentile interval of a mean over trainings that vary by seed, each with starts that vary too.

    Each bootstrap sample draws as many trainings as there are, with replacement, and as many starts of each (Davison
    and Hinkley 1997, section 3.8). ``groups`` has the values of all starts of each training. With ``scores``, the value
    of a training is that of the drawn start with the lowest score, as K-means reports the start with the lowest
    inertia; without, it is the mean. For one training, the interval covers only its starts.
    """
    values = [_finite(group) for group in groups]
    if not values or (scores is not None and list(map(len, scores)) != list(map(len, values))):
        raise InputError("a bootstrap needs a training at least, and a score for each of its values or none at all")
    rng, n = np.random.default_rng(0), len(values)
    chosen = rng.integers(n, size=(_DRAWS, n))
    drawn = np.empty((_DRAWS, n))
    for g, group in enumerate(values):
        where = chosen == g
        starts = rng.integers(len(group), size=(int(where.sum()), len(group)))
        if scores is None:
            drawn[where] = group[starts].mean(axis=1)
        else:  # in the order of the scores, so that the first drawn start is the best
            drawn[where] = group[np.argsort(scores[g], kind="stable")][starts.min(axis=1)]
    return _percentiles(drawn.mean(axis=1))


def stability(assignments: Sequence[np.ndarray]) -> Summary:
    """Adjusted Rand indices of all pairs of clusterings, int (N,), of the same rows; 1 means identical."""
    from sklearn.metrics import adjusted_rand_score

    if len(assignments) < 2:
        raise InputError(f"{len(assignments)} clustering has none to agree with: give two or more")
    if len({len(each) for each in assignments}) > 1:
        raise InputError("clusterings of different numbers of rows cannot be compared")
    return summary([float(adjusted_rand_score(a, b)) for a, b in itertools.combinations(assignments, 2)])


def pair_bootstrap(pairs: Sequence[float], n: int) -> tuple[float, float] | None:
    """Percentile interval of a mean over all pairs of ``n`` trainings; each bootstrap sample draws n with replacement.

    ``pairs`` are in the order of itertools.combinations. A training drawn twice does not form a pair with itself. The
    result is None for two trainings, which have only one pair.
    """
    if len(pairs) != n * (n - 1) // 2:
        raise InputError(f"{n} trainings have not {len(pairs)} pairs")
    if n < FEWEST:
        return None
    drawn = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=_DRAWS)
    first, second = np.triu_indices(n, 1)
    weights = drawn[:, first] * drawn[:, second]
    weights = weights[weights.any(axis=1)]  # a sample of one training n times has no pairs
    return _percentiles(weights @ _finite(pairs) / weights.sum(axis=1))


def _percentiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Convert to float64 (n,)."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise InputError("statistics need at least one value, and finite ones")
    return x
