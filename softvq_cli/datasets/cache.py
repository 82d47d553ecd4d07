"""A cache of decoded pixels, as memory-mapped .npy files, and stamps that show whether entries are current.

The folder is ``decoded`` in the user's cache folder for softvq, or in ``$SOFTVQ_CACHE``. It may be deleted at any time.
If it is not writable, pixels are kept in memory. A stamp changes whenever the content of files may have changed. Small
data are hashed, because name, size and times are the same if a file is replaced with its times preserved (``cp -p``).
For large data, hashing would take longer than decoding; their stamp has names, sizes, times, devices and inodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import time
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from softvq_cli import npy
from softvq_cli.errors import InputError, SoftVQError, UsageError, one_line
from softvq_cli.files import atomic_write, make_folder, write_text

Put = Callable[[int, np.ndarray], None]
"""Receives a row number and uint8 (n, ...) rows, which are stored from there."""

LIMIT_BYTES = 64 << 30
"""If the folder exceeds this size, or ``$SOFTVQ_CACHE_LIMIT``, the least recently used entries are removed."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_sound: dict[Path, list[int]] = {}
"""Entries that this process has verified and uses, which are not removed; with their status at that time."""
_VERSION = 5
_STALE_SECONDS = 24 * 3600
HASHED_BYTES = 256 << 20
"""Maximum size of data whose content is hashed."""
_COMPARED_BYTES = 256 << 20
"""Maximum size of entries whose checksum is verified by every process."""
_GRAIN_NS = 20_000_000
"""Two changes within this time may have equal timestamps: a tick of the kernel's clock, with a margin."""
_REST_NS = 2_000_000_000
"""Minimum time since the last change of files for the hash of their content to be stored."""


