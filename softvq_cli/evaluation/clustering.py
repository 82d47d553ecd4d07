"""Cluster the latents by K-means or another method, and measure the agreement with the classes.

The paper's protocol: as many clusters as classes; 100 random starts, of which the one with the lowest inertia is kept;
accuracy by the best one-to-one assignment of clusters to classes, found by the Hungarian method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.errors import InputError, Message, UsageError, unknown_name
from softvq_cli.evaluation import kmeans
from softvq_cli.evaluation.statistics import Summary, summary
from softvq_cli.process import quiet
from softvq_cli.ranges import MOST_COUNT, check_jobs, check_number, check_seed
from softvq_cli.words import CLUSTER_METHODS, INITS, ClusterMethod, Init

GROUP = 10
"""Number of starts that share a matrix product. Its last bits depend on this number, so the groups are the same for any
number of cores."""
MOST_STARTS = 1_000_000
SILHOUETTE_ROWS = 5000
"""Maximum number of rows for the silhouette, which needs all pairwise distances; larger data are subsampled."""
FEW_ROWS = 3
"""With fewer rows per class or cluster, their agreement is largely due to chance."""
MOST_MIXTURES = 10
"""Maximum number of random EM starts (in addition to one from K-means); each takes as long as many K-means starts."""
MOST_PAIRS = 20_000
"""Maximum number of rows for exact merging, which stores all pairs, 8 bytes each; else only near rows are merged."""
GRAPH = 15
"""Number of neighbours of each row with which it can then be merged."""
_WHATEVER = "accuracy and NMI then do not depend on the latents"
N_INIT = 100
"""Number of K-means starts in the paper's protocol."""


