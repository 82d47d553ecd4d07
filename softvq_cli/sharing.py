"""Shorten paths for other people: names without the private folders of this machine.

Full paths stay in the folder of a run; reports, embeddings and exported models are shared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from softvq_cli.words import IMAGE_SHAPES


def shared_path(path: str) -> str:
    """A relative path below the current folder unchanged; for other paths the last component.

    A file or folder with the name of a named data set stays a path, ``./mnist``.
    """
    if not (path.startswith("~") or os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir):
        return path
    last = Path(os.path.abspath(os.path.expanduser(path))).name or path
    return os.path.join(os.curdir, last) if last in IMAGE_SHAPES else last


def shared_command(command: str) -> str:
    """Apply :func:`shared_path` to each word of a shell command, and to ``PATH`` in ``NAME=PATH``."""
    import shlex

    words = []
    for word in shlex.split(command):
        name, equals, value = word.rpartition("=") if not os.path.exists(word) else ("", "", word)
        words.append(f"{name}{equals}{shared_path(value)}")
    return shlex.join(words)


def shared_text(text: str, places: Iterable[str | Path]) -> str:
    """Shorten the paths in a message: below ``places`` to the part from there, others by the home folder."""
    known = {str(place): shared_path(str(place)) for place in places}
    known |= {os.path.abspath(os.path.expanduser(place)): name for place, name in known.items()}
    known |= {os.path.realpath(place): name for place, name in known.items()}
    known |= {os.path.expanduser("~"): "~"}
    for place in sorted(known, key=len, reverse=True):
        if os.path.isabs(place) and place != os.sep:
            text = text.replace(place, known[place])
    return text
