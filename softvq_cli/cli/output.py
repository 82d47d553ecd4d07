"""What a command says, and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from softvq_cli.cli.streams import encoding_of

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; where a program reads, nothing is wrapped."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


_UNBOUNDED = 10_000
"""Columns, where there is no terminal."""


def print_json(document: Mapping[str, Any]) -> None:
    """Indented, with each list of plain values on one line; escaped where the stream is not UTF-8."""
    import json

    escaped = codecs.lookup(encoding_of(sys.stdout)).name != "utf-8"
    text = json.dumps(document, indent=2, ensure_ascii=escaped, allow_nan=False)
    text = text.encode(errors="backslashreplace").decode()  # what is no text stands there as JSON escapes it
    # A line break in the text is never inside a string, which has it escaped.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda found: f"[{re.sub(_BREAK, ' ', found[1])}]", text)
    print(text, flush=True)


_BREAK = r"\n\s+"
