"""Latents of both splits → the figures of the tables, by name (see :data:`softvq_cli.experiments.tables.MEASURES`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.experiments.tables import BASIC, FEW_LABELS, PROBES

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.evaluation.clustering import Clustering
    from softvq_cli.evaluation.maps import MapQuality
    from softvq_cli.model import Autoencoder

NEIGHBOURS = 5
"""Of the k-nearest-neighbour probe."""


@dataclass(frozen=True)
class Latents:
    """What an encoder makes of both splits."""

    train: np.ndarray
    """float32 (N, d)."""
    train_labels: np.ndarray
    """int64 (N,)."""
    test: np.ndarray
    """float32 (M, d)."""
    test_labels: np.ndarray
    """int64 (M,)."""


def labels_of(dataset: Dataset) -> np.ndarray:
    """int64 (N,).

    Raises:
        InputError: the data set has none.
    """
    if dataset.labels is None:
        raise InputError(f"{dataset.name} has no labels, and a comparison needs them: use data with class folders")
    return dataset.labels


def latents(model: Autoencoder, train: Dataset, test: Dataset, what: str = "z_e") -> Latents:
    """A representation (see :func:`softvq_cli.model.represent`) of both splits, in memory."""
    from softvq_cli.model import represent

    rows = [represent(model, split.images, what) for split in (train, test)]
    return Latents(rows[0], labels_of(train), rows[1], labels_of(test))


def agreement(found: Latents, *, jobs: int) -> dict[str, float]:
    """The paper's evaluation: K-means on the test rows, 100 starts, and the softmax probe; and the starts' spread."""
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.probe import probe

    clustering = cluster(found.test, found.test_labels, jobs=jobs)
    assert clustering.accuracies is not None  # it has labels
    fitted = probe(found.train, found.train_labels, found.test, found.test_labels)
    low, median, high = np.quantile(clustering.accuracies, [0.0, 0.5, 1.0]).tolist()
    return {
        **{name: clustering.as_dict()[f"{name.removeprefix('clustering_')}"] for name in _CLUSTERING},
        "probe_accuracy": fitted.accuracy,
        "probe_converged": float(fitted.method["converged"]),
        "starts_min": low,
        "starts_median": median,
        "starts_max": high,
    }


_CLUSTERING = ("clustering_accuracy", "nmi", "ari")


def other_probes(found: Latents, *, jobs: int) -> dict[str, float]:
    """The softmax probe as the notebooks train it, nearest neighbours, and few labels where the classes have them."""
    from softvq_cli.evaluation.neighbours import neighbours
    from softvq_cli.evaluation.probe import few_labels, probe

    parts = (found.train, found.train_labels, found.test, found.test_labels)
    figures = {
        "probe_adam_accuracy": probe(*parts, solver="adam").accuracy,
        "knn_accuracy": neighbours(*parts, k=NEIGHBOURS, jobs=jobs).accuracy,
    }
    rarest = int(np.unique(found.train_labels, return_counts=True)[1].min())
    for n in FEW_LABELS:
        if n <= rarest:
            figures[f"probe_{n}_accuracy"] = few_labels(*parts, labels_per_class=n).accuracy.mean
    return figures


@dataclass(frozen=True)
class OnMap:
    """The rows' t-SNE map, its clusters, and what it keeps."""

    coordinates: np.ndarray
    """float64 (N, 2)."""
    perplexity: float
    clustering: Clustering
    quality: MapQuality

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the coordinates are left out."""
        found = {"clustering": self.clustering.as_dict(), "quality": self.quality.as_dict()}
        return {"perplexity": self.perplexity, **found}


def on_map(z: np.ndarray, labels: np.ndarray | None, *, jobs: int | None = None, **clustering: Any) -> OnMap:
    """Cluster a two-dimensional t-SNE of the rows in their place ("manifold clustering", McConville et al. 2019).

    Args:
        z: (N, d), at least 22 rows.
        labels: int64 (N,), or None.
        jobs: threads; the result does not depend on them.
        clustering: for :func:`softvq_cli.evaluation.clustering.cluster`; its ``seed`` is also that of the map.

    Raises:
        InputError: too few rows.
        UsageError: as clustering does.
    """
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.maps import quality, tsne
    from softvq_cli.pipeline.maps import perplexity_for

    perplexity = perplexity_for(len(z))
    coordinates = tsne(z, perplexity=perplexity, seed=clustering.get("seed", 0), jobs=jobs)
    found = cluster(coordinates, labels, jobs=jobs, **clustering)
    return OnMap(coordinates, perplexity, found, quality(z, coordinates, jobs=jobs))


def map_figures(found: OnMap) -> dict[str, float]:
    """The figures of a labelled map."""
    assert found.clustering.accuracy is not None and found.clustering.nmi is not None  # it has labels
    return {
        "map_clustering_accuracy": found.clustering.accuracy,
        "map_nmi": found.clustering.nmi,
        "trustworthiness": found.quality.trustworthiness,
        "knn_recall": found.quality.knn_recall,
    }


def rows_figures(found: Latents, part: str, *, jobs: int) -> dict[str, float]:
    """The figures of the parts BASIC and PROBES that any rows have."""
    return {BASIC: agreement, PROBES: other_probes}[part](found, jobs=jobs)
