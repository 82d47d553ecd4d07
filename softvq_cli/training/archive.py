"""The file format of checkpoints: PyTorch's format, with a SHA-256 checksum in the comment of the zip archive.

``torch.load(path, weights_only=True)`` reads the files too. :func:`read` also verifies the checksum before it parses
anything, and refuses content that could allocate more memory than the file has: ``torch.load`` runs no code, but it
allocates what a pickle requests. For example, it allows ``bytearray(10**11)``, and a few nested lists with shared
elements print as terabytes. Checkpoints need few kinds of values; only those in the lists below are accepted.
:func:`read_plain` reads everything except the tensors, without importing PyTorch.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from softvq_cli.errors import InputError, one_line
from softvq_cli.files import atomic_write

_PREFIX = b"softvq sha256:"
_COMMENT = len(_PREFIX) + 64
_START = b"PK\x03\x04"  # the first record; torch.load assumes another format if a file starts differently
_END = b"PK\x05\x06"  # the end record of the zip format; its last field is the length of the comment
_END_SIZE = 22
_LARGEST_HEADER = 1 << 24
LARGEST = 1 << 22
"""Maximum number of values and characters, counting shared ones each time: more than any run needs, yet harmless."""

_OPCODES = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT EMPTY_LIST
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET
    GLOBAL REDUCE BUILD BINPERSID
"""
_ITEM_SIZES = {
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage"), 8),
}
"""Bytes per number for the names of PyTorch's storages in pickles."""


class Size(NamedTuple):
    """The number of elements in a record or tensor."""

    numel: int


def write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, strings, lists and dictionaries of these) atomically."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    raw = buffer.getbuffer()
    end = bytes(raw[-_END_SIZE:-2])
    if not end.startswith(_END):
        raise RuntimeError("torch.save no longer ends in a plain zip end record")
    tail = end + struct.pack("<H", _COMMENT)
    digest = hashlib.sha256(raw[:-_END_SIZE])
    digest.update(tail)
    with atomic_write(path) as file:
        file.write(raw[:-_END_SIZE])
        file.write(tail + _PREFIX + digest.hexdigest().encode())


def read(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """Read a file written by :func:`write`: its content and its seal, a SHA-256 in hexadecimal.

    Tensors are placed on the CPU. Nothing is executed. InputError: missing, damaged, or not a softvq file.
    """
    import torch

    raw, seal = _sealed(path)
    _plain(path, raw)
    try:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True), seal
    except Exception as error:  # the errors of the unpickler and the reader have no common class
        raise InputError(f"{path} is refused: PyTorch cannot load it as plain values ({one_line(error)})") from error


def read_plain(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The same as :func:`read` without importing PyTorch: each tensor is replaced by its :class:`Size`."""
    raw, seal = _sealed(path)
    return _plain(path, raw), seal


def is_safetensors(path: Path) -> bool:
    """Whether a file starts like the safetensors format: the length of the header and its opening brace."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:  # reported when the file is read
        return False
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= _LARGEST_HEADER


def _sealed(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """The bytes of a file after verification of its checksum, and the checksum."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    comment, end = raw[-_COMMENT:], raw[-_COMMENT - _END_SIZE : -_COMMENT]
    if not raw.startswith(_START):
        raise InputError(f"{path} is not a softvq checkpoint")
    if not (end.startswith(_END) and comment.startswith(_PREFIX)):
        raise InputError(f"{path} is not a complete softvq checkpoint: it is truncated, or from another program")
    seal = hashlib.sha256(memoryview(raw)[:-_COMMENT]).hexdigest()
    if comment[len(_PREFIX) :] != seal.encode():
        raise InputError(f"the checkpoint {path} is damaged: its checksum does not match; use a backup or train again")
    return raw, seal


def _plain(path: str | os.PathLike[str], raw: bytes) -> Any:
    """The plain values of a PyTorch archive, after checking that its tensors fit into its records."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            records = archive.infolist()
            # PyTorch stores records uncompressed, so a genuine file does not unpack to more than its own size.
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            if not stored or sum(record.file_size for record in records) > len(raw):
                raise ValueError("it unpacks to more than its size")
            sizes = {record.filename: record.file_size for record in records}
            if len({name.lower() for name in sizes}) < len(records):  # of duplicates, readers may choose different ones
                raise ValueError("two of its records have the same name")
            pickles = [name for name in sizes if name.endswith(".pkl")]
            if len(pickles) != 1 or pickles[0].count("/") != 1 or not pickles[0].endswith("/data.pkl"):
                raise ValueError("it is not one pickle with its tensors")
            data = archive.read(pickles[0])
        unknown = {opcode.name for opcode, _, _ in pickletools.genops(data)} - set(_OPCODES.split())
        if unknown:
            raise ValueError(f"it uses {', '.join(sorted(unknown))}")
        value = _PlainUnpickler(data, sizes, pickles[0].removesuffix("data.pkl")).load()
        _check_amount(value)
    except Exception as error:  # a damaged pickle can raise anything
        reason = one_line(str(error) or type(error).__name__)
        raise InputError(
            f"the checkpoint {path} is refused: it is no archive of tensors and plain values, and loading it could do "
            f"harm ({reason})"
        ) from error
    return value


class _PlainUnpickler(pickle._Unpickler):
    """Unpickles plain values; storages and tensors become their sizes, after a check that they fit."""

    def __init__(self, data: bytes, sizes: dict[str, int], folder: str) -> None:
        super().__init__(io.BytesIO(data))
        self._sizes, self._folder = sizes, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor_size
        if module == "torch" and name in _ITEM_SIZES:
            return _ITEM_SIZES[name]
        raise ValueError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Size:
        kind, item_size, key, _device, numel = pid
        if kind != "storage" or type(numel) is not int or self._sizes[f"{self._folder}data/{key}"] != numel * item_size:
            raise ValueError("a tensor's storage is not as large as its record")
        return Size(numel)


def _tensor_size(storage: Size, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object) -> Size:
    """Replaces ``_rebuild_tensor_v2``: all elements of the tensor must lie in its storage."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has a negative size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    numel = math.prod(size)
    if numel > storage.numel or (numel and last >= storage.numel):
        raise ValueError("a tensor is larger than its storage")
    return Size(numel)


def _check_amount(value: Any) -> None:
    """Count everything as if it were printed; a value that contains itself exceeds the limit too."""
    todo, amount = [value], 0
    while todo:
        item = todo.pop()
        amount += 1 + (len(item) if isinstance(item, str | dict | list | tuple) else 0)
        if amount > LARGEST:
            raise ValueError("its values are too many")
        if isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            todo += item
