"""Figures of maps: one panel per embedding, as in the paper's Figure 4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.probe import name_classes
from softvq_cli.plots import style, text
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 3
_KEY, _WIDEST = 0.33, style.LEGEND_SIZE / 72
"""Inches of a legend column next to the name, and of its widest character, so that no entry leaves the page."""


@dataclass(frozen=True)
class Panel:
    """One map."""

    title: str
    coordinates: np.ndarray
    """(N, 2)."""
    labels: np.ndarray | None = None
    """int (N,)."""
    class_names: tuple[str, ...] = ()
    subtitle: str = ""
    """A second line, with text from this program."""


def plot(path: str | os.PathLike[str], maps: Sequence[Panel], reporter: Reporter | None = None) -> None:
    """Draw the maps side by side with one legend; a class has the same colour in all of them.

    Without labels the points have one colour. With more classes than colours, colours repeat, and a line replaces the
    legend. Names are plain text, shortened if they are wider than the page.

    Args:
        path: ends in .png, .pdf or .svg. In .pdf and .svg, the points are an image and the text is text.
        maps: at least one.
        reporter: receives notes on what the figure cannot show.
    """
    if not maps:
        raise InputError("there is no map to draw")
    for panel in maps:
        if panel.labels is not None and len(panel.labels) != len(panel.coordinates):
            raise InputError(f"{panel.title}: {len(panel.labels)} labels for {len(panel.coordinates)} points")
    maps = [_shown(panel) for panel in maps]
    classes = _classes(maps)
    colour = dict(zip(classes, style.colours(len(classes)), strict=True))
    columns = min(len(maps), _MOST_COLUMNS) if len(maps) != 4 else 2
    size = style.TEXT_WIDTH / columns if len(maps) > 1 else style.COLUMN_WIDTH + 0.6
    keys, legend_rows, legend_columns, below = [], 0, 0, ""
    if len(classes) > style.MOST_COLOURS:
        below, legend_rows = f"{len(classes)} classes share {style.MOST_COLOURS} colours, so there is no legend", 1
        (reporter or Reporter()).note(below)
    elif len(classes) > 1:
        keys = text.shortened(classes, int((size * columns - _KEY) / _WIDEST))
        legend_columns = max(1, int(size * columns / (_KEY + _WIDEST * max(map(len, keys)))))
        legend_rows = -(-len(keys) // legend_columns)
    above = 0.4 if any(panel.subtitle for panel in maps) else 0.2
    height = (size + above) * -(-len(maps) // columns) + 0.2 * legend_rows
    titles = text.shortened([panel.title for panel in maps], style.fitting(size, style.TITLE_SIZE))
    with style.panels(path, (size * columns, height), len(maps), columns, reporter=reporter) as (drawing, axes):
        for axis, panel, title in zip(axes, maps, titles, strict=True):
            _scatter(axis, panel, colour, size)
            axis.set_title(f"{title}\n{panel.subtitle}" if panel.subtitle else title)
        if keys:
            style.legend_below(drawing, list(map(_key, keys, colour.values())), legend_columns)
        elif below:
            drawing.supxlabel(below, size=style.LEGEND_SIZE)


def _shown(panel: Panel) -> Panel:
    """Remove rows that are not in the map, whose coordinates are NaN."""
    shown = np.isfinite(panel.coordinates[:, 0])
    labels = panel.labels if panel.labels is None else panel.labels[shown]
    return panel if shown.all() else replace(panel, coordinates=panel.coordinates[shown], labels=labels)


def _classes(maps: Sequence[Panel]) -> list[str]:
    """The names of the classes in any map, in the order of the first map that has them, or sorted naturally."""
    found: dict[str, None] = {}
    for panel in maps:
        if panel.labels is not None:
            found.update(dict.fromkeys(name_classes(np.unique(panel.labels), panel.class_names)))
    return text.natural_order(list(found))


def _scatter(axis: Axes, panel: Panel, colour: dict[str, str], size: float) -> None:
    """Draw the points in random order, so that the last class does not cover the others."""
    order = np.random.default_rng(0).permutation(len(panel.coordinates))
    points: Any = style.ACCENT
    if panel.labels is not None:
        classes, index = np.unique(panel.labels, return_inverse=True)
        of_class = [colour[name] for name in name_classes(classes, panel.class_names)]
        points = np.array(of_class)[index][order]
    x, y = panel.coordinates[order].T
    # All points together cover about a sixth of the panel; the area is in points^2 (1 point is 1/72 inch).
    area = float(np.clip(0.16 * (72 * size) ** 2 / len(x), 0.6, 14))
    axis.scatter(x, y, s=area, c=points, linewidths=0, alpha=0.85, rasterized=True)
    axis.set_aspect("equal", adjustable="datalim")
    axis.set(xticks=[], yticks=[])
    axis.margins(0.03)
    for spine in axis.spines.values():
        spine.set(visible=True, color=style.LIGHT)


def _key(name: str, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker="o", markersize=4.5, markeredgewidth=0, color=colour, label=name)
