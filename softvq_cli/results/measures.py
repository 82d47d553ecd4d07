"""All measures of an evaluation: their names, and how they are computed from the latents of both splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softvq_cli.reporter import Reporter
from softvq_cli.results.subject import Encoding, Rows


@dataclass(frozen=True)
class Measure:
    """One measure of an evaluation."""

    title: str
    per_cent: bool = False
    """Displayed in per cent; in JSON and CSV, an accuracy is a fraction of 1."""
    digits: int = 4


def _accuracy(title: str) -> Measure:
    return Measure(title, per_cent=True, digits=2)


FEW_LABELS = (10, 100, 1000)
"""Labels per class for the probes with few labels."""
NEIGHBOURS = 5
"""k of the k-NN probe."""
PERPLEXITY = 30.0
"""Perplexity of t-SNE."""
CLUSTERS = 10
"""Number of clusters for images without labels."""

MEASURES: Mapping[str, Measure] = {
    "clustering_accuracy": _accuracy("clustering"),
    "nmi": Measure("NMI"),
    "ari": Measure("ARI"),
    "seed_ari": Measure("ARI between seeds", digits=3),
    "probe_accuracy": _accuracy("classification"),
    "train_accuracy": _accuracy("classification, training"),
    "probe_converged": Measure("classification converged", digits=2),
    "starts_min": _accuracy("K-means starts, lowest"),
    "starts_median": _accuracy("median"),
    "starts_max": _accuracy("highest"),
    "starts_mean": _accuracy("mean of the starts"),
    "starts_std": _accuracy("std of the starts"),
    "test_nmse": Measure("nMSE", digits=3),
    "bits_per_image": Measure("bits per image", digits=2),
    "kl_nats": Measure("KL (nats)", digits=2),
    "perplexity": Measure("perplexity", digits=1),
    "unquantised_nmse": Measure("nMSE without quantising", digits=3),
    "quantisation_error": Measure("‖z − ẑ‖² / var z", digits=3),
    "collisions": Measure("collisions", per_cent=True, digits=2),
    "active_codes": Measure("active codes", digits=1),
    "dead_codes": Measure("dead codes", digits=1),
    "code_utilisation": _accuracy("codes used"),
    "code_purity": _accuracy("class purity of the codes"),
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
    "inertia": Measure("K-means inertia", digits=1),
    "iterations": Measure("iterations", digits=0),
}
"""Measures by their name in JSON, in the order of reports. Bottlenecks measure their own information content."""

RESULTS: Mapping[str, str] = {
    "clustering_accuracy": "clustering accuracy",
    "nmi": "NMI",
    "silhouette": "silhouette",
    "probe_accuracy": "probe accuracy",
    "train_accuracy": "probe accuracy on training",
    "test_nmse": "reconstruction error (nMSE)",
}
"""The main results of a run, with their names in the table of ``run`` and on the page."""

CARRIED: tuple[str, ...] = (
    *("test_nmse", "bits_per_image", "kl_nats", "perplexity", "active_codes", "dead_codes"),
    *("code_utilisation", "code_purity", "posterior_entropy_bits"),
    *("soft_hard_distance", "soft_hard_relative", "sigma_p05", "sigma_p50", "sigma_p95"),
)
BEYOND: tuple[str, ...] = (
    *("probe_adam_accuracy", "knn_accuracy", *(f"probe_{n}_accuracy" for n in FEW_LABELS)),
    *("map_clustering_accuracy", "map_nmi", "trustworthiness", "knn_recall"),
)


def measure(name: str) -> Measure:
    """Look up a measure; the name of a measure that only a custom bottleneck defines is also its title."""
    return MEASURES.get(name) or Measure(name.replace("_", " "))


@dataclass(frozen=True)
class Measured:
    """The results of one part of an evaluation."""

    numbers: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays by their name in :data:`softvq_cli.results.evaluate.ARRAYS`."""
    details: dict[str, Any] = field(default_factory=dict)
    """Other details: the values of every K-means start, the accuracy of every class."""

    def __or__(self, other: Measured) -> Measured:
        """The union; values of ``other`` take precedence."""
        return Measured(self.numbers | other.numbers, self.arrays | other.arrays, self.details | other.details)


def agreement(rows: Rows, class_names: tuple[str, ...], jobs: int | None, reporter: Reporter) -> Measured:
    """The paper's evaluation: K-means on the test rows from 100 starts, softmax regression, and the spread of starts.

    Without labels there are :data:`CLUSTERS` clusters and no probe.
    """
    from softvq_cli.evaluation.clustering import cluster, means

    reporter.stage("clustering")
    count = min(CLUSTERS, len(rows.test)) if rows.test_labels is None else None
    clustering = cluster(rows.test, rows.test_labels, clusters=count, jobs=jobs)
    for note in clustering.notes:
        reporter.note(note)
    starts = {"inertia": clustering.inertias.tolist()}
    details: dict[str, Any] = {"clusters": clustering.clusters, "n_init": clustering.n_init, "starts": starts}
    centres = means(rows.test, clustering.assignments, clustering.clusters)
    arrays = {"clusters": clustering.assignments, "centres": centres}
    found = {
        "clustering_accuracy": clustering.accuracy,
        "nmi": clustering.nmi,
        "ari": clustering.ari,
        "silhouette": clustering.silhouette,
        "inertia": clustering.inertia,
    }
    measured = Measured({name: value for name, value in found.items() if value is not None}, arrays, details)
    if clustering.accuracies is None:
        return measured
    starts["clustering_accuracy"] = clustering.accuracies.tolist()
    low, median, high = np.quantile(clustering.accuracies, [0.0, 0.5, 1.0]).tolist()
    spread = {
        "starts_min": low,
        "starts_median": median,
        "starts_max": high,
        "starts_mean": float(clustering.accuracies.mean()),
        "starts_std": float(clustering.accuracies.std(ddof=1)),
    }
    return measured | _probe(rows, class_names, reporter) | Measured(spread)


