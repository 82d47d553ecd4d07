"""Common style of all figures: colours, fonts, sizes, and saving."""

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
"""Width in inches of a figure across both columns of a paper."""
COLUMN_WIDTH = 3.4
"""Width in inches of one column."""

ACCENT, SECOND, NEUTRAL, LIGHT = "#3f90da", "#e76300", "#4d4d4d", "#c9ced4"
"""Colours of figures without classes: our result, a second one, a neutral one, and the background."""

_CLASSES = (
    # Eight of Petroff's ten colours (2021). His two greys, which look like missing values among points, are replaced
    # by a green and a pink. Any two colours are at least 14 CIELAB units apart, also with each of the three
    # colour vision deficiencies (simulated); matplotlib's tab10 has pairs at 5.
    *("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#0b4f37", "#b9ac70", "#92dadd", "#e76300", "#f0479c"),
    # Ten more, found by maximising the distance to all previous ones: at least 13 units.
    *("#0505fa", "#422e57", "#05e6a8", "#a8e66b", "#e6a8fa", "#d105fa", "#fa6bfa", "#6b1a05", "#a80542", "#05a82e"),
)
MOST_COLOURS = len(_CLASSES)

TITLE_SIZE, LEGEND_SIZE = 9.0, 7.5
"""Font sizes in points."""
_AVERAGE = 0.65
"""Width of an average character, relative to the font size."""
_lock = threading.RLock()
"""Guards matplotlib's global state, which only one thread may change at a time."""
_FORMATS = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""The supported suffixes, with the metadata to omit so that equal figures are equal files."""
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
    """``n`` class colours that are distinct with colour vision deficiencies; beyond MOST_COLOURS they repeat."""
    return [_CLASSES[i % MOST_COLOURS] for i in range(n)]


def line_colours(n: int) -> list[str]:
    """``n`` colours for lines on white; pale ones are used only if many are needed."""
    first = [ACCENT, SECOND, "#832db6", NEUTRAL]
    return first[:n] if n <= len(first) else colours(n)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise UsageError if the name does not end in a supported format, before any work is done."""
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
    """Create a figure with ``count`` axes in the common style, saved to ``path`` at the end of the ``with`` block.

    The same input gives the same bytes. If the file cannot be written (SoftVQError), an old file is unchanged.

    Args:
        path: its suffix is the format (UsageError).
        size: width and height in inches.
        count: number of axes; the rest of the last row stays empty.
        columns: axes per row.
        reporter: receives a note on characters that no installed font has.
        subplots: other arguments of ``Figure.subplots``.
    """
    check_suffix(path)
    _load_matplotlib(Path(path).parent)
    import matplotlib
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    # Start from matplotlib's defaults, so that a matplotlibrc has no effect, but keep the user's backend.
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
                silence.enter_context(quiet(UserWarning))  # matplotlib warns about each missing character
            drawing.savefig(picture, format=suffix[1:], dpi=300, metadata=_FORMATS[suffix])
    with atomic_write(path) as file:
        file.write(picture.getbuffer())


def _load_matplotlib(folder: Path) -> None:
    """Import matplotlib independently of the user's display and settings.

    If no temporary folder is writable, ``folder`` is used for matplotlib's cache during the import.
    """
    if "matplotlib.font_manager" in sys.modules:
        return
    # MPLBACKEND is for windows; a backend that is not installed would make the import fail.
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
    """Approximate number of characters of a font size that fit into a line."""
    return int(inches * 72 / points / _AVERAGE)


def legend_below(drawing: Figure, handles: Sequence[Any], columns: int) -> None:
    """Draw one legend for all panels."""
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=0.8, handletextpad=0.5, columnspacing=1
    )
