"""A folder of image files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from softvq_cli.datasets import limits
from softvq_cli.datasets.sources import Listing, Member, Source, check_text, is_metadata
from softvq_cli.errors import InputError


def _list_folder(root: Path) -> Listing:
    """Every file under ``root``. Links are followed, as a folder of links is a usual way to make a subset."""
    members: list[Member] = []
    folders: set[str] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(root, folder, seen):
            name = f"{folder}{entry.name}"
            status = _status(entry)
            check_text(root, name)
            if stat.S_ISDIR(status.st_mode):
                folders.add(name)
                waiting.append(f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                members.append(Member(name, status.st_size, status.st_mtime_ns, name))
                limits.check_file_size(root, name, status.st_size)
                limits.check_count(root, len(members))
            else:
                raise InputError(f"{root}: {name} is neither a file nor a folder; remove it")
    return Listing(members, folders)


def _entries(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    try:
        status = os.stat(root / folder)
        if (status.st_dev, status.st_ino) in seen:
            raise InputError(f"{root}: {folder} is linked in twice, or into itself; remove the link")
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            return [entry for entry in entries if not is_metadata(entry.name)]
    except OSError as error:
        raise InputError(f"cannot read the folder {root / folder}: {error.strerror}") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise InputError(f"cannot read {entry.path}: {error.strerror}") from error


def _read_folder(root: Path, members: Sequence[Member]) -> Iterator[tuple[int, bytes]]:
    for index, member in enumerate(members):
        try:
            yield index, (root / member.entry).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {root / member.entry}: {error.strerror}") from error


FOLDER = Source(_list_folder, _read_folder)
