"""A bar chart that compares a published table with our results."""

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


_LONGEST = 40
"""Maximum length of a row's name."""
_ERRORS = {"ecolor": "black", "elinewidth": 0.8, "capthick": 0.8}
_WIDE, _TITLE = 3, 12
"""From this many columns, titles are wrapped to lines of this many characters."""


@dataclass(frozen=True)
class Column:
    """One column of a table; None is an empty cell."""

    title: str
    mean: Sequence[float | None]
    std: Sequence[float | None]
    """Standard deviations; None also for a single run."""
    paper: Sequence[float | None]


def plot(
    path: str | os.PathLike[str],
    rows: Sequence[str],
    columns: Sequence[Column],
    *,
    paper: str = "paper",
    reporter: Reporter | None = None,
) -> None:
    """Draw one panel per column: for each row, our mean with its standard deviation, and below it the paper's value.

    Values of a column have the unit in its title; ``paper`` is the legend of the published values; ``reporter``
    receives a note on characters that no installed font has.
    """
    if not rows or not columns:
        raise InputError("the table has no cell to draw")
    for column in columns:
        if not len(column.mean) == len(column.std) == len(column.paper) == len(rows):
            raise InputError(f"the column {column.title!r} has not one cell for each of the {len(rows)} rows")
    width = style.TEXT_WIDTH if len(columns) > 1 else style.COLUMN_WIDTH + 0.6
    size = width, 0.33 * len(rows) + 0.75
    published = any(number is not None for column in columns for number in column.paper)
    with style.panels(path, size, len(columns), len(columns), reporter=reporter, sharey=True) as (drawing, axes):
        for axis, column in zip(axes, columns, strict=True):
            _panel(axis, column, paper=paper if published else None)
            if len(columns) > _WIDE:
                lines = (textwrap.fill(line, _TITLE, break_long_words=False) for line in column.title.splitlines())
                axis.set_title("\n".join(lines))
        axes[0].set_yticks(range(len(rows)), text.shortened(rows, _LONGEST))
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        style.legend_below(drawing, axes[0].get_legend_handles_labels()[0], 2)


def _panel(axis: Axes, column: Column, *, paper: str | None) -> None:
    ours_at, height = (0.0, 0.6) if paper is None else (-0.19, 0.36)
    bars = {"this program, mean ± standard deviation": (column.mean, column.std, ours_at, style.ACCENT)}
    if paper is not None:
        bars[paper] = (column.paper, [None] * len(column.paper), 0.19, style.LIGHT)
    numbers = [number for values, *_ in bars.values() for number in values if number is not None]
    places = 0 if all(number == round(number) for number in numbers) else 1 if max(numbers) >= 1.5 else 3
    for label, (values, deviations, offset, colour) in bars.items():
        ends, errors = np.array(values, float), np.array(deviations, float)  # None becomes NaN
        y = np.arange(len(ends)) + offset
        drawn = axis.barh(y, ends, height, color=colour, label=label, xerr=errors, error_kw=_ERRORS)
        texts = ["" if np.isnan(end) else f"{end:.{places}f}" for end in ends]
        axis.bar_label(drawn, texts, padding=3, fontsize=6)
    axis.set_title(column.title)
    axis.tick_params(left=False)
    axis.grid(axis="x")
    axis.margins(x=0.16)
    axis.set_xlim(left=0)