def cache_folder() -> Path:
    """``$SOFTVQ_CACHE``, or else the platform's cache folder for softvq."""
    import platformdirs

    chosen = os.environ.get("SOFTVQ_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    try:
        folder = platformdirs.user_cache_dir("softvq", appauthor=False)
    except RuntimeError:  # raised by newer versions of platformdirs; older ones return "~"
        folder = "~/.cache/softvq"
    # A user without a home, as in containers, uses the root folder; a folder named "~" is never created.
    return Path(folder.removeprefix("~")).absolute()


def limit() -> int:
    """Maximum size of the cache in bytes; larger data sets are decoded on demand."""
    text = os.environ.get("SOFTVQ_CACHE_LIMIT", "")
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if text and match is None:
        raise UsageError(f"SOFTVQ_CACHE_LIMIT is {text[:40]!r}; give a number of bytes, such as 20GB or 500MB")
    return LIMIT_BYTES if match is None else int(float(match[1]) * _UNITS[match[2]])


def _path(key: str, suffix: str) -> Path:
    return cache_folder() / "decoded" / f"{key}{suffix}"


def key_of(*what: Any) -> str:
    """The name under which the pixels derived from ``what`` are stored."""
    return hashlib.sha256(json.dumps([_VERSION, *what]).encode()).hexdigest()[:32]


def store(key: str, shape: tuple[int, ...], fill: Callable[[Put], None]) -> np.ndarray:
    """Create an entry; ``fill`` gets a function that takes (first row, uint8 rows)."""

    def write(file: BinaryIO) -> None:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start, row_bytes = file.tell(), math.prod(shape[1:])

        def put(row: int, pixels: np.ndarray) -> None:
            file.seek(start + row * row_bytes)  # not through a memory map, so that a full disk raises an error
            file.write(np.ascontiguousarray(pixels).data)

        fill(put)

    try:
        store_pack(key, write, ".npy")
    except SoftVQError as error:
        if not isinstance(error.__cause__, OSError) or isinstance(error, InputError):
            raise  # an error in the data, not in the cache
        return in_memory(shape, fill, error)
    images = find(key, shape)
    return in_memory(shape, fill) if images is None else images


def find_or_store(key: str, shape: tuple[int, ...], fill: Callable[[Put], None]) -> np.ndarray:
    """The entry of ``key``, created if it does not exist."""
    images = find(key, shape)
    return store(key, shape, fill) if images is None else images


def find(key: str, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """The array of ``key`` as a read-only memory map; None if it does not exist or is damaged."""
    path = find_pack(key, ".npy")
    try:
        images = None if path is None else npy.map_file(path)
    except InputError:
        return None
    return images if images is not None and images.dtype == np.uint8 and shape in (None, images.shape) else None


def store_pack(key: str, fill: Callable[[BinaryIO], None], suffix: str = ".pack") -> None:
    """Store a file that ``fill`` writes (SoftVQError: it cannot be written)."""
    path = _path(key, suffix)
    make_folder(path.parent)
    with atomic_write(path) as file:
        fill(file)
    _sound[path] = _status_of(path)
    write_notes(key, [_checksum(path), _sound[path]], ".sum")
    _remove_old(keep=path)


def find_pack(key: str, suffix: str = ".pack") -> Path | None:
    """Find a file from :func:`store_pack` and mark it as used; None if it does not exist or is damaged.

    Its CRC-32 is verified once per process, at about 1 GB/s. For files of more than _COMPARED_BYTES this would delay
    every start, so an unchanged status is sufficient.
    """
    path = _path(key, suffix)
    with contextlib.suppress(OSError, TypeError, ValueError):
        status = _status_of(path)
        if _sound.get(path) != status:
            checksum, sealed = read_notes(key, ".sum")
            if (status[0] <= _COMPARED_BYTES or sealed != status) and checksum != _checksum(path):
                return None
            _sound[path] = status
        with contextlib.suppress(OSError):  # the status could not be written
            os.utime(path.with_suffix(".sum"))
        return path
    return None


def _status_of(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            checksum = zlib.crc32(data, checksum)
    return checksum


def write_notes(key: str, notes: Any, suffix: str = ".json") -> None:
    """Store JSON next to the array, after a line with its digest; errors are ignored if the cache is not writable."""
    text, path = json.dumps(notes), _path(key, suffix)
    with contextlib.suppress(SoftVQError):
        make_folder(path.parent)
        write_text(path, f"{_digest_of(text)}\n{text}")


def read_notes(key: str, suffix: str = ".json") -> Any:
    """Read JSON stored by :func:`write_notes`; None if it does not exist or is damaged."""
    try:
        digest, text = _path(key, suffix).read_text(encoding="utf-8").split("\n")
        return json.loads(text) if digest == _digest_of(text) else None
    except (OSError, ValueError):
        return None


def in_memory(shape: tuple[int, ...], fill: Callable[[Put], None], error: SoftVQError | None = None) -> np.ndarray:
    """The same as :func:`store`, but in memory; ``error`` is the reason why it is not on disk."""
    try:
        images = np.empty(shape, np.uint8)
    except MemoryError:
        if error is None:
            raise InputError(f"{math.prod(shape)} bytes do not fit into memory") from None
        raise InputError(f"{error}; and {math.prod(shape)} bytes do not fit into memory") from error

    def put(row: int, pixels: np.ndarray) -> None:
        images[row : row + len(pixels)] = pixels

    fill(put)
    return images


def _remove_old(keep: Path) -> None:
    """Limit the size of the cache: remove least recently used entries and files of killed processes."""
    with contextlib.suppress(OSError):
        entries = {path: path.stat() for path in keep.parent.iterdir()}
        for path, status in entries.items():
            if path.suffix == ".tmp" and status.st_mtime < time.time() - _STALE_SECONDS:
                path.unlink(missing_ok=True)
        arrays = [path for path in entries if path.suffix in (".npy", ".pack")]
        used = {path: entries.get(path.with_suffix(".sum"), entries[path]).st_mtime for path in arrays}
        total, most = sum(entries[path].st_size for path in arrays), limit()
        for path in sorted(arrays, key=used.__getitem__):
            if total > most and path != keep and path not in _sound:
                for suffix in (path.suffix, ".json", ".sum"):
                    path.with_suffix(suffix).unlink(missing_ok=True)
                total -= entries[path].st_size


# ---- stamps


class Files:
    """Names, paths and status of files for a stamp; stored as columns, because there may be a million files."""

    def __init__(self) -> None:
        self.names: list[str] = []
        """The paths within the source, which are part of the stamp."""
        self.paths: list[str] = []
        self._status = array("q")

    def add(self, name: str, path: str | Path, status: os.stat_result | None = None) -> int:
        """Add a file and return its size (InputError: it cannot be read)."""
        if status is None:
            try:
                status = os.stat(path)
            except OSError as error:
                raise InputError(f"cannot read {path}: {error.strerror}") from error
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} is not a regular file")
        self.names.append(name)
        self.paths.append(os.fspath(path))
        identity = status.st_dev, status.st_ino & (1 << 63) - 1  # limited to NumPy's int64
        self._status.extend((status.st_size, status.st_mtime_ns, status.st_ctime_ns, *identity))
        return status.st_size

    @property
    def status(self) -> np.ndarray:
        """int64 (N, 5): size, modification and change time in ns, device and inode."""
        return np.frombuffer(self._status, np.int64).reshape(-1, 5) if self.names else np.empty((0, 5), np.int64)

    @property
    def sizes(self) -> np.ndarray:
        """int64 (N,)."""
        return self.status[:, 0]

    def stamp(self, folders: Iterable[str] = ()) -> str:
        """A stamp of the names and content of the files, and of the names of ``folders``, including empty ones."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        status = self.status[order]
        newest = int(status[:, 1:3].max(initial=0))
        if 0 <= time.time_ns() - newest < _GRAIN_NS:  # a change right now would have the same time
            time.sleep(_GRAIN_NS / 1e9)
        names, paths = ("\0".join(map(column.__getitem__, order)) for column in (self.names, self.paths))
        digest = _digest_of(names, paths, status.tobytes())
        if status[:, 0].sum() <= HASHED_BYTES:
            # The hash is stored if the files have not changed recently: a later change also updates the inode's time.
            rested = time.time_ns() - newest > _REST_NS
            content = read_notes(key_of("content", digest), ".fact") if rested else None
            if content is None:
                content = self._digest_of_content(order)
                if rested:
                    write_notes(key_of("content", digest), content, ".fact")
            digest = content
        return _digest_of(digest, "\0".join(sorted(folders)))

    def _digest_of_content(self, order: Iterable[int]) -> str:
        digest, sizes = hashlib.sha256(), self.sizes
        for row in order:
            digest.update(repr((self.names[row], int(sizes[row]))).encode(errors="surrogateescape"))
            try:
                with open(self.paths[row], "rb", buffering=0) as file:
                    while data := file.read(1 << 20):
                        digest.update(data)
            except OSError as error:
                raise InputError(f"cannot read {one_line(self.paths[row])}: {error.strerror}") from error
        return digest.hexdigest()


def stamp_of(path: Path) -> str:
    """The stamp of one file."""
    files = Files()
    files.add(path.name, path)
    return files.stamp()


def _digest_of(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
