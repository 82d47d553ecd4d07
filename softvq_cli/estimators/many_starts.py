"""The K-means of ``softvq cluster`` as a scikit-learn clusterer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from softvq_cli.evaluation.clustering import cluster
from softvq_cli.ranges import check_seed
from softvq_cli.words import Init


def seed_of(random_state: Any, seed: Any) -> int:
    """A whole number as it is, ``seed`` for None, and a draw from a ``RandomState`` (ValueError: neither)."""
    if random_state is None:
        return check_seed(seed)
    if isinstance(random_state, int | np.integer):
        return check_seed(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


class KMeansManyStarts(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """K-means from many starts, of which the one with the lowest inertia is kept; see ``cluster``.

    Args:
        n_clusters: K.
        n_init: number of starts.
        init: ``k-means++`` or ``random`` rows.
        random_state: of the starts: a seed, a ``RandomState`` to draw one from, or None for 0.
        n_jobs: groups of starts side by side; None for one a core. The result does not depend on it.

    Attributes:
        labels_: int64 (N,), the cluster of each row that was fitted. Where a start ended because its centres hardly
            moved, a few rows between two clusters may be nearer to the other one of ``cluster_centers_``.
        cluster_centers_: (K, d), the means of the clusters; fewer than K where X has fewer different rows.
        inertia_: sum of the squared distances to the centres.
        inertias_: float64 (n_init,), of every start.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_init: int = 100,
        init: Init = "k-means++",
        random_state: Any = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.init = init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> KMeansManyStarts:
        """Cluster the rows of X (N, d); ``y`` is ignored.

        Raises:
            ValueError: X is no table of finite numbers, has fewer rows than clusters, or an argument is out of range.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        options: dict[str, Any] = {"clusters": self.n_clusters, "n_init": self.n_init, "init": self.init}
        options |= {"seed": seed_of(self.random_state, 0), "jobs": self.n_jobs}
        clustering = cluster(X, **options, silhouette=False)
        used, self.labels_ = np.unique(clustering.assignments, return_inverse=True)
        for note in clustering.notes:
            warnings.warn(note, ConvergenceWarning, stacklevel=2)
        means = [X[self.labels_ == k].mean(axis=0, dtype=np.float64) for k in range(len(used))]
        self.cluster_centers_ = np.array(means, X.dtype)
        self.inertia_, self.inertias_ = clustering.inertia, clustering.inertias
        return self

    def predict(self, X: Any) -> np.ndarray:
        """int64 (N,): the cluster whose centre is nearest to each row."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        nearest: np.ndarray = pairwise_distances_argmin(X, self.cluster_centers_.astype(X.dtype))
        return nearest.astype(np.int64)
