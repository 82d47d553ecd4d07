"""A .zip or .tar of image files, read in place and never unpacked to disk.

An archive is treated as hostile: names that leave it, links, devices, encryption and bombs are refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, cast

from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.naming import (
    check_count,
    check_expansion,
    check_file_size,
    check_text,
    is_hidden,
    is_image_name,
    is_metadata,
)
from softvq_cli.datasets.records import Fetch, Listing, Records, Source, fetch_from
from softvq_cli.errors import InputError, SoftVQError, UsageError, one_line

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""How the name of an archive ends."""


def open_archive(path: Path, name_encoding: str | None = None) -> Source:
    """The archive at ``path``, which is listed and read when that is asked for."""
    kind = _Zip if path.name.lower().endswith(".zip") else Tar
    return kind(path, name_encoding)


class _Archive(Source):
    """Files of an archive; the place of a file is its number among all entries."""

    archive = True

    def __init__(self, path: Path, name_encoding: str | None) -> None:
        super().__init__(path, stamp([File.at(path.name, path)]))
        self.name_encoding = name_encoding

    def _list(self) -> Listing:
        """Of a name that is there twice the last entry counts, as for unzip and tar."""
        listing = self._entries()
        files = listing.files
        last = {name: row for row, name in enumerate(files.names)}
        if len(last) == len(files):
            return listing
        note = f"{len(files) - len(last)} names occur twice in {self.path.name}: the last entry of each is used"
        return replace(listing, files=files.take(sorted(last.values()), notes=[*files.notes, note]))

    def _entries(self) -> Listing:
        raise NotImplementedError


class _Zip(_Archive):
    def _entries(self) -> Listing:
        path, entries = self.path, _Entries(self.path)
        slashes, unmarked = 0, 0
        _count_first(path)
        with _archive_errors(path), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            check_count(path, len(infos))
            check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
            for place, info in enumerate(infos):
                name = _zip_name(path, info, self.name_encoding)
                unmarked += name != info.orig_filename and self.name_encoding is None
                if info.create_system == _DOS and "\\" in name:
                    name, slashes = name.replace("\\", "/"), slashes + 1
                kind = info.external_attr >> 16
                if stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(f"{path}: {name!r} is a link or a device; only files and folders are read")
                if info.flag_bits & 0x1:
                    raise InputError(f"{path}: {name!r} is encrypted; make the archive without a password")
                entries.add(name, place, info.file_size, is_folder=name.endswith("/"))
        notes = entries.listing.files.notes
        if slashes:
            notes.append(f"{slashes} names have backslashes, as Windows writes them: they are read as folders")
        if unmarked:
            notes.append(f"{unmarked} names are not marked as UTF-8 but are read as UTF-8")
        return entries.listing

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        with _archive_errors(self.path), zipfile.ZipFile(self.path) as archive:
            infos = archive.infolist()
            for index, place in enumerate(files.places):
                yield index, archive.read(infos[place])  # checks the CRC; never more than file_size


