"""A .zip or .tar archive of image files, read in place without unpacking it to disk.

Archives are not trusted: names outside the archive, links, devices, encryption and decompression bombs are refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, cast

from softvq_cli.datasets import cache, naming
from softvq_cli.datasets.records import Fetch, Records, Source, fetch_from
from softvq_cli.errors import InputError, UsageError
from softvq_cli.files import reading

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""File name suffixes of archives."""
Entry = tuple[str, int, int, bool]
"""(name, position, size, whether it is a folder)."""


def open_archive(path: Path, name_encoding: str | None = None) -> Source:
    """Open the archive at ``path``; its files are listed and read on demand."""
    return (_Zip if path.name.lower().endswith(".zip") else _Tar)(path, name_encoding)


class _Archive(Source):
    archive = True

    def __init__(self, path: Path, name_encoding: str | None) -> None:
        super().__init__(path, cache.stamp_of(path))
        self.name_encoding = name_encoding

    def entries(self) -> Iterator[Entry]:
        """Yield all members; links and devices are refused."""
        raise NotImplementedError

    @cached_property
    def files(self) -> Records:
        """List the files; if a name occurs twice, the last member counts, as for unzip and tar."""
        names, places, sizes, notes = [], array("q"), array("q"), list[str]()
        prefixes: dict[str, str | None] = {"": ""}  # folders as named in the archive → as listed
        with _archive_errors(self.path):
            for name, place, size, is_folder in self.entries():
                naming.check_text(self.path, name)
                if _OUTSIDE.search(name):
                    text = (
                        f"the name {name[:200]!r} points outside the archive; make it with relative names and slashes"
                    )
                    raise InputError(f"{self.path}: {text}")
                folder, _, last = name.rpartition("/")
                if folder not in prefixes:
                    prefixes[folder] = self._listed(folder)
                prefix = prefixes[folder]
                if is_folder or last in ("", "."):
                    self._listed(name)
                elif prefix is None or naming.is_metadata(last):
                    self._hide(name)
                else:
                    naming.check_file_size(self.path, name, size)
                    names.append(prefix + last)
                    places.append(place)
                    sizes.append(size)
        files = Records.of(names, places, sizes, notes)
        last_rows = {name: row for row, name in enumerate(names)}
        if len(last_rows) < len(names):
            twice = len(names) - len(last_rows)
            notes.append(f"{twice} names occur twice in {self.path.name}: the last entry of each is used")
            files = files.take(sorted(last_rows.values()), notes=notes)
        return files

    def _listed(self, folder: str) -> str | None:
        """Record a folder and its parents; returns the prefix of its files' names, or None if they are ignored."""
        parts = _parts(folder)
        if any(map(naming.is_metadata, parts)):
            return None
        self.folders.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return "".join(f"{part}/" for part in parts)

    def _hide(self, name: str) -> None:
        """Record a hidden image, or the hidden folder that contains it."""
        parts = _parts(name)
        first = next(number for number, part in enumerate(parts) if naming.is_metadata(part))
        if naming.is_hidden(parts[first]) and naming.is_image_name(parts[-1]):
            self.hidden.add("/".join(parts[: first + 1]))


_OUTSIDE = re.compile(r"^/|\\|\0|^.:|(?:^|/)\.\.(?:/|$)")
"""Names that lead outside the archive."""


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


# ---- zip


