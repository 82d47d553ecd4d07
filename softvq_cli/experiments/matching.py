"""Models at a common reconstruction error, as in the paper's Figure 4.

Every model is first trained in full. The target is the error at which the paper's own model ends, the soft VQ-VAE,
unless another is given: the largest error of all would be that of the weakest bottleneck, which the others pass before
they have learned much. Each run is then repeated up to the first line of its log at or below the target; a model that
never comes down to it is shown in full. With the same seed it is the same run, cut short; nothing in it depends on how
long it was meant to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from softvq_cli.experiments.cell import Cell
from softvq_cli.training import log

REFERENCE = "soft-vq"
"""The row whose last error the others are stopped at; without it, the largest of all."""


@dataclass(frozen=True)
class Matched:
    """What is to be trained and measured."""

    cells: tuple[Cell, ...]
    target: float | None
    """None where nothing was trained."""
    notes: tuple[str, ...]


def match(cells: Sequence[Cell], target: float | None, parts: tuple[str, ...]) -> Matched:
    """Cut trained runs at a common validation error.

    Args:
        cells: trained in full.
        target: the nMSE to stop at; the reference's last one unless given, of several seeds the largest.
        parts: to be measured.
    """
    curves = {cell: [(line["step"], line["val_nmse"]) for line in log.read(cell.folder)] for cell in cells}
    if target is None:
        ends = {cell: curve[-1][1] for cell, curve in curves.items() if curve}
        target = max([end for cell, end in ends.items() if cell.row == REFERENCE] or ends.values(), default=None)
    if target is None:
        return Matched((), None, ())
    matched, notes = (
        [],
        [f"every model stops at the first line of its log with a validation nMSE of {target:.4f} or less"],
    )
    for cell, curve in curves.items():
        step = next((step for step, error in curve if error <= target), None)
        if step is None:
            notes.append(f"{cell.name} does not come down to it, and is shown after all its {cell.steps} iterations")
        matched.append(_cut(cell, step or cell.steps, parts))
    return Matched(tuple(matched), target, tuple(notes))


def _cut(cell: Cell, step: int, parts: tuple[str, ...]) -> Cell:
    """The same run with ``step`` iterations, in a folder of its own; a run that needs all of them stays where it is."""
    if step == cell.steps:
        return dataclasses.replace(cell, parts=parts)
    train = dataclasses.replace(cell.config.train, iterations=step)
    config = dataclasses.replace(cell.config, train=train)
    return dataclasses.replace(cell, folder=cell.folder.with_name(f"{cell.name}-i{step}"), config=config, parts=parts)
