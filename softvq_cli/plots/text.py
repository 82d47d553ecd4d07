"""Text in figures: names from files and folders, shortened to fit, in a font that has their characters."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"
"""Included in matplotlib, so that figures look the same everywhere if it has all characters."""
_NO_TEXT = re.compile(r"Last Resort|^cm|^STIX(Size|NonUni)")
"""Fonts that show a box for every character, or whose characters are not encoded in Unicode."""
_DIGITS = re.compile(r"(\d+)")


def natural_order(names: Sequence[str]) -> list[str]:
    """Sort names naturally, 2 before 10, if they are in alphabetical order like class folders; else keep the order."""
    return sorted(names, key=_natural) if list(names) == sorted(names) else list(names)


def _natural(name: str) -> tuple[Any, ...]:
    parts = _DIGITS.split(name)
    return tuple((int(part[:300]), part) if i % 2 else part for i, part in enumerate(parts))


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Convert each name to one line of at most ``longest`` characters; long names are cut in the middle.

    Names that would become equal are distinguished by their index.
    """
    lines = [one_line(name, None) for name in names]
    short = [_without_middle(line, longest) for line in lines]
    for i, line in enumerate(lines):
        if short[i] != line and short.count(short[i]) > 1:
            mark = f" ({i + 1})"
            short[i] = _without_middle(line, longest - len(mark)) + mark
    return short


def _without_middle(line: str, longest: int) -> str:
    if len(line) <= longest:
        return line
    end = (longest - 1) // 2
    return f"{line[: longest - 1 - end]}…{line[len(line) - end :]}"


def give_fonts(drawing: Figure) -> str:
    """Set fonts with all characters for each text of a figure; returns a note if no installed font has some of them."""
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    texts = [text for text in drawing.findobj(Text) if text.get_text()]
    missing = {c for text in texts for c in text.get_text() if not c.isspace()} - _characters(findfont(FONT))
    families, unknown = _families(missing)
    if families:
        for text in texts:
            text.set_fontfamily([FONT, *families])
    if not unknown:
        return ""
    some = " ".join(sorted(unknown)[:3]) + " …" * (len(unknown) > 3)
    return (
        f"no font here has {len(unknown)} of the characters in the figure ({some}), which are drawn as boxes: install "
        "one (Noto Sans has most scripts) and draw again"
    )


def _families(missing: set[str]) -> tuple[list[str], set[str]]:
    """(font families for the characters, those with the most of them first; the characters that none has)."""
    from matplotlib.font_manager import fontManager

    if not missing:
        return [], set()
    present: dict[str, set[str]] = {}
    for entry in fontManager.ttflist:
        if entry.style == "normal" and entry.weight == 400 and not _NO_TEXT.search(entry.name):
            present.setdefault(entry.name, set()).update(_characters(entry.fname) & missing)
    families: list[str] = []
    unknown = set(missing)
    for name in sorted(present, key=lambda name: (-len(present[name]), name)):
        if present[name] & unknown:
            families.append(name)
            unknown -= present[name]
    return families, unknown


@functools.cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or an unsupported kind of font
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
