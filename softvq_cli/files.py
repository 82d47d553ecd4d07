"""Atomic writing: a reader sees either the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from softvq_cli.errors import InputError, SoftVQError, UsageError, one_line

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file next to ``path``; on success flush it to disk and rename it to ``path``.

    If the body or any step fails, ``path`` is unchanged and the temporary file is removed. For a symbolic link, its
    target is replaced. A device or a pipe receives the bytes when all are complete.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with _to_device(path) as file:
            yield file
        return
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        # tempfile is not used, because its files are private. To correct their mode, the umask would be needed, which
        # can only be read by setting it, while other threads may create files.
        with open(temporary, "x+b") as file:
            _hold(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # locked, so that no process considers it abandoned
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SoftVQError(f"cannot write {path}: {reason}; nothing was changed there") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


@contextlib.contextmanager
def _to_device(path: Path) -> Iterator[BinaryIO]:
    with temporary_folder() as folder:
        whole = folder / "whole"
        with whole.open("w+b") as file:
            yield file
            try:
                file.seek(0)
                with path.open("wb") as device:
                    shutil.copyfileobj(file, device)
            except OSError as error:
                raise SoftVQError(f"cannot write {path}: {error.strerror or error}") from error


def copy(source: Path, target: Path) -> None:
    """Copy the content of ``source`` to ``target``, atomically."""
    with atomic_write(target) as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)


def remove(path: Path) -> None:
    """Remove a file if it exists (SoftVQError: it cannot be removed)."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SoftVQError(f"cannot remove {path}: {error.strerror}; remove it and try again") from error


def discard_abandoned(folder: Path, *names: str) -> None:
    """Remove temporary files that killed processes left for these names or patterns, unless a process holds them."""
    for left in (left for name in names for left in folder.glob(f".{name}.*.tmp")):
        with contextlib.suppress(OSError):
            if fcntl is None:  # the system itself refuses to remove an open file
                left.unlink()
                continue
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _hold(descriptor: int) -> None:
    """Mark a temporary file or folder as in use while it is open."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, atomically. File names that are not valid text are escaped as in JSON."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically (ValueError: NaN or infinity)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; NaN and infinity are errors, as in :func:`write_json`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {one_line(error)}") from error


def as_utf8(name: str) -> str:
    """Decode a name from the system as UTF-8 if its bytes are valid, so that classes and folders have the same name in
    every locale."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name


def on_disk(path: str) -> str:
    """The inverse of :func:`as_utf8`: the path as the system expects it, also if it was stored in another locale."""
    if path.isascii() or os.path.exists(os.path.expanduser(path)):
        return path
    try:
        return os.fsdecode(path.encode(errors="surrogateescape"))
    except UnicodeError:
        return path


def is_address(text: str) -> bool:
    """Whether ``text`` is a remote address, such as ``s3://bucket/z.npy``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/?/", text) is not None and not os.path.exists(text)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create ``path`` and its parents."""
    if is_address(os.fspath(path)):
        raise UsageError(f"{path} is an address, but files are written on this machine")
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SoftVQError(f"cannot create the folder {path}: {error.strerror}") from error
    return path


@contextlib.contextmanager
def temporary_folder(instead: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A temporary folder for the duration of the block; those that killed processes left are removed.

    It is created in ``instead`` if the system's temporary folder is not writable.
    """
    try:
        folder = _new_folder(tempfile.gettempdir())
    except OSError as error:
        if instead is None:
            raise SoftVQError("no folder for temporary files is writable: set TMPDIR to one that is") from error
        try:
            folder = _new_folder(instead)
        except OSError as second:
            raise SoftVQError(f"cannot write into the folder {instead}: {second.strerror}") from second
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None:
            _hold(descriptor)
        folder.mkdir(0o700, exist_ok=True)  # another process may have removed it before it was locked
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _new_folder(place: str | os.PathLike[str]) -> Path:
    discard_abandoned(Path(place), "softvq")
    return Path(tempfile.mkdtemp(".tmp", ".softvq.", place))


def arrow_file(path: Path) -> Any:
    """Open a file for pyarrow, which would decode a path as UTF-8 whatever the system's encoding."""
    import pyarrow

    return pyarrow.OSFile(os.fsencode(path))


@contextlib.contextmanager
def reading(where: Path | str, kind: str) -> Iterator[None]:
    """Convert any error about a file that should be ``kind`` to one line."""
    try:
        yield
    except SoftVQError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # libraries raise many kinds on damaged bytes
        raise InputError(f"{where} is damaged or not {kind}: {one_line(error)}") from error


@contextlib.contextmanager
def arrow_errors(path: Path, kind: str) -> Iterator[None]:
    """Convert any error of pyarrow about a file that should be a ``kind`` to one line."""
    try:
        path.open("rb").close()  # report a missing file before a missing package
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow: pip install 'softvq[tables]'") from error
    except Exception as error:  # pyarrow raises many kinds on damaged bytes, including OSError without errno
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot read {path}: {one_line(error.strerror or error)}") from error
        raise InputError(f"{path} is damaged or not a {kind}: {one_line(error)}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number")
    return value


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Some platforms cannot sync a folder, and need it less."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
