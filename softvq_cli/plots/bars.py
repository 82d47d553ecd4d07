"""A published table and ours, as bars side by side."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.plots import style, text
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NAMES, _NAME_SIZE = 2.2, 7.0
"""Inches for the names of the rows, and their size in points."""
_WIDE, _TITLE = 3, 12
"""From more columns on, titles are broken into lines of so many characters."""


@dataclass(frozen=True)
class Column:
    """One column of a table; None stands for an empty cell."""

    title: str
    mean: Sequence[float | None]
    std: Sequence[float | None]
    """None also where there was one run only."""
    paper: Sequence[float | None]


def plot(
    path: str | os.PathLike[str],
    rows: Sequence[str],
    columns: Sequence[Column],
    *,
    paper: str = "paper",
    reporter: Reporter | None = None,
) -> None:
    """Draw a panel a column: for each row our mean with its standard deviation, and below it what the paper has of any.

    All columns are in the unit that their title says; ``paper`` is what the legend calls the published numbers, and
    ``reporter`` is told of characters that no font here has.
    """
    if not rows or not columns:
        raise InputError("the table has no cell to draw")
    for column in columns:
        if not len(column.mean) == len(column.std) == len(column.paper) == len(rows):
            raise InputError(f"the column {column.title!r} has not one cell for each of the {len(rows)} rows")
    width = style.TEXT_WIDTH if len(columns) > 1 else style.COLUMN_WIDTH + 0.6
    with style.figure(path, width, 0.33 * len(rows) + 0.75, reporter) as drawing:
        axes = drawing.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        published = any(paper is not None for column in columns for paper in column.paper)
        for axis, column in zip(axes, columns, strict=True):
            _panel(axis, column, paper=paper if published else None)
            if len(columns) > _WIDE:
                axis.set_title("\n".join(textwrap.fill(line, _TITLE) for line in column.title.splitlines()))
        axes[0].set_yticks(range(len(rows)), text.fitted(rows, _NAMES, _NAME_SIZE))
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        style.legend_below(drawing, axes[0].get_legend_handles_labels()[0], 2)


def _panel(axis: Axes, column: Column, *, paper: str | None) -> None:
    ours_at, height = (0.0, 0.6) if paper is None else (-0.19, 0.36)
    y = np.arange(len(column.mean))
    ours = np.array([np.nan if mean is None else mean for mean in column.mean])
    theirs = np.array([np.nan if paper is None else paper for paper in column.paper])
    errors = [np.nan if std is None else std for std in column.std]
    axis.barh(y + ours_at, ours, height, color=style.ACCENT, label="this program, mean ± standard deviation")
    if paper is not None:
        axis.barh(y + 0.19, theirs, height, color=style.LIGHT, label=paper)
    axis.errorbar(ours, y + ours_at, xerr=errors, fmt="none", ecolor="black", elinewidth=0.8, capthick=0.8)
    for row, values in enumerate(zip(ours, theirs, errors, strict=True)):
        for value, offset, error in ((values[0], ours_at, values[2]), (values[1], 0.19, 0.0)):
            if np.isfinite(value):
                text = f"{value:.1f}" if value >= 1.5 else f"{value:.3f}"
                end = value + np.nan_to_num(error)
                axis.annotate(text, (end, row + offset), (3, 0), textcoords="offset points", va="center", fontsize=6)
    axis.set_title(column.title)
    axis.tick_params(left=False)
    axis.grid(axis="x")
    axis.margins(x=0.16)
    axis.set_xlim(left=0)
