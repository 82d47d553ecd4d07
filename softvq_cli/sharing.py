"""Where things lie on this machine, as others may read it: by their names, without the folders that lead to them.

The folder of a run keeps the paths; reports, embeddings and exported models go to other people.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from softvq_cli.words import IMAGE_SHAPES


def shared_path(path: str) -> str:
    """A relative path below the current folder as it stands; of any other the last part alone.

    It still reads as a path, ``./mnist``, where a data set is called so.
    """
    if not (path.startswith("~") or os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir):
        return path
    last = Path(os.path.abspath(os.path.expanduser(path))).name or path
    return os.path.join(os.curdir, last) if last in IMAGE_SHAPES else last


def shared_command(command: str) -> str:
    """A line of the shell with :func:`shared_path` in the place of each word, and of ``PATH`` in ``NAME=PATH``."""
    import shlex

    words = []
    for word in shlex.split(command):
        name, equals, value = word.rpartition("=") if not os.path.exists(word) else ("", "", word)
        words.append(f"{name}{equals}{shared_path(value)}")
    return shlex.join(words)


def shared_text(text: str, places: Iterable[str | Path]) -> str:
    """A message in which files below ``places`` have their path from there, others none above the home folder."""
    known = {str(place): shared_path(str(place)) for place in places}
    known |= {os.path.abspath(os.path.expanduser(place)): name for place, name in known.items()}
    known |= {os.path.realpath(place): name for place, name in known.items()}
    known |= {os.path.expanduser("~"): "~"}
    for place in sorted(known, key=len, reverse=True):
        if os.path.isabs(place) and place != os.sep:
            text = text.replace(place, known[place])
    return text
