"""Read arrays of real numbers from MATLAB files, versions 5 to 7.

Damaged files can crash SciPy's reader. Here, every offset is checked before it is used. The format is
described in MathWorks' "MAT-File Format", chapter 1.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from softvq_cli.datasets.naming import check_expansion
from softvq_cli.errors import InputError

_HEADER = 128
_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
"""Version 1.0 and byte order at the end of the header. Version 7.3 has another number, version 4 no header."""
_MATRIX, _COMPRESSED, _COMPLEX = 14, 15, 0x0800
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type codes of elements."""
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Class codes of arrays, whose elements may be stored in a smaller type."""


def read(path: Path, content: bytes) -> dict[str, np.ndarray | None]:
    """Name → array; None for cell, struct, text, sparse and complex arrays.

    InputError: another version of the format. Damaged files: struct.error, zlib.error, ValueError, KeyError or
    InputError.
    """
    order = _ORDERS.get(content[_HEADER - 4 : _HEADER])
    if order is None:
        raise InputError(f"{path} is not a MATLAB file of version 5 to 7: save it with -v7")
    arrays = {}
    for element in _elements(memoryview(content)[_HEADER:], order):
        kind, data = _inflated(path, element[1], order) if element[0] == _COMPRESSED else element
        if kind == _MATRIX:
            name, array = _array(data, order)
            arrays[name] = array
    return arrays


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and the bytes of each element."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # up to four bytes, stored in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + size > len(data) or (start < place + 8 and size > 4):
            raise ValueError("it ends within an element")
        yield kind, data[start : start + size]
        place = start + size
        place += 0 if kind == _COMPRESSED else -place % 8


def _inflated(path: Path, data: memoryview, order: str) -> tuple[int, memoryview]:
    inflater = zlib.decompressobj()
    tag = inflater.decompress(data, 8)
    kind, size = struct.unpack(f"{order}II", tag)
    check_expansion(path, len(data), size)
    return kind, memoryview(inflater.decompress(inflater.unconsumed_tail, size))[:size]


def _array(data: memoryview, order: str) -> tuple[str, np.ndarray | None]:
    (_, flags), (_, dimensions), (_, name), *numbers = itertools.islice(_elements(data, order), 4)
    [flag] = struct.unpack_from(f"{order}I", flags)
    kind = _CLASSES.get(flag & 0xFF)
    if kind is None or flag & _COMPLEX:
        return bytes(name).decode(), None
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    [(stored, content)] = numbers
    values = np.frombuffer(content, order + _STORED[stored])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} numbers do not make an array of {shape}")
    return bytes(name).decode(), values.astype(kind, copy=False).reshape(shape, order="F")
