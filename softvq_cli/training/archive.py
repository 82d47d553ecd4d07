"""A file format for checkpoints: PyTorch's own, with the SHA-256 of everything in the zip archive's comment.

``torch.load(path, weights_only=True)`` reads it like any other; :func:`read` also tells a damaged file from a
good one before a byte of it is parsed, and refuses what could allocate more than the file holds.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from softvq_cli.errors import InputError, one_line
from softvq_cli.files import atomic_write
from softvq_cli.training import pickle_check

_PREFIX = b"softvq sha256:"
_COMMENT = len(_PREFIX) + 64
_START = b"PK\x03\x04"  # the first record; torch.load takes a file that begins otherwise for another format
_END = b"PK\x05\x06"  # the zip format's end record; its last field is the comment's length
_END_SIZE = 22


def write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, strings, lists and dicts of these) atomically.

    Raises:
        SoftVQError: it could not be written; what was at ``path`` is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    raw = buffer.getbuffer()
    body = bytes(raw[-_END_SIZE:-2])
    if not body.startswith(_END):
        raise RuntimeError("torch.save no longer ends in a plain zip end record")
    tail = body + struct.pack("<H", _COMMENT)
    digest = hashlib.sha256(raw[:-_END_SIZE])
    digest.update(tail)
    with atomic_write(path) as file:
        file.write(raw[:-_END_SIZE])
        file.write(tail + _PREFIX + digest.hexdigest().encode())


def read(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The content of a file made by :func:`write` and its seal, a SHA-256 in hexadecimal.

    Tensors come to the CPU. Nothing in the file is executed.

    Raises:
        InputError: missing, not ours, damaged, or not loadable without running code.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    seal = _check_seal(path, raw)
    _check_archive(path, raw)
    try:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True), seal
    except Exception as error:  # the unpickler's refusals and the reader's failures have no common class
        raise InputError(f"{path} is refused: PyTorch cannot load it as plain values ({one_line(error)})") from error


def _check_seal(path: str | os.PathLike[str], raw: bytes) -> str:
    comment = raw[-_COMMENT:]
    end = raw[-_COMMENT - _END_SIZE : -_COMMENT]
    if not (raw.startswith(_START) and end.startswith(_END) and comment.startswith(_PREFIX)):
        raise InputError(f"{path} is not a complete softvq checkpoint: it is cut short, or another program made it")
    seal = hashlib.sha256(memoryview(raw)[:-_COMMENT]).hexdigest()
    if comment[len(_PREFIX) :] != seal.encode():
        raise InputError(f"the checkpoint {path} is damaged: its checksum does not match; use a backup or train again")
    return seal


def _check_archive(path: str | os.PathLike[str], raw: bytes) -> None:
    """PyTorch stores its records uncompressed, so an honest file never unpacks to more than its own size."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            records = archive.infolist()
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            if not stored or sum(record.file_size for record in records) > len(raw):
                raise InputError(f"the checkpoint {path} is refused: it unpacks to more than its size")
            pickle_check.check(archive)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, struct.error) as error:
        raise InputError(f"the checkpoint {path} is not a readable archive: {one_line(error)}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} is refused: it holds more than tensors and plain values, and loading it could do harm "
            f"({one_line(error)})"
        ) from error
