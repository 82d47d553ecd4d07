"""Names from folders and files as text in a figure: as long as there is room, in a font that has their characters."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"
"""Comes with matplotlib: the same picture everywhere, as long as it has the characters."""
_NO_TEXT = re.compile(r"Last Resort|^cm|^STIX(Size|NonUni)")
"""Fonts that show a box for anything, or whose characters are not Unicode's."""
_DIGITS = re.compile(r"(\d+)")


def natural_order(names: Sequence[str]) -> list[str]:
    """``names`` as they are; names in alphabetical order, as class folders come, with 2 before 10."""
    return sorted(names, key=_natural) if list(names) == sorted(names) else list(names)


def _natural(name: str) -> tuple[Any, ...]:
    parts = _DIGITS.split(name)
    return tuple((int(part[:300]), part) if i % 2 else part for i, part in enumerate(parts))


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Each name on one line of at most ``longest`` characters; long names lose their middle.

    Names that would become equal are told apart by their number in the list.
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
    """Give each text of a figure fonts for all its characters; returns a note where no font here has them."""
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
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or of a kind that it cannot draw
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
