"""A folder of image files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from softvq_cli.datasets import limits
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.naming import check_text, is_hidden, is_image_name, is_metadata
from softvq_cli.datasets.records import Fetch, Listing, Records, Source
from softvq_cli.errors import InputError
from softvq_cli.files import as_utf8


def open_folder(root: Path) -> Source:
    """Every file under ``root``. Links are followed, as a folder of links is a usual way to make a subset."""
    found = Records.empty()
    paths: list[str] = []
    files: list[File] = []
    folders: set[str] = set()
    hidden: set[str] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(root, folder, seen):
            if is_metadata(entry.name):
                if _is_hidden_image(entry):
                    hidden.add(as_utf8(f"{folder}{entry.name}"))
                continue
            on_disk = f"{folder}{entry.name}"
            name = on_disk if on_disk.isascii() else as_utf8(on_disk)
            status = _status(entry)
            check_text(root, name)
            if stat.S_ISDIR(status.st_mode):
                folders.add(name)
                waiting.append(f"{on_disk}/")
            elif stat.S_ISREG(status.st_mode):
                found.add(name, len(paths), status.st_size)
                paths.append(on_disk)
                files.append(File.at(name, entry.path, status))
                limits.check_count(root, len(paths))
            else:
                raise InputError(f"{root}: {name} is neither a file nor a folder; remove it")
    return PathSource(root, stamp(files, folders), root, paths, Listing(found, folders, hidden))


class PathSource(Source):
    """Files by their paths below a folder; the place of a file is its number among them."""

    def __init__(self, path: Path, mark: str, root: Path, paths: list[str], listing: Listing) -> None:
        super().__init__(path, mark)
        self._root, self._paths, self._listed = root, paths, listing

    def _list(self) -> Listing:
        return self._listed

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        for index, (place, size) in enumerate(zip(files.places, files.sizes, strict=True)):
            limits.check_file_size(self.path, files.names[index], size)
            yield index, self.content(place)

    lies_open = True

    def fetch(self, files: Records) -> Fetch:
        places = files.places
        return lambda row: self.content(places[row])

    def content(self, place: int) -> bytes:
        """The bytes of one file."""
        path = self._root / self._paths[place]
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error


def _entries(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    try:
        status = os.stat(root / folder)
        if (status.st_dev, status.st_ino) in seen:
            raise InputError(f"{root}: {folder} is linked in twice, or into itself; remove the link")
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"cannot read the folder {root / folder}: {error.strerror}") from error


def _is_hidden_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is hidden and an image, or a folder that has one."""
    if not is_hidden(entry.name):
        return False
    try:
        if not entry.is_dir():
            return is_image_name(entry.name)
        with os.scandir(entry.path) as inside:
            return any(is_image_name(file.name) for file in inside)
    except OSError:  # it is left out in any case
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise InputError(f"cannot read {entry.path}: {error.strerror}") from error