class Tar(_Archive):
    """The place of a file is where its bytes begin in the archive, once that is unpacked."""

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is not compressed, so that each file can be read alone where it lies."""
        with _archive_errors(self.path), open(self.path, "rb") as file:
            return not file.read(6).startswith((*_MAGIC,))

    @property
    def lies_open(self) -> bool:  # type: ignore[override]
        return self.is_plain

    def fetch(self, files: Records) -> Fetch:
        return fetch_from(self.path, files.places, files.sizes)

    def _entries(self) -> Listing:
        entries, packed = _Entries(self.path), self.path.stat().st_size
        with _archive_errors(self.path), _Stream(self.path) as stream:
            for number, (name, kind, start, size) in enumerate(_tar_entries(stream, self.name_encoding), 1):
                if kind not in _TAR_FILES and kind != _TAR_FOLDER:
                    raise InputError(f"{self.path}: {name!r} is a link or a device; only files and folders are read")
                entries.add(name, start, size, is_folder=kind == _TAR_FOLDER or name.endswith("/"))
                check_count(self.path, number, packed)
        return entries.listing

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """A compressed archive can only be read forwards, in its own order."""
        order = sorted(range(len(files)), key=files.places.__getitem__)
        with _archive_errors(self.path), _Stream(self.path) as stream:
            for index in range(len(files)) if self.is_plain else order:
                stream.seek(files.places[index])
                yield index, stream.read(files.sizes[index])
            if not self.is_plain:
                stream.to_end()


# ---- zip


def _count_first(path: Path) -> None:
    """Refuse too many entries before zipfile makes an object of each."""
    with _archive_errors(path), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end >= 0 and len(tail) >= end + 16:
        directory = int.from_bytes(tail[end + 12 : end + 16], "little")
        if directory < size:  # else it is damaged, or of more than 4 GiB and does not say here
            check_count(path, directory // 46)  # an entry has 46 bytes and its name


_DOS = 0
"""The system of an archive that was made on Windows; elsewhere a backslash belongs to the name."""


def _zip_name(path: Path, info: zipfile.ZipInfo, encoding: str | None) -> str:
    """The name of a member: marked as UTF-8, or else in ``encoding``; zipfile takes what is not marked for cp437."""
    if info.flag_bits & 0x800 or info.orig_filename.isascii():
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    try:
        return raw.decode(encoding or "utf-8")
    except LookupError as error:
        raise UsageError(
            "{name_encoding} {} is unknown; common encodings are shift_jis, gbk, cp866", encoding
        ) from error
    except UnicodeDecodeError as error:
        said = f"not {encoding}" if encoding else "in an unknown encoding"
        raise InputError(
            "{}: the name {!r} is {}; give the right one with {name_encoding} (shift_jis, gbk, cp866, cp437 …)",
            *(path, info.orig_filename[:200], said),
        ) from error


# ---- tar


_TAR_FILES, _TAR_FOLDER = (b"0", b"\0", b"7"), b"5"
_BLOCK = 512
_MOST_NAME = 1 << 20


def _tar_entries(stream: _Stream, encoding: str | None) -> Iterator[tuple[str, bytes, int, int]]:
    """(name, type, where its bytes begin, how many) of everything in a .tar, whoever wrote it.

    Ours and not tarfile's, which takes a damaged header for the end of the archive and 50 microseconds for a good one.
    """
    path, size, sparse = b"", None, False
    while header := stream.read(_BLOCK):
        if not any(header):
            stream.to_end()
            return
        # The sum of the header with its own place as spaces; Adler-32's lower half is 1 + the sum, modulo 65521.
        checksum = _octal(header[148:156]) + sum(header[148:156]) - 8 * 32
        if (checksum + 1) % 65521 != zlib.adler32(header) & 0xFFFF:
            raise ValueError("a header is damaged")
        kind, length, start = header[156:157], _octal(header[124:136]), stream.position
        if kind in (b"x", b"L"):
            if length > _MOST_NAME:
                raise ValueError("a name is too long")
            data = stream.read(length)
            fields = dict(_pax(data)) if kind == b"x" else {b"path": data.rstrip(b"\0")}
            path, size = fields.get(b"path", path), int(fields[b"size"]) if b"size" in fields else size
            sparse = sparse or any(field.startswith(b"GNU.sparse") for field in fields)
            name_encoding = "utf-8" if kind == b"x" else encoding or "utf-8"
        elif kind not in (b"g", b"K"):
            length = length if size is None else size
            if not path:
                name_encoding = encoding or "utf-8"
                path = header[:100].split(b"\0", 1)[0]
                if header[257:263] == b"ustar\0" and header[345]:
                    path = header[345:500].split(b"\0", 1)[0] + b"/" + path
            yield path.decode(name_encoding, "surrogateescape"), b"S" if sparse else kind, start, length
            path, size, sparse = b"", None, False
        stream.seek(start + (length + _BLOCK - 1) // _BLOCK * _BLOCK)
    raise ValueError("it breaks off")


def _octal(field: bytes) -> int:
    """A number of a header: in octal, or in 256s where that is too small."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The fields of an extended header: ``27 path=a/long/name.png``, each with its length first."""
    while data:
        length = int(data.split(b" ", 1)[0])
        if not 0 < length <= len(data):
            raise ValueError("a header is damaged")
        field, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        yield field, value
        data = data[length:]


