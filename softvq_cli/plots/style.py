"""What all figures share: colours, fonts, sizes, and how they are saved."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import UsageError
from softvq_cli.files import atomic_write, temporary_folder
from softvq_cli.plots import text
from softvq_cli.process import environment, quiet
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
_AVERAGE = 0.65
"""Width of a character, as a share of the font's size."""
_lock = threading.RLock()
"""Of what matplotlib has for the whole process, which threads can only have in turn."""
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
def panels(
    path: str | os.PathLike[str],
    size: tuple[float, float],
    count: int = 1,
    columns: int = 1,
    *,
    reporter: Reporter | None = None,
    **subplots: Any,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``count`` axes in the common style, saved to ``path`` when the body is done.

    The same input gives the same bytes. If the file cannot be written (SoftVQError), nothing is changed.

    Args:
        path: its suffix is the format (UsageError).
        size: width and height in inches.
        count: number of axes; the rest of the last row stays empty.
        columns: axes side by side.
        reporter: is told of characters that no font here has.
        subplots: other arguments of ``Figure.subplots``.
    """
    check_suffix(path)
    _load_matplotlib(Path(path).parent)
    import matplotlib
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    # From matplotlib's own defaults, so that a matplotlibrc changes nothing; the backend is its user's.
    settings: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with _lock, matplotlib.rc_context(settings | _RC):
        drawing = Figure(figsize=size, layout="constrained")
        axes = list(drawing.subplots(-(-count // columns), columns, squeeze=False, **subplots).flat)
        for unused in axes[count:]:
            unused.set_axis_off()
        yield drawing, axes[:count]
        picture = io.BytesIO()
        with contextlib.ExitStack() as silence:
            if note := text.give_fonts(drawing):
                (reporter or Reporter()).note(note)
                silence.enter_context(quiet(UserWarning))  # matplotlib warns of each character
            drawing.savefig(picture, format=suffix[1:], dpi=300, metadata=_FORMATS[suffix])
    with atomic_write(path) as file:
        file.write(picture.getbuffer())


def _load_matplotlib(folder: Path) -> None:
    """Import matplotlib, whatever windows or settings the user has.

    ``folder`` takes its settings while it loads where no folder for temporary files is writable.
    """
    if "matplotlib.font_manager" in sys.modules:
        return
    # MPLBACKEND is for windows, and a backend that is not installed would keep matplotlib from loading.
    changes: dict[str, str | None] = {"MPLBACKEND": None}
    writable = False
    with _lock, contextlib.ExitStack() as place:
        with contextlib.suppress(OSError):
            writable = os.path.isdir(tempfile.gettempdir())
        if not writable:
            changes["MPLCONFIGDIR"] = str(place.enter_context(temporary_folder(folder)))
        with environment(changes):
            importlib.import_module("matplotlib.font_manager")


def fitting(inches: float, points: float) -> int:
    """About how many characters of a font's size fit into a line."""
    return int(inches * 72 / points / _AVERAGE)


def legend_below(drawing: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend for all panels."""
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=0.8, handletextpad=0.5, columnspacing=1
    )
