"""The content of a page for one run: arrays and text, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["share", "number", "count"]
"""The format of a number: per cent, four digits, or an integer."""


@dataclass(frozen=True)
class Number:
    """One result, shown next to those of the other runs."""

    name: str
    value: float
    kind: Kind = "number"


@dataclass(frozen=True)
class Table:
    """The table of a study, as text."""

    title: str
    columns: Sequence[str]
    """Titles; the first is that of the row names."""
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Codebook:
    """The codewords of a run that are shown, out of K."""

    images: np.ndarray | None
    """uint8 (S, H, W, C): the decoded codewords; None for vectors."""
    numbers: np.ndarray
    """int64 (S,): the index of each codeword."""
    usage: np.ndarray
    """float64 (S,): mean posterior probability over the split."""
    counts: np.ndarray
    """int64 (S,): number of images for which the codeword is the most probable one; 0 is dead."""
    size: int
    """K."""
    sigma: np.ndarray | None = None
    """float64 (S,): the median of σ_k over images, if it is learned."""


@dataclass(frozen=True)
class View:
    """One run. Arrays have n rows, one per displayed image; indices count from 0."""

    title: str
    numbers: Sequence[Number]
    facts: Mapping[str, Mapping[str, Any]]
    """Section → name → value, for example of the settings and the data."""
    again: str
    """The command that repeats the run."""
    notes: Sequence[str]
    """Notes for the reader, one line each."""
    rows: np.ndarray
    """int64 (n,): the index of each image in its split."""
    images: np.ndarray | None
    """uint8 (n, H, W, C); None for vectors, for which the page shows names."""
    reconstructions: np.ndarray | None
    """The same for the reconstructions."""
    errors: np.ndarray
    """float64 (n,): nMSE of each image."""
    neighbours: np.ndarray
    """int64 (n, k): the nearest other images in z_e, nearest first."""
    distances: np.ndarray
    """float64 (n, k): the distances of the neighbours."""
    clusters: np.ndarray
    """int64 (n,)."""
    centre_distances: np.ndarray
    """float64 (n,): distance from the centre of the cluster."""
    groups: Mapping[str, Sequence[Sequence[int]]]
    """Kind of issue → groups of images."""
    suspects: Mapping[str, Sequence[tuple[int, str]]]
    """Kind of issue → images, worst first, each with a short explanation."""
    baselines: Mapping[str, Sequence[Number]] = field(default_factory=dict)
    """Baselines for the numbers, by title."""
    coordinates: np.ndarray | None = None
    """float64 (n, 2): coordinates in the map."""
    labels: np.ndarray | None = None
    """int64 (n,), indices into ``class_names``."""
    class_names: Sequence[str] = ()
    predicted: np.ndarray | None = None
    """int64 (n,): the classes predicted by the probe, like ``labels``."""
    file_names: Sequence[str] | None = None
    """n names."""
    codewords: np.ndarray | None = None
    """int64 (n,): the most probable of the K codewords."""
    codeword_distances: np.ndarray | None = None
    """float64 (n,): from z_e to that codeword."""
    code_maps: np.ndarray | None = None
    """uint8 (n, H, W, 3): each image overlaid with its grid of codes."""
    codebook: Codebook | None = None
    curves: Sequence[Mapping[str, float]] = field(default=())
    """The lines of the training log."""