_MAGIC = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
"""How a compressed file starts, and what reads it."""


class _Stream:
    """The content of a file, decompressed as its first bytes ask for, which refuses to be implausibly long."""

    def __init__(self, path: Path) -> None:
        self._path, self._packed, self.position = path, path.stat().st_size, 0
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        start = self._file.read(6)
        opener = next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)
        self._unpacked = None if opener is None else cast(IO[bytes], opener(path))

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._unpacked is not None:
            self._unpacked.close()

    def read(self, size: int) -> bytes:
        """Exactly so many bytes; none at the end."""
        if self._unpacked is None:
            data = os.pread(self._file.fileno(), size, self.position)
        else:
            data = self._unpacked.read(size)
            check_expansion(self._path, self._packed, self.position + len(data))
        self.position += len(data)
        if data and len(data) < size:
            raise ValueError("it breaks off")
        return data

    def seek(self, position: int) -> None:
        """Go on to there."""
        if self._unpacked is None:
            if position > self._packed:
                raise ValueError("it breaks off")
            self.position = position
        while self.position < position:
            if not self.read(min(1 << 20, position - self.position)):
                raise ValueError("it breaks off")

    def to_end(self) -> None:
        """Read to the checksum at the very end of a compressed file."""
        while self._unpacked is not None and (data := self._unpacked.read(1 << 20)):
            self.position += len(data)
            check_expansion(self._path, self._packed, self.position)


class _Entries:
    """The entries of an archive, each checked and put where it belongs."""

    def __init__(self, path: Path) -> None:
        self.listing = Listing(Records.empty())
        self._path = path
        self._folders: dict[str, str | None] = {"": ""}
        """Folders as the archive calls them → as they are listed; None: left out."""

    def add(self, name: str, place: int, size: int, *, is_folder: bool) -> None:
        """One entry; InputError: its name leads out of the archive, or it is too large."""
        _check_name(self._path, name)
        outer, _, last = name.rpartition("/")
        folder = self._folders[outer] if outer in self._folders else self._folder(outer)
        if is_folder or last in ("", "."):
            self._folder(name)
        elif folder is None or is_metadata(last):
            self._hide(name)
        else:
            check_file_size(self._path, name, size)
            self.listing.files.add(folder + last, place, size)

    def _folder(self, name: str) -> str | None:
        """A folder with those around it; as a name that ends with a slash."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if any(map(is_metadata, parts)):
            self._folders[name] = None
        else:
            self.listing.folders.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
            self._folders[name] = "".join(f"{part}/" for part in parts)
        return self._folders[name]

    def _hide(self, name: str) -> None:
        """Note an image that somebody hid, or the hidden folder around it."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        first = next(number for number, part in enumerate(parts) if is_metadata(part))
        if is_hidden(parts[first]) and is_image_name(parts[-1]):
            self.listing.hidden.add("/".join(parts[: first + 1]))


def _check_name(path: Path, name: str) -> None:
    """Refuse names that point outside the archive."""
    check_text(path, name)
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":" or ".." in name.split("/"):
        raise InputError(f"{path}: the name {name[:200]!r} points outside the archive; make it with relative names")


@contextmanager
def _archive_errors(path: Path) -> Iterator[None]:
    """Whatever the libraries raise on damaged bytes, as one line."""
    try:
        yield
    except (SoftVQError, GeneratorExit, KeyboardInterrupt):
        raise
    except LookupError as error:
        if "unknown encoding" not in str(error):
            raise InputError(f"{path} is damaged or not such an archive: {one_line(error)}") from error
        raise UsageError("{name_encoding}: {}; common encodings are shift_jis, gbk, cp866", error) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # zipfile and tarfile raise a dozen kinds
        raise InputError(f"{path} is damaged or not such an archive: {one_line(error)}") from error
