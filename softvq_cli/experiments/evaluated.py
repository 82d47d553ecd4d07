"""``evaluation.json``: the figures of one cell, and what they were measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.experiments.tables import MAP
from softvq_cli.files import read_json, write_json
from softvq_cli.npy import map_file

EVALUATION = "evaluation.json"
MAP_FILE = "map.npy"
"""float64 (M, 2): the t-SNE map of the test split, of the part MAP."""
FORMAT = "softvq-evaluation"
VERSION = 2
"""Raised when the way of measuring changes, so that old figures are not mixed with new ones."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    figures: dict[str, dict[str, float]]
    """Representation (``z_e``, ``z_q``, ``pixels``, ``pca``), the row's own first → figures by name."""
    parts: tuple[str, ...]

    @property
    def own(self) -> dict[str, float]:
        """The figures of the row's own representation."""
        return next(iter(self.figures.values()))

    def has(self, parts: tuple[str, ...]) -> bool:
        """Whether all of ``parts`` were measured."""
        return set(parts) <= set(self.parts)

    def with_part(self, part: str, figures: Mapping[str, Mapping[str, float]]) -> Evaluation:
        """This, and the figures of another part."""
        merged = {name: dict(values) for name, values in self.figures.items()}
        for name, values in figures.items():
            merged[name] = {**merged.get(name, {}), **values}
        return Evaluation(merged, (*(one for one in self.parts if one != part), part))


NOTHING = Evaluation({}, ())


def read(folder: Path, of: Mapping[str, Any]) -> Evaluation:
    """The parts that are there, if they were measured on the same: ``of`` is what :func:`write` was given."""
    try:
        value = read_json(folder / EVALUATION)
    except InputError:
        return NOTHING
    if not isinstance(value, dict) or value.pop("sha256", None) != _digest(value):  # damaged: it is measured again
        return NOTHING
    if (value["format"], value["version"], value["of"]) != (FORMAT, VERSION, of):
        return NOTHING
    return Evaluation(value["figures"], tuple(part for part in value["parts"] if part != MAP or _has_map(folder)))


def _has_map(folder: Path) -> bool:
    try:
        return read_map(folder).shape[1:] == (2,)
    except InputError:
        return False


def read_map(folder: Path) -> np.ndarray:
    """The t-SNE map of a cell, float64 (M, 2).

    Raises:
        InputError: there is none, or it is damaged.
    """
    return map_file(folder / MAP_FILE)


def write(folder: Path, of: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write it, atomically.

    Raises:
        SoftVQError: it cannot be written.
    """
    value = {"format": FORMAT, "version": VERSION, "of": of}
    value |= {"parts": list(evaluation.parts), "figures": evaluation.figures}
    write_json(folder / EVALUATION, {**value, "sha256": _digest(value)})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