class _Zip(_Archive):
    """A .zip archive; the position of a file is its index among all members."""

    def entries(self) -> Iterator[Entry]:
        path = self.path
        self._count_first()
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        naming.check_count(path, len(infos))
        naming.check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
        for place, info in enumerate(infos):
            name = self._name(info)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(path, name)
            if info.flag_bits & 0x1:
                raise InputError(f"{path}: {name!r} is encrypted; make the archive without a password")
            yield name, place, info.file_size, name.endswith("/")

    def _count_first(self) -> None:
        """Refuse too many members before zipfile creates an object for each."""
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (1 << 16) - 22))
            tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end >= 0 and len(tail) >= end + 16:
            directory = int.from_bytes(tail[end + 12 : end + 16], "little")
            if directory < size:  # else the file is damaged, or larger than 4 GiB and does not record this here
                naming.check_count(self.path, directory // 46)  # a member has 46 bytes and its name

    def _name(self, info: zipfile.ZipInfo) -> str:
        """The name of a member, in UTF-8 or ``name_encoding``; without a UTF-8 flag, zipfile assumes cp437."""
        if info.flag_bits & 0x800 or info.orig_filename.isascii():
            return info.orig_filename
        try:
            return info.orig_filename.encode("cp437").decode(self.name_encoding or "utf-8")
        except UnicodeDecodeError as error:
            encoding = f"not {self.name_encoding}" if self.name_encoding else "in an unknown encoding"
            raise InputError(
                "{}: the name {!r} is {}; give the right one with {name_encoding} (shift_jis, gbk, cp866, cp437 …)",
                *(self.path, info.orig_filename[:200], encoding),
            ) from error

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        with _archive_errors(self.path), zipfile.ZipFile(self.path) as archive:
            infos = archive.infolist()
            for index, place in enumerate(files.places.tolist()):
                yield index, archive.read(infos[place])  # checks the CRC; returns at most file_size bytes


def _no_file(path: Path, name: str) -> InputError:
    return InputError(f"{path}: {name!r} is a link or a device; only files and folders are read")


# ---- tar

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MOST_NAME = 1 << 20
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _GNU_NAME, _PASSED = b"x", b"L", (b"g", b"K")
"""Types of headers that extend the next one, or are ignored."""


class _Tar(_Archive):
    """A .tar archive; the position of a file is the offset of its bytes in the uncompressed archive."""

    @cached_property
    def lies_open(self) -> bool:  # type: ignore[override]
        """Whether it is uncompressed, so that each file can be read separately."""
        with _archive_errors(self.path), open(self.path, "rb") as file:
            return not file.read(6).startswith((*_MAGIC,))

    def fetch(self, files: Records) -> Fetch:
        return fetch_from(self.path, files.places.tolist(), files.sizes.tolist())

    def entries(self) -> Iterator[Entry]:
        """Replaces tarfile's reader, which takes a damaged header for the end and needs 50 microseconds per header."""
        with _Stream(self.path) as stream:
            position, count, path, size, read = 0, 0, b"", -1, stream.read
            encoding = self.name_encoding or "utf-8"
            name_encoding = encoding
            while (header := read(position, _BLOCK)) != _ZEROS:
                # The checksum counts its own field as spaces; the lower half of Adler-32 is 1 + the sum, mod 65521.
                if (_octal(header[148:156]) + sum(header[148:156]) - 255) % 65521 != zlib.adler32(header) & 0xFFFF:
                    raise ValueError("a header is damaged")
                kind, length, start = header[156:157], _octal(header[124:136]), position + _BLOCK
                if kind in (_PAX, _GNU_NAME):
                    if length > _MOST_NAME:
                        raise ValueError("a name is too long")
                    data = read(start, length)
                    fields = dict(_pax(data)) if kind == _PAX else {b"path": data.rstrip(b"\0")}
                    path, size = fields.get(b"path", path), int(fields.get(b"size", size))
                    name_encoding = "utf-8" if kind == _PAX else encoding
                elif kind not in _PASSED:
                    length, count = (length if size < 0 else size), count + 1
                    if not path:
                        name_encoding, path = encoding, header[:100].split(b"\0", 1)[0]
                        if header[257:263] == b"ustar\0" and header[345]:
                            path = header[345:500].split(b"\0", 1)[0] + b"/" + path
                    name = path.decode(name_encoding, "surrogateescape")
                    if kind not in _FILES and kind != _FOLDER:
                        raise _no_file(self.path, name)
                    naming.check_count(self.path, count, stream.packed)
                    yield name, start, length, kind == _FOLDER or name.endswith("/")
                    path, size = b"", -1
                position = start + (length + _BLOCK - 1) // _BLOCK * _BLOCK
            stream.to_end()

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """Yield the files; a compressed archive can only be read forwards, in its own order."""
        order = range(len(files)) if self.lies_open else files.places.argsort(kind="stable").tolist()
        places, sizes = files.places.tolist(), files.sizes.tolist()
        with _archive_errors(self.path), _Stream(self.path) as stream:
            for index in order:
                yield index, stream.read(places[index], sizes[index])
            stream.to_end()


def _octal(field: bytes) -> int:
    """A number in a header: octal, or base 256 if that is too small."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    number = int(field.strip(b" \0") or b"0", 8)
    if number < 0:  # would lead back to an earlier header
        raise ValueError("a header is damaged")
    return number


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields of an extended header, each preceded by its length: ``27 path=a/long/name.png``."""
    while data:
        length = int(data.split(b" ", 1)[0])
        if not 0 < length <= len(data):
            raise ValueError("a header is damaged")
        field, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        yield field, value
        data = data[length:]


_MAGIC = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
"""The first bytes of a compressed file → its reader."""


_WINDOW = 1 << 15


class _Stream:
    """The content of a file, decompressed according to its first bytes; implausibly long content is refused."""

    def __init__(self, path: Path) -> None:
        self._path, self.packed, self._position = path, path.stat().st_size, 0
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._descriptor, self._start, self._window = self._file.fileno(), 0, b""
        start = self._file.read(6)
        opener = next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)
        self._unpacked = None if opener is None else cast(IO[bytes], opener(path))

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._unpacked is not None:
            self._unpacked.close()

    def read(self, start: int, size: int) -> bytes:
        """Read exactly these bytes; a compressed file can only be read forwards."""
        if self._unpacked is None:
            end = start - self._start + size
            if start < self._start or end > len(self._window):  # read ahead, because small files are adjacent
                self._start, end = start, size
                self._window = os.pread(self._descriptor, max(size, _WINDOW), start)
            data = self._window[end - size : end]
        else:
            while self._position < start and self._forwards(min(1 << 20, start - self._position)):
                pass
            data = self._forwards(size)
        if len(data) < size:
            raise ValueError("it breaks off")
        return data

    def _forwards(self, size: int) -> bytes:
        assert self._unpacked is not None
        data = self._unpacked.read(size)
        self._position += len(data)
        naming.check_expansion(self._path, self.packed, self._position)
        return data

    def to_end(self) -> None:
        """Read to the end of a compressed file, to verify its checksum."""
        while self._unpacked is not None and self._forwards(1 << 20):
            pass


@contextmanager
def _archive_errors(path: Path) -> Iterator[None]:
    with reading(path, "such an archive"):
        try:
            yield
        except LookupError as error:
            if "unknown encoding" not in str(error):
                raise
            raise UsageError("{name_encoding}: {}; common encodings are shift_jis, gbk, cp866", error) from error
