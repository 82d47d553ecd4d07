"""What a place that holds image files looks like: a folder, a .zip or a .tar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.errors import InputError

_LONGEST_NAME = 1024


@dataclass(frozen=True)
class Member:
    """One file of a source."""

    name: str
    """Path inside the source, with forward slashes."""
    size: int
    mtime_ns: int
    entry: Any
    """What the source's reader finds it again by."""


@dataclass(frozen=True)
class Listing:
    """What a source holds, metadata such as ``.DS_Store`` left out."""

    members: list[Member]
    folders: set[str]
    """Every folder that is named, the empty ones too."""


@dataclass(frozen=True)
class Source:
    """One kind of source."""

    list: Callable[[Path], Listing]
    read: Callable[[Path, Sequence[Member]], Iterator[tuple[int, bytes]]]
    """Gives (index into the members, bytes) of each member once, in the order that costs least."""


def is_metadata(name: str) -> bool:
    """Whether a file or folder of this name is not the user's: hidden, or left there by a desktop."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def check_text(path: Path, name: str) -> None:
    """Refuse a file name that cannot be written down in one line of UTF-8.

    Raises:
        InputError: it is very long, no valid UTF-8, or holds a line break or another control character.
    """
    control = any(character < " " or "\x7f" <= character < "\xa0" for character in name)
    if control or len(name) > _LONGEST_NAME or any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"{path}: the file name {name[:200]!r} is too long or is no text; rename it")
