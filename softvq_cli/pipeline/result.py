"""``evaluation.json``: the measures of a job's folder, and what they were measured on.

Of a trained model that is its checkpoint; the part :data:`MAP` also leaves :data:`MAP_FILE`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.files import read_json, write_json
from softvq_cli.npy import map_file

EVALUATION = "evaluation.json"
MAP_FILE = "map.npy"
"""float64 (M, 2): the t-SNE map of the test split."""
FORMAT = "softvq-evaluation"
VERSION = 2
"""Raised when the way of measuring changes, so that old numbers are not mixed with new ones."""

BASIC, PROBES, MAP = "basic", "probes", "map"
"""The parts of an evaluation: the paper's numbers and what the bottleneck carries; other probes; the t-SNE map."""
PARTS: tuple[str, ...] = (BASIC, PROBES, MAP)


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    figures: Mapping[str, Mapping[str, float]]
    """Representation (``z_e``, ``z_q``, ``pixels``, ``pca``) → value by the name of its measure."""
    parts: tuple[str, ...]
    """What is complete, of :data:`PARTS`."""
    machine: Mapping[str, str] | None = None
    """``host`` and ``processor`` of who completed it, where that is known."""

    def has(self, parts: tuple[str, ...]) -> bool:
        """Whether all of ``parts`` were measured."""
        return set(parts) <= set(self.parts)

    def with_part(self, part: str, figures: Mapping[str, Mapping[str, float]]) -> Evaluation:
        """This, and the figures of another part."""
        merged = {name: dict(values) for name, values in self.figures.items()}
        for name, values in figures.items():
            merged[name] = {**merged.get(name, {}), **values}
        return replace(self, figures=merged, parts=(*(one for one in self.parts if one != part), part))


NOTHING = Evaluation({}, ())


def read(folder: Path, of: Mapping[str, Any]) -> Evaluation:
    """The parts that are there, if they were measured on the same: ``of`` is what :func:`write` was given."""
    stored = _stored(folder)
    return NOTHING if stored is None or stored["of"] != of else _evaluation(folder, stored)


def of_checkpoint(folder: Path, seal: str) -> Evaluation:
    """The parts that were measured on the checkpoint with this SHA-256, whatever the data were."""
    stored = _stored(folder)
    if stored is None or stored["of"].get("checkpoint_sha256") != seal:
        return NOTHING
    return _evaluation(folder, stored)


def write(folder: Path, of: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write it, atomically.

    Args:
        folder: of the job.
        of: what it was measured on, ready for JSON: equal for two evaluations iff they measure the same.
        evaluation: with all parts so far.

    Raises:
        SoftVQError: it cannot be written.
    """
    value = {"format": FORMAT, "version": VERSION, "of": of}
    value |= {"parts": list(evaluation.parts), "figures": evaluation.figures}
    if evaluation.machine is not None:
        value["machine"] = evaluation.machine
    write_json(folder / EVALUATION, {**value, "sha256": _digest(value)})


def read_map(folder: Path) -> np.ndarray:
    """The t-SNE map of a job, float64 (M, 2).

    Raises:
        InputError: there is none, or it is damaged.
    """
    return map_file(folder / MAP_FILE)


def _stored(folder: Path) -> dict[str, Any] | None:
    """The content of the file; None where it is missing, damaged or of another version: it is measured again."""
    try:
        value = read_json(folder / EVALUATION)
    except InputError:
        return None
    if not isinstance(value, dict) or value.pop("sha256", None) != _digest(value):
        return None
    return value if (value.get("format"), value.get("version")) == (FORMAT, VERSION) and _fits(value) else None


def _fits(value: Mapping[str, Any]) -> bool:
    """Whether it has the form of what :func:`write` makes; a stranger can make the digest fit."""
    of, figures, parts, machine = (value.get(name) for name in ("of", "figures", "parts", "machine"))
    if not (isinstance(of, dict) and isinstance(figures, dict) and isinstance(parts, list)):
        return False
    if not all(isinstance(one, dict) for one in (*figures.values(), machine or {})):
        return False
    numbers = [number for one in figures.values() for number in one.values()]
    texts = [*parts, *(machine or {}).values()]
    return all(type(one) in (int, float) for one in numbers) and all(isinstance(one, str) for one in texts)


def _evaluation(folder: Path, stored: Mapping[str, Any]) -> Evaluation:
    parts = tuple(part for part in stored["parts"] if part != MAP or _has_map(folder))
    return Evaluation(stored["figures"], parts, stored.get("machine"))


def _has_map(folder: Path) -> bool:
    try:
        return read_map(folder).shape[1:] == (2,)
    except InputError:
        return False


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the content in its own order, without the digest itself."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
