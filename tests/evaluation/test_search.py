"""Nearest rows, by scikit-learn and by products, compared with all distances in float64."""

from __future__ import annotations

import numpy as np
import pytest

from softvq_cli.errors import UsageError
from softvq_cli.evaluation import search

RANDOM = np.random.default_rng(0)
SPREAD = RANDOM.normal(size=(2000, 24)) * np.geomspace(5, 0.1, 24)
CLUSTERED = RANDOM.normal(size=(40, 24))[RANDOM.integers(40, size=2000)] * 9 + RANDOM.normal(size=(2000, 24))
COPIES = np.concatenate([SPREAD[:800], SPREAD[:800], CLUSTERED[:200], np.zeros((200, 24))])
GRID = RANDOM.integers(0, 3, (1500, 4)).astype(np.float32)


@pytest.fixture(params=["scikit-learn", "products"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select the search; products for any number of rows, with several tiles."""
    if request.param == "products":
        monkeypatch.setattr(search, "_MANY_PAIRS", 0)
        monkeypatch.setattr(search, "_TILE", 900)
    return str(request.param)


def distances_of(z: np.ndarray, queries: np.ndarray | None) -> np.ndarray:
    rows = z.astype(np.float64)
    targets = rows if queries is None else queries
    distances = np.stack([np.sqrt(np.square(rows - row).sum(axis=1)) for row in targets])
    if queries is None:
        np.fill_diagonal(distances, np.inf)  # a row is no neighbour of its own
    return distances


@pytest.mark.parametrize("queries", [None, RANDOM.normal(size=(300, 24)) * 3])
@pytest.mark.parametrize("z", [SPREAD, CLUSTERED + 1e3, SPREAD.astype(np.float32), COPIES])
@pytest.mark.parametrize("k", [1, 5])
def test_the_nearest_rows_are_those_of_all_distances(
    z: np.ndarray, queries: np.ndarray | None, k: int, way: str
) -> None:
    distances, rows = search.nearest(z, k, queries=queries)
    exact = distances_of(z, queries)
    order = np.argsort(exact, axis=1)[:, :k]
    np.testing.assert_allclose(distances, np.take_along_axis(exact, order, axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, rows, axis=1), rtol=1e-6, atol=1e-6)
    assert (rows == order).all() or z is not SPREAD  # copies and other rows at one distance in any order


def test_the_number_of_threads_changes_no_byte(way: str) -> None:
    for z in (COPIES, GRID):  # of fewer than 1024 a thread, scikit-learn's own search depends on them
        one, two = (search.nearest(z, 10, jobs=jobs) for jobs in (1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_few_rows_have_all_others_as_neighbours(way: str) -> None:
    distances, rows = search.nearest(np.array([[0.0], [1.0], [3.0]]), 8)
    assert rows.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert distances.tolist() == [[1, 3], [1, 2], [2, 3]]


@pytest.mark.parametrize(("rows", "k"), [(1, 3), (5, 0)])
def test_no_neighbours_can_be_asked_for_where_there_are_none(rows: int, k: int) -> None:
    with pytest.raises(UsageError):
        search.nearest(np.zeros((rows, 2)), k)


def test_nearly_all_of_the_nearest_rows_are_found_and_the_seed_decides() -> None:
    found, again = (search.nearly_nearest(SPREAD.astype(np.float32), 30, seed=0) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    exact = search.nearest(SPREAD, 30)[1]
    recall = np.mean([len(set(a) & set(b)) / 30 for a, b in zip(found[1], exact, strict=True)])
    assert recall > 0.9 and (found[1] != np.arange(2000)[:, None]).all()
