"""Nearest rows, rows that are alone, similar pairs and typical rows, against plain NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from softvq_cli.errors import UsageError
from softvq_cli.evaluation.quality import distance_to_centre, nearest_rows


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


def all_distances(z: np.ndarray) -> np.ndarray:
    difference = z[:, None].astype(np.float64) - z[None].astype(np.float64)
    distances = np.sqrt(np.square(difference).sum(axis=2))
    np.fill_diagonal(distances, np.inf)  # a row is no neighbour of its own
    return distances


def test_the_nearest_rows_are_those_of_all_distances(z):
    found = nearest_rows(z, 4)
    distances = all_distances(z)
    order = np.argsort(distances, axis=1)[:, :4]
    assert (found.rows == order).all()
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, order, axis=1), rtol=1e-5)


def test_equal_rows_are_neighbours_at_distance_0(z):
    z[7] = z[3]
    found = nearest_rows(z, 2)
    assert (found.rows[3, 0], found.rows[7, 0]) == (7, 3)
    assert found.distances[3, 0] == found.distances[7, 0] == 0


def test_far_from_zero_the_neighbours_are_the_same(z):
    assert (nearest_rows(z.astype(np.float64) + 1e7, 3).rows == nearest_rows(z, 3).rows).all()


def test_few_rows_have_all_others_as_neighbours():
    found = nearest_rows(np.array([[0.0], [1.0], [3.0]]), 8)
    assert found.rows.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert found.loneliness(5).tolist() == [3, 2, 3]


@pytest.mark.parametrize(("rows", "k"), [(1, 3), (5, 0)])
def test_no_neighbours_can_be_asked_for_where_there_are_none(rows, k):
    with pytest.raises(UsageError):
        nearest_rows(np.zeros((rows, 2)), k)


def test_loneliness_finds_two_odd_rows_that_have_each_other():
    z = np.random.default_rng(0).normal(size=(50, 2))
    z[[11, 12]] = [[40, 40], [40, 40.1]]
    found = nearest_rows(z, 8)
    assert set(np.argsort(found.loneliness(5))[-2:]) == {11, 12}
    assert set(np.argsort(found.loneliness(1))[-2:]) != {11, 12}


def test_the_distance_to_the_centre_is_that_to_the_mean_of_the_cluster(z):
    assignments = np.array([4, 9, 2])[np.arange(60) % 3]
    found = distance_to_centre(z, assignments)
    for c in (2, 4, 9):
        mine = z[assignments == c].astype(np.float64)
        np.testing.assert_allclose(found[assignments == c], np.linalg.norm(mine - mine.mean(axis=0), axis=1))


@pytest.mark.parametrize("n", [300, 1500])  # of fewer than 1024 a thread, scikit-learn's own search depends on them
def test_which_of_equally_far_rows_are_the_nearest_does_not_depend_on_the_threads(n):
    grid = np.random.default_rng(0).integers(0, 3, (n, 4)).astype(np.float32)
    one, two = (nearest_rows(grid, 10, jobs=jobs) for jobs in (1, 2))
    assert (one.rows == two.rows).all()
    assert (one.distances == two.distances).all()
