"""Lines: how a training went, how models compare along their training, and results against a setting."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ERRORS = {"nmse": "training", "test_nmse": "test"}
_CODEBOOK = {"perplexity": "perplexity", "active_codes": "active codes"}
_LOGARITHMIC = ("normalised MSE", "loss terms, unweighted")
_ELSEWHERE = {"step", "loss", "seconds", "steps_per_second", "posterior_entropy_bits", *_ERRORS, *_CODEBOOK}
_MARKERS = "osD^vPX*<>p"
_LEGEND_COLUMNS = 3


def training(path: str | os.PathLike[str], log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the reconstruction error, the bottleneck's loss terms and the use of the codebook against the step.

    ``log`` are the lines of ``metrics.jsonl``; what a run does not have is left out.
    """
    if not log:
        raise InputError("the run has no metrics to draw yet")
    panels = training_panels(log)
    columns = min(len(panels), 2)
    height = 2.2 * -(-len(panels) // columns)
    with style.panels(path, len(panels), columns, style.COLUMN_WIDTH * columns, height) as (_, axes):
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            _training_panel(axis, log, title, series)


def training_panels(log: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What belongs into one panel: the panel's title → name in ``metrics.jsonl`` → label of its line."""
    names = list(dict.fromkeys(name for line in log for name in line if _is_number(line[name])))
    panels = {
        _LOGARITHMIC[0]: {name: _ERRORS[name] for name in _ERRORS if name in names},
        _LOGARITHMIC[1]: {name: name.replace("_", " ") for name in names if name not in _ELSEWHERE},
        "codes": {name: _CODEBOOK[name] for name in _CODEBOOK if name in names},
        "posterior entropy (bits)": {name: "" for name in names if name == "posterior_entropy_bits"},
    }
    return {title: series for title, series in panels.items() if series}


def is_logarithmic(title: str, values: Sequence[float]) -> bool:
    """Whether a panel of :func:`training_panels` gets a logarithmic axis: errors that span more than a decade do."""
    return title in _LOGARITHMIC and min(values) > 0 and max(values) > 10 * min(values)


def _training_panel(axis: Axes, log: Sequence[Mapping[str, Any]], title: str, series: Mapping[str, str]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    values: list[float] = []
    for i, (name, colour) in enumerate(zip(series, style.line_colours(len(series)), strict=True)):
        points = [(line["step"], line[name]) for line in log if _is_number(line.get(name))]
        values += [y for _, y in points]
        marker = "o" if len(points) == 1 else ""
        # Later lines are dashed: the codebook and the commitment term have one value, and both should be seen.
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def course(path: str | os.PathLike[str], panels: Sequence[Panel]) -> None:
    """Draw a panel per measure against the iterations, logarithmic; a model has the same line in each."""
    from matplotlib.ticker import NullFormatter

    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    if not names:
        raise InputError("no model was measured along its training")
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    height = 2.5 * -(-len(panels) // columns) + 0.2 * -(-len(names) // _LEGEND_COLUMNS)
    looks = {
        name: (colour, _MARKERS[i % len(_MARKERS)])
        for i, (name, colour) in enumerate(zip(names, style.line_colours(len(names)), strict=True))
    }
    with style.panels(path, len(panels), columns, style.TEXT_WIDTH, height) as (drawing, axes):
        for axis, panel in zip(axes, panels, strict=True):
            for name, line in panel.lines.items():
                points = sorted(line, key=lambda point: point.iterations)
                x, mean, std = zip(*((point.iterations, point.mean, point.std) for point in points), strict=True)
                colour, marker = looks[name]
                axis.errorbar(x, mean, std, color=colour, marker=marker, markersize=3.5, label=name, elinewidth=0.8)
            steps = sorted({point.iterations for line in panel.lines.values() for point in line})
            axis.set_xscale("log")
            axis.set_xticks(steps, [f"{step:,}".replace(",", " ") for step in steps])
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.minorticks_off()
            axis.set(xlabel="iterations", title=panel.title)
            axis.grid()
        handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        drawing.legend(handles=list(handles.values()), loc="outside lower center", ncols=_LEGEND_COLUMNS)


def sweep(
    path: str | os.PathLike[str],
    setting: str,
    values: Sequence[float],
    measures: Mapping[str, Sequence[Sequence[float]]],
) -> None:
    """Draw a panel per measure: the mean at each value of the setting, a point per seed, a band of ± one deviation.

    ``values`` of the ``setting`` come in any order; ``measures`` have by title the results at each value, one per seed.
    """
    from matplotlib.ticker import NullFormatter

    if not values or not measures:
        raise InputError("the sweep has no result to draw")
    for title, results in measures.items():
        if len(results) != len(values) or not all(map(len, results)):
            raise InputError(f"{title!r} does not have a result for each of the {len(values)} values of {setting}")
    order = np.argsort(values, kind="stable")
    x = np.asarray(values, dtype=np.float64)[order]
    columns = min(len(measures), 3)
    width = style.TEXT_WIDTH if columns > 1 else style.COLUMN_WIDTH
    with style.panels(path, len(measures), columns, width, 2.1 * -(-len(measures) // columns)) as (_, axes):
        for axis, (title, results) in zip(axes, measures.items(), strict=True):
            runs = [np.asarray(results[i], dtype=np.float64) for i in order]
            mean = np.array([run.mean() for run in runs])
            std = np.array([run.std(ddof=1) if len(run) > 1 else 0.0 for run in runs])
            axis.fill_between(x, mean - std, mean + std, color=style.ACCENT, alpha=0.18, linewidth=0)
            axis.plot(x, mean, color=style.ACCENT, marker="o", markersize=3.5)
            for value, run in zip(x, runs, strict=True):
                if len(run) > 1:
                    axis.plot([value] * len(run), run, ".", color=style.NEUTRAL, markersize=3, markeredgewidth=0)
            if x[0] > 0 and x[-1] >= 8 * x[0]:
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter("{x:g}")
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set(xlabel=setting, title=title)
            if len(x) <= 8:
                axis.set_xticks(x)
                axis.minorticks_off()
            axis.grid()