def _probe(rows: Rows, class_names: tuple[str, ...], reporter: Reporter) -> Measured:
    """Softmax regression; empty if there are fewer than two classes."""
    from softvq_cli.evaluation.probe import probe

    if rows.train_labels is None or rows.test_labels is None or len(np.unique(rows.train_labels)) < 2:
        reporter.note("no softmax probe: the training split has fewer than two classes")
        return Measured({})
    reporter.stage("probing")
    fitted = probe(rows.train, rows.train_labels, rows.test, rows.test_labels, class_names=class_names)
    # Softmax regression numbers the classes that occur in either split, in order.
    classes = np.unique(np.concatenate([rows.train_labels, rows.test_labels]))
    document = fitted.as_dict()
    assert fitted.weights is not None  # softmax regression has weights
    return Measured(
        {
            "probe_accuracy": fitted.accuracy,
            "train_accuracy": fitted.train_accuracy,
            "probe_converged": float(fitted.method["converged"]),
        },
        {"predictions": np.asarray(classes[fitted.predicted]), "probe": np.column_stack([classes, fitted.weights])},
        {name: document[name] for name in ("per_class", "confusion", "classes", "n_train", "n_test")},
    )


def of_encoding(encoding: Encoding, rows: Rows) -> Measured:
    """The information in the bottleneck; with labels also the codes of the test images, and their class purity."""
    measured = Measured(dict(encoding.numbers), {"errors": encoding.errors})
    if encoding.codewords is None or encoding.usage is None or rows.test_labels is None:
        return measured
    _, classes = np.unique(rows.test_labels, return_inverse=True)
    table = np.zeros((len(encoding.usage), classes.max() + 1), dtype=np.int64)  # (K, classes)
    np.add.at(table, (encoding.codewords, classes), 1)
    counts, commonest = table.sum(axis=1), table.max(axis=1)
    purity = [most / n if n else None for most, n in zip(commonest.tolist(), counts.tolist(), strict=True)]
    return measured | Measured(
        {"code_utilisation": float((counts > 0).mean()), "code_purity": float(commonest.sum() / counts.sum())},
        details={"codes": {"counts": counts.tolist(), "purity": purity}},
    )


def other_probes(rows: Rows, jobs: int | None) -> Measured:
    """Softmax regression as trained in the notebooks, k-NN, and probes with few labels if the classes have enough."""
    from softvq_cli.evaluation.probe import few_labels, neighbours, probe

    labels, splits = rows.train_labels, (rows.train, rows.train_labels, rows.test, rows.test_labels)
    assert labels is not None  # a comparison requires labels
    numbers = {
        "probe_adam_accuracy": probe(*splits, solver="adam").accuracy,
        "knn_accuracy": neighbours(*splits, k=NEIGHBOURS, jobs=jobs).accuracy,
    }
    rarest = int(np.bincount(labels)[np.unique(labels)].min())
    for n in FEW_LABELS:
        if n <= rarest:
            numbers[f"probe_{n}_accuracy"] = few_labels(*splits, labels_per_class=n).mean
    return Measured(numbers)


def perplexity_for(rows: int, reporter: Reporter) -> float:
    """The default perplexity, or for few rows the maximum for t-SNE, with a note."""
    from softvq_cli.evaluation.tsne import FEWEST_ROWS

    largest = max(1.0, min(PERPLEXITY, (rows - 1) // 3))
    if rows >= FEWEST_ROWS and largest < PERPLEXITY:
        reporter.note(f"a map of {rows} rows allows a perplexity of {largest:g}; {PERPLEXITY:g} is the usual one")
    return largest


def tsne_map(z: np.ndarray, jobs: int | None, reporter: Reporter) -> Measured:
    """The t-SNE map of the test rows."""
    from softvq_cli.evaluation.tsne import tsne

    reporter.stage("mapping")
    perplexity = perplexity_for(len(z), reporter)
    return Measured(
        {}, {"map": tsne(z, perplexity=perplexity, jobs=jobs, reporter=reporter)}, {"map_perplexity": perplexity}
    )


def of_map(rows: Rows, coordinates: np.ndarray, jobs: int | None) -> Measured:
    """How well clusters on the map agree with the classes, and how well it preserves neighbourhoods."""
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.quality import map_quality
    from softvq_cli.evaluation.tsne import mapped

    shown, labels = mapped(coordinates), rows.test_labels
    coordinates, labels = coordinates[shown], None if labels is None else labels[shown]
    clustering = cluster(coordinates, labels, jobs=jobs)
    assert clustering.accuracy is not None and clustering.nmi is not None  # there are labels
    quality = map_quality(rows.test[shown], coordinates, jobs=jobs)
    return Measured(
        {
            "map_clustering_accuracy": clustering.accuracy,
            "map_nmi": clustering.nmi,
            "trustworthiness": quality.trustworthiness,
            "knn_recall": quality.knn_recall,
        }
    )
