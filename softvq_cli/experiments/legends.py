"""What a report says under its tables: of what is there, and of nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

_MEANS = "Mean ± sample standard deviation over n trainings, in per cent for accuracies."
_COLUMNS = {
    "clustering_accuracy": "Clustering: K-means on z_e of the test split, 100 starts, the lowest inertia kept, "
    "Hungarian assignment; NMI with the arithmetic mean of the entropies.",
    "probe_accuracy": "Classification: one softmax layer on z_e, fitted to the training split, measured on the test "
    "split.",
}
_ITALICS = "In italics: the same evaluation of other rows than a trained encoder's z_e"
_INPUTS = "; ẑ_q is the decoder's input of the same models"
_TO_PAPER = "To the paper: our mean minus the published number."
_TO_BASELINE = """\
To the baseline: the mean of the differences to the baseline autoencoder with the same seed and, from two seeds on,
their 95 % confidence interval (Student's t)."""
CARRIED = """\
On the test split, without noise. nMSE: squared error over the variance of the training pixels. Bits per image: for
codebooks the information between image and codeword, at most log2 K; for the VAEs KL / ln 2 and for information
dropout a Gaussian bound on log |z|, both upper bounds; the plain autoencoder has no finite rate. Soft to hard: from ẑ_q
to the most probable codeword, Euclidean, and relative to the norm of the codewords. σ: over images and codewords."""
STARTS = (
    "The accuracy that each of the 100 starts alone would have given; the table above has the one of lowest inertia."
)
SPREAD = """\
What the spread of the clustering is made of: its standard deviation in the table; that of the mean over all 100 starts
of each training; and of a random-effects model the part of the training (σ_seed, with its 95 % interval) and that of
the start of K-means (σ_start). Kept − mean: what the start of lowest inertia has above the mean start, over the
trainings."""
_BEYOND = {
    "probe_adam_accuracy": "the softmax probe as the authors' notebooks train it (Adam, 30 000 updates of 128; the "
    "classification above is the optimum)",
    "knn_accuracy": "five nearest neighbours in the training split",
    "probe_10_accuracy": "the softmax probe on a few labels of each class (mean of 5 draws)",
    "map_clustering_accuracy": "K-means on a two-dimensional t-SNE of z_e",
    "trustworthiness": "how well that map keeps neighbourhoods (1 is perfect)",
}
"""A measure that is there → what it and those that come with it are."""
COURSE = """\
The same of the models as they were after fewer iterations of the same trainings, kept on the way; the last number of a
row is the table's."""


def papers(found: Mapping[str, Any], data: str) -> str:
    """What to call the published numbers beside those of ``data``: of which data they are, where it is not those."""
    own = found["data"][data]
    return "paper" if own["papers"] else f"paper, {own['stands_for']}"


def of_table(document: Mapping[str, Any], *, controls: bool) -> str:
    """What the table's columns and its rows in italics are."""
    shown = {column["measure"] for column in document["columns"]}
    sentences = [_MEANS, *(text for name, text in _COLUMNS.items() if name in shown)]
    if controls:
        inputs = any(row["row"].endswith(":z_q") for row in document["rows"])
        sentences.append(_ITALICS + (_INPUTS if inputs else "") + ".")
    return _wrapped(" ".join(sentences))


def of_differences(document: Mapping[str, Any]) -> str:
    """What is compared with what."""
    published = any(column["published"] for column in document["columns"])
    compared = any(cell["versus_baseline"] for row in document["rows"] for cell in row["cells"].values())
    return _wrapped(" ".join([*[_TO_PAPER] * published, *[_TO_BASELINE] * compared]))


def of_beyond(document: Mapping[str, Any], shown: Iterable[str]) -> str:
    """What the measures of that section are that are there."""
    there = {name for row in document["rows"] for names in row["measures"].values() for name in names} - set(shown)
    text = "; ".join(what for name, what in _BEYOND.items() if name in there)
    return _wrapped(f"{text[:1].upper()}{text[1:]}.")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)
