"""What several models are worth along their trainings: measures against the iterations, a line a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softvq_cli.errors import InputError
from softvq_cli.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vPX*<>p"
_LEGEND_COLUMNS = 3


@dataclass(frozen=True)
class Point:
    """A value after some iterations, with its standard deviation over the seeds; 0 where there is one."""

    iterations: int
    mean: float
    std: float


@dataclass(frozen=True)
class Panel:
    """One measure."""

    title: str
    lines: Mapping[str, Sequence[Point]]
    """By model."""


def plot(path: str | os.PathLike[str], panels: Sequence[Panel]) -> None:
    """Draw a panel a measure, with logarithmic iterations; a model has the same line in each.

    Args:
        path: ends in .png, .pdf or .svg.
        panels: with a point or more for each line.

    Raises:
        InputError: nothing to draw.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    if not names:
        raise InputError("no model was measured along its training")
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    below = 0.2 * -(-len(names) // _LEGEND_COLUMNS)
    looks = dict(zip(names, zip(style.line_colours(len(names)), _repeated(len(names)), strict=True), strict=True))
    with style.figure(path, style.TEXT_WIDTH, 2.5 * rows + below) as drawing:
        axes = style.panels(drawing, rows, columns, len(panels))
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel, looks)
        handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        drawing.legend(handles=list(handles.values()), loc="outside lower center", ncols=_LEGEND_COLUMNS)


def _panel(axis: Axes, panel: Panel, looks: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.ticker import NullFormatter

    steps = sorted({point.iterations for points in panel.lines.values() for point in points})
    for name, points in panel.lines.items():
        ordered = sorted(points, key=lambda point: point.iterations)
        x, y = [point.iterations for point in ordered], [point.mean for point in ordered]
        colour, marker = looks[name]
        axis.errorbar(
            x,
            y,
            [point.std for point in ordered],
            color=colour,
            marker=marker,
            markersize=3.5,
            label=name,
            elinewidth=0.8,
        )
    axis.set_xscale("log")
    axis.set_xticks(steps, [f"{step:,}".replace(",", " ") for step in steps])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.set(xlabel="iterations", title=panel.title)
    axis.grid()


def _repeated(n: int) -> list[str]:
    return [_MARKERS[i % len(_MARKERS)] for i in range(n)]
