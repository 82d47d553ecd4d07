"""Every measure of an evaluation, once: what it is called, and how it is taken of the latents of both splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.results.result import BASIC, PROBES

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.model import Autoencoder
    from softvq_cli.results.maps import OnMap


@dataclass(frozen=True)
class Measure:
    """One number of an evaluation."""

    title: str
    per_cent: bool = False
    """For people it is multiplied by 100; in JSON and CSV an accuracy is a fraction of 1."""
    digits: int = 4


def _accuracy(title: str) -> Measure:
    return Measure(title, per_cent=True, digits=2)


FEW_LABELS = (10, 100, 1000)
"""Labels a class of the probes on few labels."""
NEIGHBOURS = 5
"""Of the k-nearest-neighbour probe."""

MEASURES: Mapping[str, Measure] = {
    "clustering_accuracy": _accuracy("clustering"),
    "nmi": Measure("NMI"),
    "ari": Measure("ARI"),
    "probe_accuracy": _accuracy("classification"),
    "probe_converged": Measure("classification converged", digits=2),
    "starts_min": _accuracy("K-means starts, lowest"),
    "starts_median": _accuracy("median"),
    "starts_max": _accuracy("highest"),
    "starts_mean": _accuracy("mean of the starts"),
    "starts_std": _accuracy("std of the starts"),
    "nmse": Measure("nMSE", digits=3),
    "bits_per_image": Measure("bits per image", digits=2),
    "kl_nats": Measure("KL (nats)", digits=2),
    "perplexity": Measure("perplexity", digits=1),
    "active_codes": Measure("active codes", digits=1),
    "dead_codes": Measure("dead codes", digits=1),
    "posterior_entropy_bits": Measure("posterior entropy (bits)", digits=2),
    "soft_hard_distance": Measure("soft to hard, distance", digits=3),
    "soft_hard_relative": Measure("soft to hard, relative", digits=3),
    "sigma_p05": Measure("σ, 5 %", digits=3),
    "sigma_p50": Measure("σ, median", digits=3),
    "sigma_p95": Measure("σ, 95 %", digits=3),
    "probe_adam_accuracy": _accuracy("classification, Adam"),
    "knn_accuracy": _accuracy(f"{NEIGHBOURS}-NN"),
    **{f"probe_{n}_accuracy": _accuracy(f"{n} labels a class") for n in FEW_LABELS},
    "map_clustering_accuracy": _accuracy("clustering of the t-SNE"),
    "map_nmi": Measure("NMI of the t-SNE"),
    "trustworthiness": Measure("trustworthiness of the t-SNE"),
    "knn_recall": Measure("10-NN recall of the t-SNE"),
    "iterations": Measure("iterations", digits=0),
}
"""By the name in JSON, in the order of the reports. What a bottleneck carries is measured by the bottleneck itself."""

CARRIED: tuple[str, ...] = (
    *("nmse", "bits_per_image", "kl_nats", "perplexity", "active_codes", "dead_codes", "posterior_entropy_bits"),
    *("soft_hard_distance", "soft_hard_relative", "sigma_p05", "sigma_p50", "sigma_p95"),
)
STARTS = ("starts_min", "starts_median", "starts_max")
BEYOND: tuple[str, ...] = (
    *("probe_adam_accuracy", "knn_accuracy", *(f"probe_{n}_accuracy" for n in FEW_LABELS)),
    *("map_clustering_accuracy", "map_nmi", "trustworthiness", "knn_recall"),
)


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
        raise InputError(
            f"the {dataset.split} split of {dataset.name} has no labels, and a comparison needs them: use data with "
            "class folders"
        )
    return dataset.labels


def latents(model: Autoencoder, train: Dataset, test: Dataset, what: str = "z_e") -> Latents:
    """A representation (see :func:`softvq_cli.model.represent`) of both splits, in memory."""
    from softvq_cli.model import represent

    return Latents(
        represent(model, train.images, what), labels_of(train), represent(model, test.images, what), labels_of(test)
    )


def of_rows(rows: Latents, part: str, *, jobs: int) -> dict[str, float]:
    """The measures of a part, BASIC or PROBES, that any rows have; ``jobs`` threads change nothing in them."""
    return {BASIC: _agreement, PROBES: _other_probes}[part](rows, jobs)


def _agreement(rows: Latents, jobs: int) -> dict[str, float]:
    """The paper's evaluation: K-means on the test rows, 100 starts, and the softmax probe; and the starts' spread."""
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.probe import probe

    clustering = cluster(rows.test, rows.test_labels, jobs=jobs)
    assert clustering.accuracies is not None and clustering.accuracy is not None  # it has labels
    assert clustering.nmi is not None and clustering.ari is not None
    fitted = probe(rows.train, rows.train_labels, rows.test, rows.test_labels)
    low, median, high = np.quantile(clustering.accuracies, [0.0, 0.5, 1.0]).tolist()
    return {
        "clustering_accuracy": clustering.accuracy,
        "nmi": clustering.nmi,
        "ari": clustering.ari,
        "probe_accuracy": fitted.accuracy,
        "probe_converged": float(fitted.method["converged"]),
        "starts_min": low,
        "starts_median": median,
        "starts_max": high,
        "starts_mean": float(clustering.accuracies.mean()),
        "starts_std": float(clustering.accuracies.std(ddof=1)),
    }


def _other_probes(rows: Latents, jobs: int) -> dict[str, float]:
    """The softmax probe as the notebooks train it, nearest neighbours, and few labels where the classes have them."""
    from softvq_cli.evaluation.knn import neighbours
    from softvq_cli.evaluation.probe import few_labels, probe

    splits = (rows.train, rows.train_labels, rows.test, rows.test_labels)
    values = {
        "probe_adam_accuracy": probe(*splits, solver="adam").accuracy,
        "knn_accuracy": neighbours(*splits, k=NEIGHBOURS, jobs=jobs).accuracy,
    }
    rarest = int(np.unique(rows.train_labels, return_counts=True)[1].min())
    for n in FEW_LABELS:
        if n <= rarest:
            values[f"probe_{n}_accuracy"] = few_labels(*splits, labels_per_class=n).accuracy.mean
    return values


def of_map(found: OnMap) -> dict[str, float]:
    """The measures of a labelled map."""
    assert found.clustering.accuracy is not None and found.clustering.nmi is not None  # it has labels
    return {
        "map_clustering_accuracy": found.clustering.accuracy,
        "map_nmi": found.clustering.nmi,
        "trustworthiness": found.quality.trustworthiness,
        "knn_recall": found.quality.knn_recall,
    }


def measure(name: str) -> Measure:
    """What is known of a measure; a name that only a bottleneck's own file knows stands for itself."""
    return MEASURES.get(name) or Measure(name.replace("_", " "))
