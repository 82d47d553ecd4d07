"""``evaluation.json``: what was measured of a run, or of a control, and on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.files import atomic_write, read_json, write_json
from softvq_cli.npy import map_file

EVALUATION = "evaluation.json"
MAP_FILE = "map.npy"
"""float64 (M, 2): the t-SNE map of the test split, of the part MAP."""
BASIC, PROBES, MAP = "basic", "probes", "map"
"""The parts of an evaluation: the paper's measures and what the bottleneck carries; other probes; the t-SNE map."""
_AT = "z_e@"
FORMAT = "softvq-evaluation"
VERSION = 4
"""Raised when the way of measuring changes, so that old numbers are not mixed with new ones. 3: the softmax probe comes
nearer to its optimum. 4: it also does for rows of few places, the decoder's input of hard codes."""


def at(step: int) -> str:
    """The part with the paper's measures of the model as it was after ``step`` iterations; its figures have this name
    in the place of a representation's."""
    return f"{_AT}{step}"


def step_of(part: str) -> int | None:
    """The inverse of :func:`at`; None for other parts and for representations."""
    return int(part.removeprefix(_AT)) if part.startswith(_AT) else None


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    figures: Mapping[str, Mapping[str, float]]
    """Representation (``z_e``, ``z_q``, ``pixels``, ``pca``; ``z_e@2000`` is :func:`at`) → values by measure."""
    parts: tuple[str, ...]
    machine: Mapping[str, str] | None = None
    """``host`` and ``processor`` of who measured the last part; None in files that are older than this field."""

    def has(self, parts: tuple[str, ...]) -> bool:
        """Whether all of ``parts`` were measured."""
        return set(parts) <= set(self.parts)

    def with_part(
        self, part: str, figures: Mapping[str, Mapping[str, float]], machine: Mapping[str, str] | None = None
    ) -> Evaluation:
        """This, and the values of another part, measured on ``machine``."""
        merged = {name: dict(values) for name, values in self.figures.items()}
        for name, values in figures.items():
            merged[name] = {**merged.get(name, {}), **values}
        return Evaluation(merged, (*(one for one in self.parts if one != part), part), machine or self.machine)


NOTHING = Evaluation({}, ())


def read(folder: Path, of: Mapping[str, Any]) -> Evaluation:
    """The parts that are there, if they were measured on the same: ``of`` is what :func:`write` was given."""
    value = _document(folder)
    return NOTHING if value is None or value["of"] != of else _evaluation(folder, value)


def of_checkpoint(folder: Path, seal: str) -> Evaluation:
    """The parts that were measured on the checkpoint with this SHA-256, whatever the data were."""
    value = _document(folder)
    return NOTHING if value is None or value["of"].get("checkpoint_sha256") != seal else _evaluation(folder, value)


def _evaluation(folder: Path, value: Mapping[str, Any]) -> Evaluation:
    parts = tuple(part for part in value["parts"] if part != MAP or _has_map(folder))
    return Evaluation(value["figures"], parts, value.get("machine"))


def _document(folder: Path) -> dict[str, Any] | None:
    """The file's content; None where there is none, or it is damaged or of another version: it is measured again."""
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


def _has_map(folder: Path) -> bool:
    try:
        return read_map(folder).shape[1:] == (2,)
    except InputError:
        return False


def read_map(folder: Path) -> np.ndarray:
    """The t-SNE map, float64 (M, 2).

    Raises:
        InputError: there is none, or it is damaged.
    """
    return map_file(folder / MAP_FILE)


def write_map(folder: Path, coordinates: np.ndarray) -> None:
    """Write the t-SNE map, float64 (M, 2), atomically.

    Raises:
        SoftVQError: it cannot be written.
    """
    with atomic_write(folder / MAP_FILE) as file:
        np.save(file, coordinates)


def write(folder: Path, of: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write it, atomically.

    Args:
        folder: of the run or the control.
        of: what was measured, in plain values: equal for two evaluations iff they measure the same.
        evaluation: its values.

    Raises:
        SoftVQError: it cannot be written.
    """
    value = {"format": FORMAT, "version": VERSION, "of": of}
    value |= {"parts": list(evaluation.parts), "figures": evaluation.figures}
    if evaluation.machine is not None:
        value["machine"] = dict(evaluation.machine)
    write_json(folder / EVALUATION, {**value, "sha256": _digest(value)})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
