"""How a run went: the lines of its ``metrics.jsonl`` against the step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import InputError
from softvq_cli.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ERRORS = {"nmse": "training", "val_nmse": "validation"}
_CODEBOOK = {"perplexity": "perplexity", "active_codes": "active codes"}
_LOGARITHMIC = ("normalised MSE", "loss terms, unweighted")
_ELSEWHERE = {"step", "loss", "seconds", "steps_per_second", "posterior_entropy_bits", *_ERRORS, *_CODEBOOK}


def plot(path: str | os.PathLike[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw the reconstruction error, the bottleneck's loss terms and the use of the codebook, a panel each.

    Args:
        path: ends in .png, .pdf or .svg.
        lines: as read from ``metrics.jsonl``; what a run does not have is left out.

    Raises:
        InputError: no line.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    if not lines:
        raise InputError("the run has no metrics to draw yet")
    drawn = groups(lines)
    columns = min(len(drawn), 2)
    rows = -(-len(drawn) // columns)
    with style.figure(path, style.COLUMN_WIDTH * columns, 2.2 * rows) as drawing:
        axes = style.panels(drawing, rows, columns, len(drawn))
        for axis, (label, series) in zip(axes, drawn.items(), strict=True):
            _panel(axis, lines, label, series)


def groups(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What belongs into one panel: the panel's title → name in ``metrics.jsonl`` → what to call it."""
    names = list(dict.fromkeys(name for line in lines for name in line if _is_number(line[name])))
    wanted = {
        _LOGARITHMIC[0]: {name: _ERRORS[name] for name in _ERRORS if name in names},
        _LOGARITHMIC[1]: {name: name.replace("_", " ") for name in names if name not in _ELSEWHERE},
        "codes": {name: _CODEBOOK[name] for name in _CODEBOOK if name in names},
        "posterior entropy (bits)": {name: "" for name in names if name == "posterior_entropy_bits"},
    }
    return {title: series for title, series in wanted.items() if series}


def is_logarithmic(title: str, values: Sequence[float]) -> bool:
    """Whether a panel of :func:`groups` gets a logarithmic axis: errors that span more than a decade do."""
    return title in _LOGARITHMIC and min(values) > 0 and max(values) > 10 * min(values)


def _panel(axis: Axes, lines: Sequence[Mapping[str, Any]], label: str, series: Mapping[str, str]) -> None:
    """One line a measure; errors that span more than a decade get a logarithmic axis."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    every: list[float] = []
    lines_of = zip(series.items(), style.line_colours(len(series)), strict=True)
    for number, ((name, text), colour) in enumerate(lines_of):
        points = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
        every += [y for _, y in points]
        marker = "o" if len(points) == 1 else ""
        # Later lines are dashed: the codebook and the commitment term have one value, and both should be seen.
        style_of_line = "-" if number == 0 else (0, (4, 2 + number))
        axis.plot(*zip(*points, strict=True), color=colour, label=text, marker=marker, markersize=3, ls=style_of_line)
    if is_logarithmic(label, every):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set(xlabel="iteration", ylabel=label)
    axis.grid()
    if len(series) > 1 or label.startswith("loss"):
        axis.legend()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
