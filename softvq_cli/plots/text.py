"""Names from folders and files as text in a figure: in a font that has their characters, as wide as there is room.

Also the one place that loads matplotlib, since its list of fonts comes with it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import one_line
from softvq_cli.files import temporary_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"
"""Comes with matplotlib: the same picture everywhere, as long as it has the characters."""
_NO_TEXT = re.compile(r"Last Resort|^cm|^STIX(Size|NonUni)")
"""Fonts that show a box for anything, or whose characters are not Unicode's."""
_DIGITS = re.compile(r"(\d+)")


lock = threading.RLock()
"""Of what matplotlib has for the whole process, which threads can only have in turn."""


def load_matplotlib(folder: Path | None = None) -> Any:
    """The module ``matplotlib`` with its list of fonts, whatever windows or settings the user has.

    ``folder`` takes its settings for as long as it loads, where neither they nor temporary files have a place.
    """
    if "matplotlib.font_manager" in sys.modules:
        return _imported()
    # MPLBACKEND is for windows, and one that is not here would keep it from loading.
    with lock, _variable("MPLBACKEND", None):
        try:
            return _imported()
        except OSError:
            if folder is None:
                raise
            for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
                del sys.modules[name]  # they know the half that failed
        with temporary_folder(folder) as settings, _variable("MPLCONFIGDIR", str(settings)):
            return _imported()


def _imported() -> Any:
    import matplotlib
    import matplotlib.font_manager

    return matplotlib


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """The environment variable with that value, or without one."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def natural_order(names: Sequence[str]) -> list[str]:
    """``names`` as they are, but where they stand in the order of the alphabet, as class folders do, 2 before 10."""
    return sorted(names, key=_natural) if list(names) == sorted(names) else list(names)


def _natural(name: str) -> tuple[Any, ...]:
    parts = _DIGITS.split(name)
    return tuple((int(part[:300]), part) if i % 2 else part for i, part in enumerate(parts))


def fitted(names: Sequence[str], inches: float, points: float) -> list[str]:
    """Each name on one line and not wider than ``inches`` at a size of ``points``; long ones lose their middle.

    Names that would become the same are told apart by their number in the list.
    """
    short = [_fitted(one_line(name, None), inches, points) for name in names]
    for i, (name, text) in enumerate(zip(names, short, strict=True)):
        if text != name and short.count(text) > 1:
            mark = f" ({i + 1})"
            short[i] = _fitted(one_line(name, None), inches - width(mark, points), points) + mark
    return short


def _fitted(name: str, inches: float, points: float) -> str:
    if width(name, points) <= inches:
        return name
    low, high = 0, len(name)  # characters that are kept
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if width(_without_middle(name, kept), points) <= inches else (low, kept - 1)
    return _without_middle(name, low)


def _without_middle(name: str, kept: int) -> str:
    return f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}"


def width(text: str, points: float) -> float:
    """Inches. Characters of other fonts are taken to be as wide as high."""
    return sum(map(_advance, text)) * points / 72


@functools.cache
def _advance(character: str) -> float:
    """In ems."""
    if ord(character) in _characters_of_font():
        from matplotlib.ft2font import LoadFlags

        return float(_font().load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100)
    if not character.isspace() and _families(frozenset(character))[1]:
        return sum(map(_advance, _code(character)))
    return 0.0 if unicodedata.combining(character) else 1.0


def _code(character: str) -> str:
    """What stands for a character that no font has."""
    return f"U+{ord(character):04X} "


@functools.cache
def _font() -> Any:
    """The font that comes with matplotlib, at 100 points and 72 dots per inch."""
    load_matplotlib()
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    font = FT2Font(findfont(FontProperties(family=[FONT])))
    font.set_size(100, 72)
    return font


@functools.cache
def _characters_of_font() -> frozenset[int]:
    return frozenset(_font().get_charmap())


def give_fonts(drawing: Figure) -> list[str]:
    """Let each text of a figure have a font for all its characters; returns a note if there is none.

    What no font here has is written by its code point, ``U+4E2D``, lest all such names look the same.
    """
    from matplotlib.text import Text

    texts = [text for text in drawing.findobj(Text) if text.get_text()]
    missing = {c for text in texts for c in text.get_text() if not _has_glyph(c)}
    if not missing:
        return []
    families, unknown = _families(frozenset(missing))
    for text in texts:
        if missing & set(text.get_text()):
            text.set_fontfamily([FONT, *families])
            text.set_text(_coded(text.get_text(), unknown))
    if not unknown:
        return []
    for axis in (axis for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if any(c in unknown for label in labels for c in label):  # drawing writes them anew
            axis.set_ticks(axis.get_ticklocs(), [_coded(label, unknown) for label in labels])
    some = ", ".join(f"{c} as {_code(c).strip()}" for c in sorted(unknown)[:3])
    return [
        f"no font here has {len(unknown)} of the characters in the figure ({some}{', …' if len(unknown) > 3 else ''}): "
        "install one (Noto Sans has most scripts) and draw again"
    ]


def _coded(text: str, unknown: Collection[str]) -> str:
    return "".join(_code(c) if c in unknown else c for c in text).strip()


def _has_glyph(character: str) -> bool:
    return ord(character) in _characters_of_font() or character.isspace()


@functools.cache
def _families(missing: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """(font families that together have as many of the characters as any here do, the characters that none has).

    The family that has most comes first; of equal ones the first by name.
    """
    load_matplotlib()
    from matplotlib.font_manager import fontManager

    has: dict[str, frozenset[str]] = {}
    for entry in fontManager.ttflist:
        if entry.style == "normal" and entry.weight == 400 and not _NO_TEXT.search(entry.name):
            has[entry.name] = has.get(entry.name, frozenset()) | _characters(entry.fname) & missing
    families, left = [], missing
    while left:
        best = min(has, key=lambda name: (-len(has[name] & left), name), default="")
        if not best or not has[best] & left:
            break
        families.append(best)
        left -= has[best]
    return tuple(families), left


@functools.cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or of a kind that it cannot draw
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
