"""What a page shows of one run: arrays and text, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["share", "number", "count"]
"""How a number is written: in per cent, with four digits, as a whole number."""


@dataclass(frozen=True)
class Number:
    """One result, which stands next to that of the other runs."""

    name: str
    value: float
    kind: Kind = "number"


@dataclass(frozen=True)
class Table:
    """The table of a study, all of it text."""

    title: str
    columns: Sequence[str]
    """The first is that of the rows' names."""
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Codebook:
    """The K codewords of a run, those that are shown."""

    images: np.ndarray | None
    """uint8 (S, H, W, C): what the decoder makes of each; None of vectors."""
    numbers: np.ndarray
    """int64 (S,): which of the K each is."""
    usage: np.ndarray
    """float64 (S,): mean posterior probability over the split."""
    counts: np.ndarray
    """int64 (S,): images of the split for which it is the most probable one; 0 is dead."""
    size: int
    """K."""
    sigma: np.ndarray | None = None
    """float64 (S,): the median of σ_k over images, where it is learned."""


@dataclass(frozen=True)
class View:
    """One run. Arrays have n rows, one per image that is shown; whole numbers count from 0."""

    title: str
    numbers: Sequence[Number]
    facts: Mapping[str, Mapping[str, Any]]
    """Section → name → plain value: the settings, the data."""
    again: str
    """The command that makes the run again."""
    notes: Sequence[str]
    """What a reader should know, a line each."""
    rows: np.ndarray
    """int64 (n,): where each image is in its split."""
    images: np.ndarray | None
    """uint8 (n, H, W, C); None of vectors, of which the page shows the names."""
    reconstructions: np.ndarray | None
    """The same."""
    errors: np.ndarray
    """float64 (n,): nMSE of each."""
    neighbours: np.ndarray
    """int64 (n, k): the nearest other images in z_e, the nearest first."""
    distances: np.ndarray
    """float64 (n, k): of these."""
    clusters: np.ndarray
    """int64 (n,)."""
    centre_distances: np.ndarray
    """float64 (n,): from the centre of its cluster."""
    groups: Mapping[str, Sequence[Sequence[int]]]
    """Kind of issue → groups of images."""
    suspects: Mapping[str, Sequence[tuple[int, str]]]
    """Kind of issue → images, the worst first, each with a few words."""
    baselines: Mapping[str, Sequence[Number]] = field(default_factory=dict)
    """What the numbers are compared with, by title."""
    coordinates: np.ndarray | None = None
    """float64 (n, 2): the map."""
    labels: np.ndarray | None = None
    """int64 (n,), indices into ``class_names``."""
    class_names: Sequence[str] = ()
    predicted: np.ndarray | None = None
    """int64 (n,), what the probe says, as ``labels``."""
    file_names: Sequence[str] | None = None
    """n of them."""
    codewords: np.ndarray | None = None
    """int64 (n,): the most probable of the K codewords."""
    codeword_distances: np.ndarray | None = None
    """float64 (n,): from z_e to that codeword."""
    code_maps: np.ndarray | None = None
    """uint8 (n, H, W, 3): the codes of a grid over each image."""
    codebook: Codebook | None = None
    curves: Sequence[Mapping[str, float]] = field(default=())
    """The lines of the training's log."""
