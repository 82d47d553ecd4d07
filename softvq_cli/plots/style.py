"""What all figures share: colours, fonts, sizes, and how they are saved."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import UsageError
from softvq_cli.files import atomic_write
from softvq_cli.plots import text
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT_WIDTH = 7.0
"""Inches: across both columns of a paper."""
COLUMN_WIDTH = 3.4
"""Inches: one column."""

ACCENT, SECOND, NEUTRAL, LIGHT = "#3f90da", "#e76300", "#4d4d4d", "#c9ced4"
"""For figures without classes: ours, another, what is neither, and what should stay in the background."""

_CLASSES = (
    # Eight of Petroff's ten (2021); his two greys, which among points look like missing values, gave way to
    # a green and a pink. Two colours are 14 CIELAB units apart or more, without and with each of the three
    # colour vision deficiencies (simulated); matplotlib's tab10 comes down to 5.
    *("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#0b4f37", "#b9ac70", "#92dadd", "#e76300", "#f0479c"),
    # Ten more, found by search for the largest distance to all before: 13 units or more.
    *("#0505fa", "#422e57", "#05e6a8", "#a8e66b", "#e6a8fa", "#d105fa", "#fa6bfa", "#6b1a05", "#a80542", "#05a82e"),
)
MOST_COLOURS = len(_CLASSES)

TITLE_SIZE, LEGEND_SIZE = 9.0, 7.5
"""Points."""
_KEY = 0.33
"""Inches of a legend's column beside the name."""
_FORMATS = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""The suffixes, each with the metadata that would make two equal figures differ."""
_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": [text.FONT],
    "text.parse_math": False,  # a class may be called $x_1$
    "font.size": 8,
    "axes.titlesize": TITLE_SIZE,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": LEGEND_SIZE,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": NEUTRAL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "errorbar.capsize": 2,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "path",
    "svg.hashsalt": "softvq",
}


def colours(n: int) -> list[str]:
    """``n`` colours for classes, told apart with a colour vision deficiency too; beyond MOST_COLOURS they repeat."""
    return [_CLASSES[i % MOST_COLOURS] for i in range(n)]


def line_colours(n: int) -> list[str]:
    """``n`` colours for lines on white, without the pale ones where there are few."""
    first = [ACCENT, SECOND, "#832db6", NEUTRAL]
    return first[:n] if n <= len(first) else colours(n)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a name that does not end in a format that can be drawn (UsageError), before any work is done for it."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise UsageError(f"cannot draw {path}: the name of a figure ends in {', '.join(_FORMATS)}")


@contextlib.contextmanager
def figure(
    path: str | os.PathLike[str], width: float, height: float, reporter: Reporter | None = None
) -> Iterator[Figure]:
    """A figure in the common style, saved to ``path`` when the body is done. The same input gives the same bytes.

    ``width`` and ``height`` are inches; ``reporter`` is told of characters that no font here has. Another suffix is a
    UsageError, a file that cannot be written a SoftVQError, and then nothing is changed.
    """
    check_suffix(path)
    matplotlib = text.load_matplotlib(Path(path).parent)
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    # From matplotlib's own defaults, so that a matplotlibrc changes nothing; the backend is its user's.
    settings: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with text.lock, matplotlib.rc_context(settings | _RC):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        for line in text.give_fonts(drawing):
            (reporter or Reporter()).note(line)
        picture = io.BytesIO()
        drawing.savefig(picture, format=suffix[1:], dpi=300, metadata=_FORMATS[suffix])
    with atomic_write(path) as file:
        file.write(picture.getbuffer())


@contextlib.contextmanager
def panels(
    path: str | os.PathLike[str],
    count: int,
    columns: int,
    width: float,
    height: float,
    reporter: Reporter | None = None,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A :func:`figure` with ``count`` axes in ``columns``; the rest of the last row stays empty."""
    with figure(path, width, height, reporter) as drawing:
        axes = list(drawing.subplots(-(-count // columns), columns, squeeze=False).flat)
        for unused in axes[count:]:
            unused.set_axis_off()
        yield drawing, axes[:count]


def legend_shape(names: Sequence[str], inches: float) -> tuple[int, int]:
    """(rows, columns) of a legend of these names that fits into ``inches``; columns are filled first."""
    entry = _KEY + max(text.width(name, LEGEND_SIZE) for name in names)
    rows = -(-len(names) // max(1, int(inches / entry)))
    return rows, -(-len(names) // rows)


def legend_names(names: Sequence[str], inches: float) -> list[str]:
    """The names as a legend of one column in ``inches`` can show them."""
    return text.fitted(names, inches - _KEY, LEGEND_SIZE)


def legend_below(drawing: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend for all panels."""
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=0.8, handletextpad=0.5, columnspacing=1
    )
