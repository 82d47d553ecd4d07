"""The comparisons of the paper as data: their rows, columns, data sets, settings and published numbers.

Source: Wu and Flierl, "Vector Quantization-Based Regularization for Autoencoders", AAAI 2020, Tables 1 and 2 and
Figure 4. Rows come from the registry of bottlenecks, so that a new one appears in every table, without a published
number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from softvq_cli.words import BOTTLENECKS

BASIC, PROBES, MAP = "basic", "probes", "map"
"""The parts of an evaluation: the paper's figures and what the bottleneck carries; other probes; the t-SNE map."""
PART_TITLES: Mapping[str, str] = {BASIC: "the paper's figures", PROBES: "the other probes", MAP: "the t-SNE map"}

RAW, PCA, UNTRAINED = "raw", "pca", "untrained"
CONTROLS: Mapping[str, str] = {
    RAW: "raw data",
    PCA: "PCA, d components",
    UNTRAINED: "untrained encoder",
}
"""Rows that no bottleneck is behind → their labels."""
SEEDLESS = (RAW, PCA)
"""Rows that nothing random is behind: one evaluation, whatever the seeds."""
BASELINE = "ae"
"""The row that the others are compared with over the same seeds."""


@dataclass(frozen=True)
class Measure:
    """One figure of an evaluation."""

    title: str
    per_cent: bool = False
    """For people it is multiplied by 100; in JSON and CSV an accuracy is a fraction of 1."""
    digits: int = 4


def _accuracy(title: str) -> Measure:
    return Measure(title, per_cent=True, digits=2)


FEW_LABELS = (10, 100, 1000)
"""Labels a class of the probes on few labels."""

MEASURES: Mapping[str, Measure] = {
    "clustering_accuracy": _accuracy("clustering"),
    "nmi": Measure("NMI"),
    "ari": Measure("ARI"),
    "probe_accuracy": _accuracy("classification"),
    "probe_converged": Measure("classification converged", digits=2),
    "starts_min": _accuracy("K-means starts, lowest"),
    "starts_median": _accuracy("median"),
    "starts_max": _accuracy("highest"),
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
    "knn_accuracy": _accuracy("5-NN"),
    **{f"probe_{n}_accuracy": _accuracy(f"{n} labels a class") for n in FEW_LABELS},
    "map_clustering_accuracy": _accuracy("clustering of the t-SNE"),
    "map_nmi": Measure("NMI of the t-SNE"),
    "trustworthiness": Measure("trustworthiness of the t-SNE"),
    "knn_recall": Measure("10-NN recall of the t-SNE"),
    "iterations": Measure("iterations", digits=0),
}
"""Every figure by its name in JSON, in the order of the reports."""

CARRIED: tuple[str, ...] = (
    "nmse",
    "bits_per_image",
    "kl_nats",
    "perplexity",
    "active_codes",
    "dead_codes",
    "posterior_entropy_bits",
)
CARRIED += ("soft_hard_distance", "soft_hard_relative", "sigma_p05", "sigma_p50", "sigma_p95")
STARTS = ("starts_min", "starts_median", "starts_max")
BEYOND: tuple[str, ...] = ("probe_adam_accuracy", "knn_accuracy", *(f"probe_{n}_accuracy" for n in FEW_LABELS))
BEYOND += ("map_clustering_accuracy", "map_nmi", "trustworthiness", "knn_recall")


@dataclass(frozen=True)
class Column:
    """One column: a figure on a data set, and what the paper reports there."""

    data: str
    measure: str
    paper: Mapping[str, float] = field(default_factory=dict)
    """By row; fractions of 1."""


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    columns: tuple[Column, ...]
    controls: tuple[str, ...] = tuple(CONTROLS)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that all rows share, on top of the data set's preset."""
    parts: tuple[str, ...] = (BASIC,)
    seeds: int = 3
    matched: bool = False
    """Whether the models are compared at a common reconstruction error rather than after the preset's iterations."""

    @property
    def data(self) -> tuple[str, ...]:
        """The data sets, in the order of the columns."""
        return tuple(dict.fromkeys(column.data for column in self.columns))


def _columns(data: str, measures: Mapping[str, int], paper: Mapping[str, tuple[float, ...]]) -> tuple[Column, ...]:
    """Columns of a published table, which has per cent for accuracies; ``measures`` says in which place each is."""
    return tuple(
        Column(
            data, name, {row: round(v[at] / 100, 6) if MEASURES[name].per_cent else v[at] for row, v in paper.items()}
        )
        for name, at in measures.items()
    )


_TABLE1 = {
    "raw": (55.17, 0.5008, 92.44),
    "ae": (52.61, 0.5301, 91.91),
    "vae": (56.44, 0.5600, 89.10),
    "beta-vae": (73.81, 0.5760, 91.10),
    "info-dropout": (58.52, 0.4979, 91.11),
    "vq": (51.48, 0.3541, 81.62),
    "soft-vq": (77.64, 0.7188, 93.54),
}
_TABLE2 = {
    "ae": (11.96, 25.95, 21.73, 40.92),
    "vae": (13.58, 26.42, 24.12, 38.83),
    "beta-vae": (14.54, 49.62, 22.80, 36.91),
    "info-dropout": (12.75, 24.46, 21.96, 39.89),
    "vq": (12.96, 31.57, 20.30, 33.51),
    "soft-vq": (17.68, 50.48, 23.83, 44.54),
}
_FIGURE4 = ("nmse", "iterations", "clustering_accuracy", "nmi", "trustworthiness", "knn_recall")

TABLES: Mapping[str, Table] = {
    "table1": Table(
        "Table 1",
        _columns("mnist", {"clustering_accuracy": 0, "nmi": 1, "probe_accuracy": 2}, _TABLE1),
    ),
    "table2": Table(
        "Table 2",
        _columns("svhn", {"clustering_accuracy": 0, "probe_accuracy": 1}, _TABLE2)
        + _columns("cifar10", {"clustering_accuracy": 2, "probe_accuracy": 3}, _TABLE2),
    ),
    "fig4": Table(
        "Figure 4",
        tuple(Column("mnist", name) for name in _FIGURE4),
        controls=(),
        # The step at which a run reaches the common error is looked up in its log: a line every 50 iterations.
        settings={"latent_dim": 60, "log_every": 50},
        parts=(BASIC, MAP),
        seeds=1,
        matched=True,
    ),
}
"""By the name that ``softvq reproduce`` takes."""


def label_of(row: str) -> str:
    """What people call a row: a bottleneck, a control, or ``ROW:z_q``."""
    name, _, representation = row.partition(":")
    label = CONTROLS.get(name) or BOTTLENECKS[name].label
    return f"{label}, on ẑ_q" if representation else label


def has_codebook(bottleneck: str) -> bool:
    """Whether the decoder's input differs from z_e without noise."""
    return "K" in BOTTLENECKS[bottleneck].settings
