"""Means and paired differences, compared with scipy."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from softvq_cli.errors import InputError
from softvq_cli.evaluation.codes import purity
from softvq_cli.evaluation.statistics import (
    hierarchical_bootstrap,
    holm,
    pair_bootstrap,
    paired_difference,
    stability,
    summary,
    variance_components,
    welch_difference,
)

A = [77.1, 75.9, 78.3, 76.4]
B = [54.0, 52.2, 57.1, 53.9]


def test_summary_is_the_sample_s() -> None:
    found = summary(A)
    assert (found.mean, found.std, found.n) == (pytest.approx(np.mean(A)), pytest.approx(np.std(A, ddof=1)), 4)
    assert (found.low, found.high, found.values) == (75.9, 78.3, tuple(A))
    assert json.loads(json.dumps(found.as_dict()))["values"] == A


def test_what_has_no_spread_has_none_or_an_interval_of_no_width() -> None:
    assert summary([3.5]).std is None
    single, equal = paired_difference([3.5], [1.0]), paired_difference([2.0, 3.0], [1.0, 2.0])
    assert (single.mean, single.low, single.high, single.p, single.n) == (2.5, None, None, None, 1)
    assert (equal.low, equal.mean, equal.high, equal.p) == (1.0, 1.0, 1.0, 0.0)
    assert paired_difference(A, A).p == 1.0
    assert hierarchical_bootstrap([[0.5], [0.5]]) == (0.5, 0.5)
    assert variance_components([0.50, 0.51], [0.2, 0.2], 100).seeds == 0  # the starts explain more


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    found = paired_difference(A, B)
    reference = stats.ttest_rel(A, B)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, reference.pvalue))
    assert found.mean == pytest.approx(np.mean(A) - np.mean(B))
    assert found.as_dict()["confidence"] == 0.95


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (summary, ([],)),
        (summary, ([1.0, np.nan],)),
        (paired_difference, (A, B[:3])),
        (variance_components, ([0.5], [0.1], 100)),
        (hierarchical_bootstrap, ([],)),
        (hierarchical_bootstrap, ([A], [B[:3]])),
        (stability, ([np.zeros(3)],)),
        (stability, ([np.zeros(3), np.zeros(4)],)),
    ],
)
def test_what_has_no_statistics_is_refused(function: Any, values: Any) -> None:
    with pytest.raises(InputError):
        function(*values)


def test_the_interval_of_the_seeds_part_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    figures = 0.02 * rng.standard_normal((2000, 4, 1)) + 0.03 * rng.standard_normal((2000, 4, 100))
    found = [variance_components(f.mean(axis=1), f.std(axis=1, ddof=1), 100) for f in figures]
    held = np.mean([part.seeds_low <= 0.02 <= part.seeds_high for part in found])
    assert np.mean([part.starts**2 for part in found]) ** 0.5 == pytest.approx(0.03, rel=0.01)
    assert held == pytest.approx(0.95, abs=0.012)  # 2.5 standard errors of 2 000 draws
    means, stds = [0.50, 0.53, 0.49, 0.58], [0.0] * 4
    low, high = (np.var(means, ddof=1) * 3 / np.array([9.348404, 0.2157953])) ** 0.5  # a table's quantiles of χ², 3
    part = variance_components(means, stds, 100)
    assert (part.seeds_low, part.seeds_high) == pytest.approx((low, high))


def test_welchs_interval_is_scipys():
    a, b = [0.71, 0.74, 0.78, 0.69], [0.51, 0.62, 0.55]
    ours, theirs = welch_difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high, ours.p) == pytest.approx((interval.low, interval.high, theirs.pvalue))
    assert welch_difference(a, [0.5]) is None
    assert welch_difference([0.5, 0.5], [0.5, 0.5]).p == 1


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize("by_score", [False, True])
def test_the_hierarchical_bootstrap_is_that_of_plain_loops(by_score: bool) -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(centre, 0.3, size) for centre, size in ((0.0, 6), (1.0, 9), (0.4, 3))]
    scores = [rng.normal(size=len(group)) for group in groups]
    means = []
    for _ in range(4000):
        taken = []
        for g in rng.integers(3, size=3):
            starts = rng.integers(len(groups[g]), size=len(groups[g]))
            best = min(starts, key=lambda i: scores[g][i])
            taken.append(groups[g][best] if by_score else groups[g][starts].mean())
        means.append(np.mean(taken))
    found = hierarchical_bootstrap(groups, scores if by_score else None)
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.06)
    assert found == hierarchical_bootstrap(groups, scores if by_score else None)


def test_stability_is_the_rand_index_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(4, size=(2, 200))
    renamed, b = (one + 1) % 4, adjusted_rand_score(one, other)
    assert stability([one, renamed, other]).values == pytest.approx((1, b, b))


def test_the_interval_of_the_stability_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    n, agreement = 5, rng.uniform(0.2, 0.9, (5, 5))
    pairs = [agreement[i, j] for i, j in itertools.combinations(range(n), 2)]
    means = []
    while len(means) < 4000:
        drawn = sorted(rng.integers(n, size=n))
        of_pairs = [agreement[i, j] for i, j in itertools.combinations(drawn, 2) if i != j]
        means += [np.mean(of_pairs)] if of_pairs else []
    assert pair_bootstrap(pairs, n) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    assert pair_bootstrap([0.5], 2) is None
    with pytest.raises(InputError):
        pair_bootstrap([0.5], 3)


def test_the_purity_of_a_code_is_the_share_of_its_commonest_class() -> None:
    codes, labels = np.array([0, 0, 0, 2, 2, 3]), np.array([7, 7, -1, 7, -1, -1])
    assert purity(codes, labels) == pytest.approx(4 / 6)
