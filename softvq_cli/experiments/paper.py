"""The comparisons of the paper and one with later methods, as data: rows, columns, data sets, settings, numbers.

Source: Wu and Flierl, "Vector Quantization-Based Regularization for Autoencoders", AAAI 2020, Tables 1 and 2 and
Figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from softvq_cli.experiments.study import Column, Row, model_row
from softvq_cli.results.evaluate import BASIC, MAP
from softvq_cli.results.measures import MEASURES
from softvq_cli.words import BOTTLENECKS, PCA, RAW, UNTRAINED

BASELINE = "ae"
"""The row with which the others are compared, for the same seeds."""


@dataclass(frozen=True)
class Comparison:
    """One table or figure."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """Rows in the order of the report."""
    inputs: bool = True
    """Whether the decoder's input ẑ_q of codebook models has extra rows at the end."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that all rows share and that take precedence over the preset."""
    parts: tuple[str, ...] = (BASIC,)
    seeds: int = 3
    matched: bool = False
    """Whether models are compared at a common reconstruction error instead of after the preset's iterations. The steps
    are found in the logs, which then have a line every 50 iterations."""

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

# The loss is w (q + beta e), with the codebook term q and the commitment term e. Adam divides gradients by their size.
# Therefore a weight only disables a term if its smallest denominator, 1e-8, hides it: hence 1e-12.
_COMMITMENT_ALONE = {"latent_weight": 1e-12, "beta": 7.5e12}
_NO_LATENT_LOSS = {"soft_gradient": "attention", "latent_weight": 0.0}
_ABLATION: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "attention": ("softmax attention, no latent losses", _NO_LATENT_LOSS),
    "attention-sphere": ("the same, z_e and codes of norm 1", {**_NO_LATENT_LOSS, "cosine": True}),
    "attention-latent": ("softmax attention, both latent losses", {"soft_gradient": "attention"}),
    "codebook-term": ("codebook term alone", {"beta": 0.0}),
    "commitment-term": ("commitment term alone (codes fixed)", _COMMITMENT_ALONE),
    "sphere": ("z_e and codes of norm 1", {"cosine": True}),
    "sigma-fixed": ("σ = 1", {"sigma_form": "fixed"}),
    "sigma-codeword": ("σ per codeword", {"sigma_form": "codeword"}),
    "noise": ("noise on z_e, 0.1", {"noise_std": 0.1}),
    "K16": ("K = 16", {"K": 16}),
    "K512": ("K = 512", {"K": 512}),
    "d8": ("d = 8", {"latent_dim": 8}),
    "d128": ("d = 128", {"latent_dim": 128}),
}
"""Row → its label, and the settings that differ from the soft VQ-VAE."""
_CARRIES = ("test_nmse", "iterations", "clustering_accuracy", "nmi", "probe_accuracy", "posterior_entropy_bits")

_SINCE = ("clustering_accuracy", "nmi", "probe_accuracy", "test_nmse", "perplexity", "bits_per_image")

_MODELS = tuple(model_row(name) for name in BOTTLENECKS if name in _TABLE1)
_BELOW = (model_row(PCA), model_row(UNTRAINED))


def _columns(data: str, places: Mapping[str, int], paper: Mapping[str, tuple[float, ...]]) -> tuple[Column, ...]:
    """The columns of a published table, with accuracies in per cent; ``places`` are the indices of the columns."""

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
        (model_row(RAW), *_MODELS, *_BELOW),  # raw data come first as in the paper
    ),
    "table2": Comparison(
        "Table 2",
        _columns("svhn", {"clustering_accuracy": 0, "probe_accuracy": 1}, _TABLE2)
        + _columns("cifar10", {"clustering_accuracy": 2, "probe_accuracy": 3}, _TABLE2),
        (*_MODELS, model_row(RAW), *_BELOW),
    ),
    "fig4": Comparison(
        "Figure 4",
        tuple(Column("mnist", measure) for measure in _FIGURE4),
        _MODELS,
        inputs=False,
        settings={"latent_dim": 60},
        parts=(BASIC, MAP),
        seeds=1,
        matched=True,
    ),
    "since": Comparison(
        "Since the paper",
        tuple(Column("mnist", measure) for measure in _SINCE),
        tuple(map(model_row, BOTTLENECKS)),
        inputs=False,
        settings={"iterations": 10_000},
        seeds=2,
    ),
    "ablation": Comparison(
        "What does the work in the soft VQ-VAE",
        tuple(Column("mnist", measure) for measure in _CARRIES),
        (
            *map(model_row, ("soft-vq", "ae")),
            *(Row(name, label, "soft-vq", settings) for name, (label, settings) in _ABLATION.items()),
        ),
        inputs=False,
        settings={"iterations": 10_000},
        matched=True,
    ),
}
"""Comparisons by their name in ``reproduce``."""
