"""The comparisons of the paper as data, and one with what came after it: rows, columns, data, settings, numbers.

Source: Wu and Flierl, "Vector Quantization-Based Regularization for Autoencoders", AAAI 2020, Tables 1 and 2 and
Figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from softvq_cli.results.evaluate import BASIC, MAP
from softvq_cli.results.measures import MEASURES
from softvq_cli.words import BOTTLENECKS, PCA, RAW, UNTRAINED

BASELINE = "ae"
"""The row that the others are compared with over the same seeds."""
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10"}
"""What people call the named data sets."""


@dataclass(frozen=True)
class Column:
    """One column: a measure on a data set, and what the paper reports there."""

    data: str
    measure: str
    paper: Mapping[str, float] = field(default_factory=dict)
    """By row; fractions of 1."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return f"{self.data}.{self.measure}"


@dataclass(frozen=True)
class Comparison:
    """One table or figure."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    """Bottlenecks and controls in the order of the report."""
    inputs: bool = True
    """Whether the decoder's input of codebook models, ẑ_q, has rows of its own at the end."""
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
_FIGURE4 = ("test_nmse", "iterations", "clustering_accuracy", "nmi", "trustworthiness", "knn_recall")

_SINCE = ("clustering_accuracy", "nmi", "probe_accuracy", "test_nmse", "perplexity", "bits_per_image")

_MODELS = tuple(row for row in BOTTLENECKS if row in _TABLE1)
_BELOW = (PCA, UNTRAINED)


def _columns(data: str, places: Mapping[str, int], paper: Mapping[str, tuple[float, ...]]) -> tuple[Column, ...]:
    """Columns of a published table, which has per cent for accuracies; ``places`` says in which place each is."""

    def number(measure: str, value: float) -> float:
        return round(value / 100, 6) if MEASURES[measure].per_cent else value

    return tuple(
        Column(data, measure, {row: number(measure, values[at]) for row, values in paper.items()})
        for measure, at in places.items()
    )


COMPARISONS: Mapping[str, Comparison] = {
    "table1": Comparison(
        "Table 1",
        _columns("mnist", {"clustering_accuracy": 0, "nmi": 1, "probe_accuracy": 2}, _TABLE1),
        (RAW, *_MODELS, *_BELOW),  # raw data stand first where the paper has them
    ),
    "table2": Comparison(
        "Table 2",
        _columns("svhn", {"clustering_accuracy": 0, "probe_accuracy": 1}, _TABLE2)
        + _columns("cifar10", {"clustering_accuracy": 2, "probe_accuracy": 3}, _TABLE2),
        (*_MODELS, RAW, *_BELOW),
    ),
    "fig4": Comparison(
        "Figure 4",
        tuple(Column("mnist", measure) for measure in _FIGURE4),
        _MODELS,
        inputs=False,
        # The step at which a run reaches the common error is looked up in its log: a line every 50 iterations.
        settings={"latent_dim": 60, "log_every": 50},
        parts=(BASIC, MAP),
        seeds=1,
        matched=True,
    ),
    "since": Comparison(
        "Since the paper",
        tuple(Column("mnist", measure) for measure in _SINCE),
        tuple(BOTTLENECKS),
        inputs=False,
        settings={"iterations": 10_000},
        seeds=2,
    ),
}
"""By the name that ``reproduce`` takes."""
