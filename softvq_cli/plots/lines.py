"""Line plots: training curves, models compared over the training, and results against a setting."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.statistics import FEWEST
from softvq_cli.plots import style
from softvq_cli.ranges import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ERRORS = {"nmse": "training", "test_nmse": "test"}
_CODEBOOK = {"perplexity": "perplexity", "active_codes": "active codes"}
_LOGARITHMIC = ("normalised MSE", "loss terms, unweighted")
_ELSEWHERE = {"step", "loss", "seconds", "steps_per_second", "posterior_entropy_bits", *_ERRORS, *_CODEBOOK}
_MARKERS = "osD^vPX*<>p"
_LEGEND_COLUMNS = 3
_MOST_TICKS = 8


def training(path: str | os.PathLike[str], log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the reconstruction error, the bottleneck's loss terms and the codebook usage against the step.

    ``log`` has the lines of ``metrics.jsonl``; metrics that a run does not have are omitted.
    """
    if not log:
        raise InputError("the run has no metrics to draw yet")
    panels = training_panels(log)
    columns = min(len(panels), 2)
    height = 2.2 * -(-len(panels) // columns)
    with style.panels(path, (style.COLUMN_WIDTH * columns, height), len(panels), columns) as (_, axes):
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            _training_panel(axis, log, title, series)


def training_panels(log: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The panels of a log: title → name in ``metrics.jsonl`` → legend of the line."""
    names = list(dict.fromkeys(name for line in log for name in line if is_number(line[name])))
    panels = {
        _LOGARITHMIC[0]: {name: _ERRORS[name] for name in _ERRORS if name in names},
        _LOGARITHMIC[1]: {name: name.replace("_", " ") for name in names if name not in _ELSEWHERE},
        "codes": {name: _CODEBOOK[name] for name in _CODEBOOK if name in names},
        "posterior entropy (bits)": {name: "" for name in names if name == "posterior_entropy_bits"},
    }
    return {title: series for title, series in panels.items() if series}


def is_logarithmic(title: str, values: Sequence[float]) -> bool:
    """Whether a panel of :func:`training_panels` has a logarithmic axis: errors that span more than a decade."""
    return title in _LOGARITHMIC and min(values) > 0 and max(values) > 10 * min(values)


def _training_panel(axis: Axes, log: Sequence[Mapping[str, Any]], title: str, series: Mapping[str, str]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    values: list[float] = []
    for i, (name, colour) in enumerate(zip(series, style.line_colours(len(series)), strict=True)):
        points = [(line["step"], line[name]) for line in log if is_number(line.get(name))]
        values += [y for _, y in points]
        marker = "o" if len(points) == 1 else ""
        # Later lines are dashed, because the codebook and commitment terms are equal and both should be visible.
        dash = "-" if i == 0 else (0, (4, 2 + i))
        axis.plot(*zip(*points, strict=True), color=colour, label=series[name], marker=marker, markersize=3, ls=dash)
    if is_logarithmic(title, values):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set(xlabel="iteration", ylabel=title)
    axis.grid()
    if len(series) > 1 or title.startswith("loss"):
        axis.legend()


Line = Mapping[float, Sequence[float]]
"""Iterations, or the value of another setting → the results of its trainings."""


@dataclass(frozen=True)
class Panel:
    """One measure."""

    title: str
    lines: Mapping[str, Line]
    """Lines by model name."""


def course(path: str | os.PathLike[str], panels: Sequence[Panel], setting: str = "iterations") -> None:
    """Draw one panel per measure against ``setting``: a line of means per model, and a dot per training.

    With at least three trainings there are bars of one standard deviation. A model has the same style in all panels.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    results = [values for panel in panels for line in panel.lines.values() for values in line.values()]
    if not names or not all(map(len, results)):
        raise InputError(f"there is no result to draw against {setting}")
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    height = 2.5 * -(-len(panels) // columns) + 0.2 * -(-len(names) // _LEGEND_COLUMNS)
    colours = style.line_colours(len(names)) if len(names) > 1 else [style.ACCENT]
    looks = {name: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(names)}
    with style.panels(path, (style.TEXT_WIDTH, height), len(panels), columns) as (drawing, axes):
        for axis, panel in zip(axes, panels, strict=True):
            for name, line in panel.lines.items():
                _draw_line(axis, name, line, *looks[name])
            _set_scale(axis, sorted({x for line in panel.lines.values() for x in line}))
            axis.set(xlabel=setting, title=panel.title)
            axis.grid()
        if len(names) > 1:
            handles = {
                label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
            }
            drawing.legend(handles=list(handles.values()), loc="outside lower center", ncols=_LEGEND_COLUMNS)


def _draw_line(axis: Axes, name: str, line: Line, colour: Any, marker: str) -> None:
    x = sorted(line)
    means = [float(np.mean(line[at])) for at in x]
    # The standard deviation of two values says little.
    errors = [float(np.std(line[at], ddof=1)) if len(line[at]) >= FEWEST else 0.0 for at in x]
    axis.errorbar(x, means, errors, color=colour, marker=marker, markersize=3.5, label=name, elinewidth=0.8)
    for at in x:
        if len(line[at]) > 1:
            axis.plot([at] * len(line[at]), line[at], ".", color=colour, alpha=0.5, markersize=3, markeredgewidth=0)


def _set_scale(axis: Axes, x: Sequence[float]) -> None:
    """Use a logarithmic scale if the values span a factor of eight; if there are few values, each has a tick."""
    from matplotlib.ticker import NullFormatter

    if x[0] > 0 and x[-1] >= 8 * x[0]:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
    if len(x) <= _MOST_TICKS:
        axis.set_xticks(x, [f"{value:,.6g}".replace(",", " ") for value in x])
        axis.minorticks_off()
