"""Clusters by other models than K-means: a mixture of Gaussians, and merging (agglomerative, Ward)."""

from __future__ import annotations

import warnings

import numpy as np

MOST_MIXTURES = 10
"""Starts of EM beside the one from K-means; each costs many of K-means."""
MOST_PAIRS = 20_000
"""Rows of which all pairs are kept for merging, 8 bytes each; from more, only near rows are merged."""
FARTHEST = 1e12
"""Standard deviations, of a row beside which those of the others can still be computed."""
GRAPH = 15
"""Neighbours of a row that it can be merged with then."""


def scaled_within(z: np.ndarray, assignments: np.ndarray) -> np.ndarray:
    """float64 (N, d): ``z``, which has far rows, with about unit variance within its clusters.

    Rows farther than 1e12 of that come nearer, as no covariance can be told beside them.
    """
    _, index = np.unique(assignments, return_inverse=True)
    centres = np.stack([z[index == k].mean(axis=0) for k in range(index.max() + 1)])
    variance = np.median(np.square(z - centres[index]).sum(axis=1)) / z.shape[1]
    z = z / (np.sqrt(variance) or 1.0)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    return np.asarray(z * np.minimum(1.0, FARTHEST / np.maximum(norms, FARTHEST)))


def gaussian_mixture(z: np.ndarray, assignments: np.ndarray, clusters: int, starts: int, seed: int) -> np.ndarray:
    """The most probable component of each row in the likeliest of several mixtures.

    One is where EM ends from the clusters that K-means found, the others from rows drawn as in k-means++: K-means cuts
    across long clusters, and EM does not leave what it begins with.

    Args:
        z: float64 (N, d); one scale for all columns, near unit variance, since covariances get 1e-6 added.
        assignments: int (N,), 0 … clusters - 1, of K-means.
        clusters: components, each with a full covariance.
        starts: number of the others.
        seed: of their rows.

    Returns:
        int64 (N,).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    d = z.shape[1]
    counts = np.bincount(assignments, minlength=clusters)
    means, precisions = np.zeros((clusters, d)), np.empty((clusters, d, d))
    for k in range(clusters):
        rows = z[assignments == k]
        means[k] = rows.mean(axis=0) if len(rows) else z[k % len(z)]
        centred = rows - means[k]
        precisions[k] = np.linalg.inv(centred.T @ centred / max(1, len(rows)) + 1e-6 * np.eye(d))
    mixture = GaussianMixture(
        clusters,
        weights_init=(counts + 1e-3) / (counts + 1e-3).sum(),
        means_init=means,
        precisions_init=(precisions + precisions.transpose(0, 2, 1)) / 2,
        init_params="random_from_data",  # of which nothing is left, since all three are given
        max_iter=500,
        random_state=0,
    )
    drawn = GaussianMixture(
        clusters, n_init=starts, init_params="k-means++", max_iter=500, random_state=np.random.RandomState(seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = max((mixture.fit(z), drawn.fit(z)), key=lambda fitted: fitted.lower_bound_)
    return np.asarray(best.predict(z), dtype=np.int64)


def merged(z: np.ndarray, clusters: int) -> np.ndarray:
    """Ward's merging: the two clusters whose union has the least variance more, until ``clusters`` are left.

    Args:
        z: float64 (N, d). From MOST_PAIRS rows on only clusters that a graph of near rows connects are merged.
        clusters: how many.

    Returns:
        int64 (N,).
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(z, GRAPH) if len(z) > MOST_PAIRS else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the number of connected components")  # it connects them then
        found = AgglomerativeClustering(clusters, linkage="ward", connectivity=near).fit_predict(z)
    return np.asarray(found, dtype=np.int64)
