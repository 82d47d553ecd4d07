"""A .zip or .tar of image files, read in place and never unpacked to disk.

An archive is treated as hostile: names that leave it, links, devices, encryption and bombs are refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from softvq_cli.datasets import limits
from softvq_cli.datasets.cache import File, stamp
from softvq_cli.datasets.naming import check_text, is_hidden, is_image_name, is_metadata
from softvq_cli.datasets.records import Listing, Records, Source
from softvq_cli.errors import InputError, SoftVQError, UsageError, one_line

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""How the name of an archive ends."""


def open_archive(path: Path, name_encoding: str | None = None) -> Source:
    """The archive at ``path``, which is listed and read when that is asked for.

    Args:
        path: how its name ends says what it is.
        name_encoding: of the names that are not marked as UTF-8; None: they have to be ASCII or UTF-8.

    Raises:
        InputError: it cannot be read; once listed, that it is damaged, hostile, or has names in another encoding.
    """
    kind = _Zip if path.name.lower().endswith(".zip") else _Tar
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
        note = f"{len(files) - len(last)} names are in {self.path.name} twice: the last entry of each counts"
        return replace(listing, files=files.take(sorted(last.values()), notes=[*files.notes, note]))

    def _entries(self) -> Listing:
        raise NotImplementedError


class _Zip(_Archive):
    def _entries(self) -> Listing:
        path, listing = self.path, Listing(Records.empty())
        slashes, unmarked = 0, 0
        _count_first(path)
        with _archive_errors(path), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            limits.check_count(path, len(infos))
            limits.check_expansion(path, path.stat().st_size, sum(info.file_size for info in infos))
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
                _add(listing, path, name, place, info.file_size, is_folder=name.endswith("/"))
        if slashes:
            listing.files.notes.append(
                f"{slashes} names have backslashes, as Windows writes them: they are read as folders"
            )
        if unmarked:
            listing.files.notes.append(f"{unmarked} names are not marked as UTF-8 and are read as such")
        return listing

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        with _archive_errors(self.path), zipfile.ZipFile(self.path) as archive:
            infos = archive.infolist()
            for index, place in enumerate(files.places):
                yield index, archive.read(infos[place])  # checks the CRC; never more than file_size


class _Tar(_Archive):
    def _entries(self) -> Listing:
        listing, packed = Listing(Records.empty()), self.path.stat().st_size
        for place, info, _ in _tar_members(self.path, self.name_encoding):
            if not (info.isfile() or info.isdir()) or info.issparse():
                raise InputError(f"{self.path}: {info.name!r} is a link or a device; only files and folders are read")
            _add(listing, self.path, info.name, place, info.size, is_folder=info.isdir())
            limits.check_count(self.path, place + 1, packed)
        return listing

    def read(self, files: Records) -> Iterator[tuple[int, bytes]]:
        """In the archive's own order: a compressed one can only be read forwards."""
        wanted = {place: index for index, place in enumerate(files.places)}
        for place, info, archive in _tar_members(self.path, self.name_encoding):
            if place in wanted:
                file = archive.extractfile(info)
                if file is None or info.size != files.sizes[wanted[place]]:
                    raise InputError(f"{self.path} changed while it was read; try again")
                with _archive_errors(self.path):
                    data = file.read()
                yield wanted[place], data


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
            limits.check_count(path, directory // 46)  # an entry has 46 bytes and its name


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
        raise UsageError("{name_encoding} {} is unknown; usual are shift_jis, gbk, cp866", encoding) from error
    except UnicodeDecodeError as error:
        said = f"not {encoding}" if encoding else "in an encoding that it does not name"
        raise InputError(
            "{}: the name {!r} is {}; give the right one with {name_encoding} (shift_jis, gbk, cp866, cp437 …)",
            *(path, info.orig_filename[:200], said),
        ) from error


# ---- tar


def _tar_members(path: Path, encoding: str | None = None) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile]]:
    """(position, header, archive) of everything in a .tar, compressed or not, read as a stream."""
    with _archive_errors(path), _unpacked(path) as file:
        stream = _Counted(file, path)
        archive = tarfile.open(  # noqa: SIM115
            fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_StrictHeader, encoding=encoding or "utf-8"
        )
        index = 0
        while (info := archive.next()) is not None:
            yield index, info, archive
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header
            index += 1
        while stream.read(1 << 20):  # to the checksum at the very end
            pass


_MAGIC = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
"""How a compressed file starts, and what reads it."""


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, decompressed as its first bytes ask for."""
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, unpack in _MAGIC.items():
        if start.startswith(magic):
            with unpack(path) as unpacked:
                yield cast(IO[bytes], unpacked)
            return
    with open(path, "rb") as file:
        yield file


class _Counted:
    """A stream that refuses to give implausibly many bytes."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._packed, self._read = file, path, path.stat().st_size, 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        limits.check_expansion(self._path, self._packed, self._read)
        return data


class _StrictHeader(tarfile.TarInfo):
    """tarfile takes a damaged or missing header for the end of the archive; we must not lose the rest silently."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictHeader:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # a block of zeros: the real end
            raise tarfile.ReadError(str(error)) from error


def _add(listing: Listing, path: Path, name: str, place: int, size: int, *, is_folder: bool) -> None:
    """Check one entry of an archive and put it where it belongs."""
    _check_name(path, name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        return
    left_out = next((at for at, part in enumerate(parts) if is_metadata(part)), None)
    if left_out is not None:
        if not is_folder and is_hidden(parts[left_out]) and is_image_name(parts[-1]):
            listing.hidden.add("/".join(parts[: left_out + 1]))
        return
    depth = len(parts) + 1 if is_folder else len(parts)
    listing.folders.update("/".join(parts[:end]) for end in range(1, depth))
    if not is_folder:
        limits.check_file_size(path, name, size)
        listing.files.add("/".join(parts), place, size)


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
            raise InputError(f"{path} is damaged or no such archive: {one_line(error)}") from error
        raise UsageError("{name_encoding}: {}; usual are shift_jis, gbk, cp866", error) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # zipfile and tarfile raise a dozen kinds
        raise InputError(f"{path} is damaged or no such archive: {one_line(error)}") from error