@dataclass(frozen=True)
class Clustering:
    """The best K-means start, or the result of another method, and the spread of the K-means starts."""

    assignments: np.ndarray
    """int64 (N,), the cluster of each row."""
    inertia: float
    """Sum of the squared distances from each row to the centre of its cluster, for the best start."""
    clusters: int
    n_init: int
    n: int
    inertias: np.ndarray
    """float64 (n_init,): the inertia of every start, in order."""
    accuracy: float | None
    nmi: float | None
    ari: float | None
    accuracies: np.ndarray | None
    """float64 (n_init,): the accuracy of every K-means start; None for another method."""
    silhouette: float | None
    """Only without labels; None if it is not defined (one cluster, or as many clusters as rows)."""
    classes: int | None = None
    """Number of classes in the labels."""
    method: ClusterMethod = "kmeans"
    projected_variance: float | None = None
    """Fraction of the variance in the principal components in which the starts first converged, if they did."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Reasons why the measures are less reliable than they seem, one line each."""
        notes, used = [], len(np.unique(self.assignments))
        if self.method == "kmeans" and used < self.clusters:
            notes.append(f"there are only {used} different rows for {self.clusters} clusters")
        if self.classes == 1:
            notes.append("all labels are the same: accuracy, NMI and ARI are meaningless")
        elif self.classes == self.n:
            notes.append(f"each of the {self.n} rows has its own class: {_WHATEVER}")
        elif self.classes and self.clusters == self.n:
            notes.append(f"there are as many clusters as rows, {self.n}: {_WHATEVER}")
        elif self.classes and self.n < FEW_ROWS * max(self.classes, self.clusters):
            rows = f"{self.n / max(self.classes, self.clusters):.1f} rows per class or cluster"
            notes.append(f"there are only {rows}: accuracy and NMI are high by chance")
        return tuple(notes)

    @property
    def spread(self) -> dict[str, Summary]:
        """Mean, standard deviation and range over the starts."""
        measures = {"clustering_accuracy": self.accuracies, "inertia": self.inertias}
        return {name: summary(values) for name, values in measures.items() if values is not None}

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the assignments."""
        document: dict[str, Any] = {"clustering_accuracy": self.accuracy, "nmi": self.nmi, "ari": self.ari}
        if self.accuracy is None:
            document = {"silhouette": self.silhouette}
        document |= {"inertia": self.inertia, "clusters": self.clusters}
        if self.method != "kmeans":
            document["method"] = self.method
        document |= {"n_init": self.n_init, "n": self.n}
        if self.projected_variance is not None:
            document["principal_components"] = {"n": kmeans.COMPONENTS, "variance": self.projected_variance}
        return {**document, "starts": {name: summary.as_dict() for name, summary in self.spread.items()}}


@evaluation_threads()
def cluster(
    z: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    clusters: int | None = None,
    n_init: int = N_INIT,
    init: Init = "k-means++",
    method: ClusterMethod = "kmeans",
    seed: int = 0,
    jobs: int | None = None,
    silhouette: bool = True,
) -> Clustering:
    """Cluster the rows of ``z`` by K-means and keep the start with the lowest inertia.

    The other methods are scikit-learn's. "gmm" is a mixture of Gaussians with full covariances: the most likely of one
    started from the K-means result and up to ten random starts. "agglomerative" merges clusters by Ward's criterion.

    Start i has its own generator, seeded with ``seed`` and i, and each group of starts runs on one thread. Therefore
    the result depends neither on ``jobs`` nor on the order in which groups finish. Of equal inertias, the lower i wins.

    ``z`` is (N, d), finite; ``labels`` int (N,), any integers. The default for ``clusters`` is the number of classes.
    Without labels, the ``silhouette`` is computed instead, from distances between rows.
    """
    clusters = _number_of_clusters(z, labels, clusters)
    n_init = int(check_number("n_init", n_init, low=1, high=MOST_STARTS))
    seed, jobs = check_seed(seed), check_jobs(jobs)
    for name, word, words in (("init", init, INITS), ("method", method, CLUSTER_METHODS)):
        if word not in words:
            raise UsageError(unknown_name(name, word, words))
    if method == "agglomerative":
        n_init = 1

    z = np.asarray(z)
    if z.dtype.kind != "f":
        z = z.astype(np.float64)
    mean = z.mean(axis=0, dtype=np.float64)
    # K-means is invariant to scale. A power of two is exact, and avoids overflow of float32 squares.
    exponent = int(np.frexp(np.maximum(z.max(axis=0) - mean, mean - z.min(axis=0)).max())[1])
    rows = kmeans.Rows(z, clusters, exponent)
    low, variance = rows.principal(clusters) or (None, None)
    seeds = np.random.SeedSequence(seed).generate_state(n_init).tolist()
    inertias, accuracies, best = np.empty(n_init), np.empty(n_init), np.empty(0)
    for i, start in enumerate(_all_starts(rows, low, clusters, init, seeds, jobs)):
        if start.inertia < inertias[:i].min(initial=np.inf):
            best = start.labels
        inertias[i] = start.inertia
        if labels is not None:
            accuracies[i] = hungarian_accuracy(labels, start.labels)
    inertia = float(inertias.min())
    if method != "kmeans":
        best = _by_other_method(rows, method, best, clusters, seeds)
        inertia = float(np.ldexp(_inertia(rows.at(slice(None)), best), 2 * exponent))
    nmi, ari = (None, None) if labels is None else _agreement(labels, best)
    return Clustering(
        assignments=best.astype(np.int64),
        inertia=inertia,
        clusters=clusters,
        n_init=n_init,
        n=len(z),
        inertias=np.array([inertia]) if method == "agglomerative" else inertias,
        accuracy=None if labels is None else hungarian_accuracy(labels, best),
        nmi=nmi,
        ari=ari,
        accuracies=None if labels is None or method != "kmeans" else accuracies,
        silhouette=_silhouette(rows, best, seed) if labels is None and silhouette else None,
        classes=None if labels is None else len(np.unique(labels)),
        method=method,
        projected_variance=variance,
    )


def _number_of_clusters(z: np.ndarray, labels: np.ndarray | None, clusters: int | None) -> int:
    """``clusters``, or else the number of classes."""
    if labels is not None and len(labels) != len(z):
        raise InputError(f"{len(labels)} labels for {len(z)} rows: they must be equal in number")
    if clusters is None:
        if labels is None:
            raise UsageError(Message("without labels the number of clusters is unknown: give {clusters}"))
        clusters = len(np.unique(labels))
    clusters = int(check_number("clusters", clusters, low=1, high=MOST_COUNT))
    if len(z) < clusters:
        raise InputError("{} rows cannot form {} clusters: give more rows or a smaller {clusters}", len(z), clusters)
    return clusters


def hungarian_accuracy(labels: np.ndarray, assignments: np.ndarray) -> float:
    """Fraction of rows that are correct under the best one-to-one assignment of clusters to classes.

    With more clusters than classes, rows of unassigned clusters count as wrong; with fewer, those of such classes do.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(assignments, labels)
    pairs = linear_sum_assignment(table, maximize=True)
    return float(table[pairs].sum() / len(labels))


def _all_starts(
    rows: kmeans.Rows, low: kmeans.Rows | None, clusters: int, init: Init, seeds: Sequence[int], jobs: int | None
) -> Iterator[kmeans.Start]:
    """Run one start per seed, in order; groups of starts run in parallel, each group on one thread."""
    import joblib

    groups = [seeds[i : i + GROUP] for i in range(0, len(seeds), GROUP)]
    pool = joblib.Parallel(min(processors(jobs), len(groups)), backend="threading", return_as="generator")
    for starts in pool(joblib.delayed(kmeans.run)(rows, clusters, init, group, low) for group in groups):
        yield from starts


