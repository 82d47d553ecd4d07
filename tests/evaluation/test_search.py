"""The search by cells, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from softvq_cli.evaluation import search

RANDOM = np.random.default_rng(0)
SPREAD = RANDOM.normal(size=(4000, 24)) * np.geomspace(5, 0.1, 24)
CLUSTERED = RANDOM.normal(size=(40, 24))[RANDOM.integers(40, size=4000)] * 9 + RANDOM.normal(size=(4000, 24))
COPIES = np.concatenate([SPREAD[:1500], SPREAD[:1500], CLUSTERED[:500], np.zeros((500, 24))])


@pytest.fixture(autouse=True)
def cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of rows, and several chunks of queries."""
    monkeypatch.setattr(search, "_MANY_PAIRS", 0)
    monkeypatch.setattr(search, "_CHUNK", 900)


@pytest.mark.parametrize("queries", [None, RANDOM.normal(size=(300, 24)) * 3])
@pytest.mark.parametrize("z", [SPREAD, CLUSTERED + 1e3, SPREAD.astype(np.float32), COPIES[:3500]])
@pytest.mark.parametrize("k", [1, 5])
def test_cells_find_the_nearest_rows(z: np.ndarray, queries: np.ndarray | None, k: int) -> None:
    distances, rows = search.nearest(z, k, queries=queries)
    reference = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(z.astype(np.float64))
    expected, indices = reference.kneighbors(queries)
    np.testing.assert_allclose(distances, expected, rtol=1e-6, atol=1e-9)
    assert np.mean(rows == indices) == 1 or z is not SPREAD  # copies and other rows at one distance in any order
    targets = z if queries is None else queries
    np.testing.assert_allclose(np.linalg.norm(z[rows] - targets[:, None], axis=2), distances, rtol=1e-6, atol=1e-4)
    if queries is None:
        assert not (rows == np.arange(len(z))[:, None]).any()


def test_the_number_of_threads_changes_no_byte() -> None:
    one, two = (search.nearest(COPIES, 3, jobs=jobs) for jobs in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_nearly_all_of_the_nearest_rows_are_found_and_the_seed_decides() -> None:
    found, again = (search.nearly_nearest(SPREAD.astype(np.float32), 30, seed=0) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    exact = search.nearest(SPREAD, 30)[1]
    recall = np.mean([len(set(a) & set(b)) / 30 for a, b in zip(found[1], exact, strict=True)])
    assert recall > 0.9 and (found[1] != np.arange(4000)[:, None]).all()
