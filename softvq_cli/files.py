"""Writing files so that a reader sees the old one or the new one, never a part of one."""

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

    If the body or any step fails, ``path`` is left as it was and the temporary file is removed. A symbolic link stays
    one: what it points to is replaced. A device or a pipe gets the bytes when all are there.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with _to_device(path) as file:
            yield file
        return
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        # Not by tempfile, whose files nobody else may read: to set the mode right one must know the process's mask,
        # which can only be read by setting it, while other threads make files.
        with open(temporary, "x+b") as file:
            _hold(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # while it is held, so that nobody takes it for abandoned
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
    """Write ``target`` with the content of ``source``, atomically."""
    with atomic_write(target) as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)


def remove(path: Path) -> None:
    """Remove a file if it is there (SoftVQError: that is not possible)."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SoftVQError(f"cannot remove {path}: {error.strerror}; remove it and try again") from error


def discard_abandoned(folder: Path, *names: str) -> None:
    """Remove what killed processes left of files of these names or patterns: temporaries that no process holds."""
    for left in (left for name in names for left in folder.glob(f".{name}.*.tmp")):
        with contextlib.suppress(OSError):
            if fcntl is None:  # the system itself refuses to remove a file that is open
                left.unlink()
                continue
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _hold(descriptor: int) -> None:
    """Mark a temporary file or folder as being used, for as long as it is open."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, atomically. A file name that is not valid text stands there as JSON escapes it."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. NaN and infinity are none, as in :func:`write_json`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {one_line(error)}") from error


def as_utf8(name: str) -> str:
    """A name as the system gave it, read as UTF-8 where its bytes are that: a class and a folder are called the same
    whatever the locale says."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name


def on_disk(path: str) -> str:
    """The path as the system takes it, of one that :func:`as_utf8` gave or that was written down in another locale."""
    if path.isascii() or os.path.exists(os.path.expanduser(path)):
        return path
    try:
        return os.fsdecode(path.encode(errors="surrogateescape"))
    except UnicodeError:
        return path


def is_address(text: str) -> bool:
    """Whether it names something on another machine: ``s3://bucket/z.npy``."""
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
    """A folder that is there as long as the block lasts; those that killed processes left go.

    It lies in ``instead`` where the system's folder for temporary files cannot be written.
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
        folder.mkdir(0o700, exist_ok=True)  # somebody may have taken it for abandoned before it was held
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _new_folder(place: str | os.PathLike[str]) -> Path:
    discard_abandoned(Path(place), "softvq")
    return Path(tempfile.mkdtemp(".tmp", ".softvq.", place))


def arrow_file(path: Path) -> Any:
    """A file that pyarrow reads; given a path it takes all names for UTF-8, whatever the system's are."""
    import pyarrow

    return pyarrow.OSFile(os.fsencode(path))


@contextlib.contextmanager
def arrow_errors(path: Path, kind: str) -> Iterator[None]:
    """Whatever pyarrow raises on a file that should be a ``kind``, in one line."""
    try:
        path.open("rb").close()  # a file that is not there is no matter of a package that is not
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow: pip install 'softvq[tables]'") from error
    except Exception as error:  # pyarrow raises many kinds on damaged bytes, OSError without a number among them
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot read {path}: {one_line(error.strerror or error)}") from error
        raise InputError(f"{path} is damaged or not a {kind}: {one_line(error)}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number")
    return value


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Not every platform can sync a folder; those that cannot need it less."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
