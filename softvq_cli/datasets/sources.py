"""What a place that holds image files looks like: a folder, a .zip, a .tar, a table."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
    entry: Any
    """What the source's reader finds it again by."""
    page: int = 0
    """Of a file that holds several images."""


@dataclass(frozen=True)
class Listing:
    """What a source holds, metadata such as ``.DS_Store`` left out."""

    members: list[Member]
    folders: set[str]
    """Every folder that is named, the empty ones too."""
    notes: list[str] = field(default_factory=list)
    """What had to be mapped to list it, a line each."""
    hidden: set[str] = field(default_factory=set)
    """Hidden images and the hidden folders with images, which are left out too."""


Read = Callable[[Sequence[Member]], Iterator[tuple[int, bytes]]]
"""Gives (index into the members, bytes) of each member once, in the order that costs least."""


@dataclass(frozen=True)
class Source:
    """One place, listed."""

    path: Path
    """What to call it in messages."""
    lister: Callable[[], Listing]
    read: Read
    stamp: str
    """Changes whenever its content can have: :func:`softvq_cli.datasets.cache.stamp`."""
    archive: bool = False
    """In an archive, one outer folder may hold the images themselves."""

    @cached_property
    def listing(self) -> Listing:
        """What it holds; listing an archive takes its time.

        Raises:
            InputError: it is damaged or hostile.
        """
        return self.lister()


_JUNK = frozenset(
    (
        *("__macosx", "__pycache__", "@eadir", "#recycle", "lost+found", "$recycle.bin", "system volume information"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    )
)
"""What systems leave behind, in lower case; hidden names (``.DS_Store``, ``._*``) are passed over too."""


def is_metadata(name: str) -> bool:
    """Whether a file or folder of this name is not the user's: hidden, or left there by a system."""
    return name.startswith(".") or name.lower() in _JUNK


_TOOLS = frozenset((".ipynb_checkpoints", ".thumbnails", ".thumbs", ".git", ".cache", ".trash", ".trashes"))
"""Hidden folders of programs, whose images are not the user's."""


def is_hidden(name: str) -> bool:
    """Whether somebody may have hidden a file or folder of this name, rather than a program."""
    return name.startswith(".") and name.lower() not in _TOOLS


def is_image_name(name: str) -> bool:
    """Whether a file that is left out looks like one of the user's images: not ``._1.jpg``, which a Mac leaves."""
    return (mimetypes.guess_type(name)[0] or "").startswith("image/") and not name.startswith("._")


def check_text(path: Path, name: str) -> None:
    """Refuse a file name that cannot be written down in one line of UTF-8.

    Raises:
        InputError: it is very long, no valid UTF-8, or holds a line break or another control character.
    """
    control = any(character < " " or "\x7f" <= character < "\xa0" for character in name)
    if control or len(name) > _LONGEST_NAME or any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"{path}: the file name {name[:200]!r} is too long or is no text; rename it")