def _by_other_method(
    rows: kmeans.Rows, method: ClusterMethod, best: np.ndarray, clusters: int, seeds: Sequence[int]
) -> np.ndarray:
    """The clusters, int64 (N,); ``best`` is the K-means result, ``seeds`` are those of its starts."""
    if method == "gmm" and rows.wide:
        raise InputError(
            Message("some rows lie too far from the others for covariances: leave them out, or use {method} kmeans")
        )
    z = rows.at(slice(None))
    if not rows.wide:
        z = z / (np.sqrt(z.var(axis=0).mean()) or 1.0)
    if method == "agglomerative":
        return _merged(z, clusters)
    return _gaussian_mixture(z, best, clusters, min(len(seeds), MOST_MIXTURES), seeds[0])


def means(z: np.ndarray, assignments: np.ndarray, clusters: int) -> np.ndarray:
    """The mean of the rows of each cluster, float64 (clusters, d); NaN for empty clusters."""
    parts = (z[assignments == k] for k in range(clusters))
    return np.stack([p.mean(axis=0, dtype=np.float64) if len(p) else np.full(z.shape[1], np.nan) for p in parts])


def nearest_centre(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each row, int64 (N,), by differences in float64; never one with NaN."""
    from scipy.spatial.distance import cdist

    squares = (cdist(z[first : first + 4096], centres, "sqeuclidean") for first in range(0, len(z), 4096))
    return np.concatenate([np.where(np.isnan(part), np.inf, part).argmin(axis=1) for part in squares])


def _inertia(z: np.ndarray, assignments: np.ndarray) -> float:
    parts = (z[assignments == k] for k in np.unique(assignments))
    return sum(float(np.square(part - part.mean(axis=0)).sum()) for part in parts)


def _agreement(labels: np.ndarray, assignments: np.ndarray) -> tuple[float, float]:
    """(NMI with the arithmetic mean of the entropies, adjusted Rand index)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    nmi = normalized_mutual_info_score(labels, assignments, average_method="arithmetic")
    return float(nmi), float(adjusted_rand_score(labels, assignments))


def _silhouette(rows: kmeans.Rows, assignments: np.ndarray, seed: int) -> float | None:
    """Mean silhouette; of a sample if there are many rows."""
    from scipy.spatial.distance import cdist
    from sklearn.metrics import silhouette_score

    drawn: Any = slice(None)
    if rows.n > SILHOUETTE_ROWS:
        drawn = np.random.default_rng(seed).choice(rows.n, SILHOUETTE_ROWS, replace=False)
    z, assignments = rows.at(drawn), assignments[drawn]
    if not 2 <= len(np.unique(assignments)) < len(z):
        return None
    if rows.wide:
        return float(silhouette_score(cdist(z, z), assignments, metric="precomputed"))
    return float(silhouette_score(z, assignments))


def _gaussian_mixture(z: np.ndarray, assignments: np.ndarray, clusters: int, starts: int, seed: int) -> np.ndarray:
    """The most probable component of each row, in the most likely of several mixtures.

    One EM run starts from the K-means clusters, the others from rows drawn as in k-means++: K-means splits long
    clusters, and EM stays close to its initialisation.

    ``z`` is float64 (N, d), scaled by one factor to about unit variance, because 1e-6 is added to covariances;
    ``assignments`` are the K-means clusters; ``starts`` is the number of other runs, and ``seed`` draws their rows.
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
        init_params="random_from_data",  # has no effect, since all three parameters are given
        max_iter=500,
        random_state=0,
    )
    drawn = GaussianMixture(
        clusters, n_init=starts, init_params="k-means++", max_iter=500, random_state=np.random.RandomState(seed)
    )
    with quiet(ConvergenceWarning):
        best = max((mixture.fit(z), drawn.fit(z)), key=lambda fitted: fitted.lower_bound_)
    return np.asarray(best.predict(z), dtype=np.int64)


def _merged(z: np.ndarray, clusters: int) -> np.ndarray:
    """Ward's method: merge the two clusters whose union increases the variance least, until ``clusters`` remain.

    With more than MOST_PAIRS rows, only clusters connected by the neighbour graph are merged.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(z, GRAPH) if len(z) > MOST_PAIRS else None
    with quiet(UserWarning):  # about unconnected parts of the graph, which scikit-learn then connects
        merging = AgglomerativeClustering(clusters, linkage="ward", connectivity=near)
        return np.asarray(merging.fit_predict(z), dtype=np.int64)
