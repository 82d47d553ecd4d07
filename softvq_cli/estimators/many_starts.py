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
    """The seed: an integer ``random_state``, ``seed`` for None, or a draw from a ``RandomState`` (else ValueError)."""
    if random_state is None:
        return check_seed(seed)
    if isinstance(random_state, int | np.integer):
        return check_seed(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


class KMeansManyStarts(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """K-means with many random starts; the one with the lowest inertia is kept. See ``cluster``.

    Args:
        n_clusters: number of clusters, K.
        n_init: number of starts.
        init: ``k-means++`` or ``random`` (random rows).
        random_state: seed of the starts, or a ``RandomState`` from which one is drawn; None means 0.
        n_jobs: number of parallel groups of starts; None: one per core. It does not change the result.

    Attributes:
        labels_: int64 (N,), the cluster of each row of X in ``fit``. If a start stopped because its centres hardly
            moved, a few rows near a border may be nearer to another centre in ``cluster_centers_``.
        cluster_centers_: (K, d), the means of the clusters; fewer than K if X has fewer distinct rows.
        inertia_: sum of the squared distances from each row to its centre.
        inertias_: float64 (n_init,), the inertia of every start.
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
            ValueError: X is not a table of finite numbers or has fewer rows than clusters; an argument is out of range.
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
        """The nearest centre of each row, int64 (N,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        nearest: np.ndarray = pairwise_distances_argmin(X, self.cluster_centers_.astype(X.dtype))
        return nearest.astype(np.int64)
