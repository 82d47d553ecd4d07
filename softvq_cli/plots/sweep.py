"""Results against one numeric setting, with the spread over the seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.plots import style


def plot(
    path: str | os.PathLike[str],
    setting: str,
    values: Sequence[float],
    measures: Mapping[str, Sequence[Sequence[float]]],
) -> None:
    """Draw a panel a measure: the mean at each value of the setting, one point a seed, a band of ± one deviation.

    Args:
        path: ends in .png, .pdf or .svg.
        setting: its name, for the axis.
        values: of the setting; in any order, at least one.
        measures: by title, the results at each value, one or more each (one a seed).

    Raises:
        InputError: nothing to draw, or a measure without results for each value.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    if not values or not measures:
        raise InputError("the sweep has no result to draw")
    for title, results in measures.items():
        if len(results) != len(values) or not all(map(len, results)):
            raise InputError(f"{title!r} does not have a result for each of the {len(values)} values of {setting}")
    from matplotlib.ticker import NullFormatter

    order = np.argsort(values, kind="stable")
    x = np.asarray(values, dtype=np.float64)[order]
    columns = min(len(measures), 3)
    rows = -(-len(measures) // columns)
    width = style.TEXT_WIDTH if columns > 1 else style.COLUMN_WIDTH
    with style.figure(path, width, 2.1 * rows) as drawing:
        axes = style.panels(drawing, rows, columns, len(measures))
        for axis, (title, results) in zip(axes, measures.items(), strict=True):
            runs = [np.asarray(results[i], dtype=np.float64) for i in order]
            mean = np.array([run.mean() for run in runs])
            std = np.array([run.std(ddof=1) if len(run) > 1 else 0.0 for run in runs])
            axis.fill_between(x, mean - std, mean + std, color=style.ACCENT, alpha=0.18, linewidth=0)
            axis.plot(x, mean, color=style.ACCENT, marker="o", markersize=3.5)
            for at, run in zip(x, runs, strict=True):
                if len(run) > 1:
                    axis.plot(np.full(len(run), at), run, ".", color=style.NEUTRAL, markersize=3, markeredgewidth=0)
            if x[0] > 0 and x[-1] >= 8 * x[0]:
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter("{x:g}")
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set(xlabel=setting, title=title)
            if len(x) <= 8:
                axis.set_xticks(x)
                axis.minorticks_off()
            axis.grid()
