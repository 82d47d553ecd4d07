"""The pickle inside a checkpoint, read once without PyTorch before ``torch.load`` may see it.

``torch.load(weights_only=True)`` runs no code, but it does allocate what a pickle asks for: ``bytearray(10**11)``
is on its list, and a few nested lists that share their elements print as terabytes. Our own files need very
little of all that; whatever is not in the lists here is refused.
"""

from __future__ import annotations

import functools
import io
import operator
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 22
"""Values and characters in all, shared ones counted each time: far above any run, far below any harm."""

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
"""Bytes a number, by the names that pickles have for PyTorch's storages."""


@dataclass(frozen=True)
class _Storage:
    """A record of numbers, by how many it has."""

    numel: int


def check(archive: zipfile.ZipFile) -> None:
    """Make sure that a PyTorch archive holds plain values and tensors that lie within its own records.

    Raises:
        ValueError: it does not, and how.
    """
    records = {record.filename: record for record in archive.infolist()}
    if len({name.lower() for name in records}) < len(archive.infolist()):  # readers differ in which one they take
        raise ValueError("two of its records have the same name")
    pickles = [name for name in records if name.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].count("/") != 1 or not pickles[0].endswith("/data.pkl"):
        raise ValueError("it is not one pickle with its tensors")
    try:
        data = archive.read(pickles[0])
        unknown = {opcode.name for opcode, _, _ in pickletools.genops(data)} - set(_OPCODES.split())
        if unknown:
            raise ValueError(f"it uses {', '.join(sorted(unknown))}")
        folder = pickles[0].removesuffix("data.pkl")
        value = _PlainUnpickler(data, {name: record.file_size for name, record in records.items()}, folder).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(str(error) or type(error).__name__) from error
    _bound(value)


class _PlainUnpickler(pickle._Unpickler):
    """Unpickles plain values; a storage becomes its size, a tensor nothing at all, once they are seen to fit."""

    def __init__(self, data: bytes, sizes: Mapping[str, int], folder: str) -> None:
        super().__init__(io.BytesIO(data))
        self._sizes, self._folder = sizes, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _check_tensor
        if module == "torch" and name in _ITEM_SIZES:
            return _ITEM_SIZES[name]
        raise ValueError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, item_size, key, _device, numel = pid
        if kind != "storage" or type(numel) is not int or self._sizes[f"{self._folder}data/{key}"] != numel * item_size:
            raise ValueError("a tensor's storage is not as large as its record")
        return _Storage(numel)


def _check_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object
) -> None:
    """The arguments of a tensor: it has no more elements than its storage, and all of them lie inside."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has a negative size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    numel = functools.reduce(operator.mul, size, 1)
    if numel > storage.numel or (numel and last >= storage.numel):
        raise ValueError("a tensor is larger than its storage")


def _bound(value: Any) -> None:
    """Walk through everything as if it were printed; what contains itself never ends and is too large too."""
    todo, seen = [value], 0
    while todo:
        one = todo.pop()
        seen += 1 + (len(one) if isinstance(one, str | dict | list | tuple) else 0)
        if seen > LARGEST:
            raise ValueError("its values are too many")
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            todo += one
