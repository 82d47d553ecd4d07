"""Read .npy files safely: the header is checked against the file size before memory is allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from softvq_cli.errors import InputError, one_line, shown


@dataclass(frozen=True)
class Header:
    """The header of a .npy file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int
    """Length of the header in bytes."""


def read_header(file: IO[bytes], where: str, size: int) -> Header:
    """Read and check a header; the file position is then at the first number."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        length = file.tell()
    except Exception as error:  # NumPy evaluates a Python literal, which can raise many errors
        raise InputError(f"{where} is damaged or not a .npy array") from error
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects, which would run code when loaded; save plain numbers")
    if min(shape, default=0) < 0 or length + math.prod(shape) * dtype.itemsize != size:
        raise InputError(f"{where} is damaged: its size does not match the shape {shown(shape)} in its header")
    return Header(shape, fortran, dtype, length)


def map_file(path: Path) -> np.ndarray:
    """The array in a .npy file as a read-only memory map."""
    try:
        with open(path, "rb") as file:
            header = read_header(file, str(path), path.stat().st_size)
        if 0 in header.shape or header.dtype.itemsize == 0:  # nothing to map
            return np.empty(header.shape, header.dtype)
        flat: np.ndarray = np.memmap(path, header.dtype, "r", header.length, math.prod(header.shape))
        return flat.reshape(header.shape, order="F" if header.fortran else "C")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"cannot read {path}: {reason}") from error


def read_array(file: IO[bytes], where: str, size: int) -> np.ndarray:
    """Read the array from an open .npy file into memory."""
    header = read_header(file, where, size)
    try:
        flat = np.empty(math.prod(header.shape), header.dtype)
        _read_into(file, flat.view(np.uint8).data if flat.nbytes else memoryview(b""))
    except MemoryError as error:
        raise InputError(
            f"{where} does not fit into memory; save the images as .npy, then they are read from disk"
        ) from error
    except Exception as error:  # decompressors raise several kinds
        raise InputError(f"{where} is damaged: {one_line(error)}") from error
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _read_into(file: IO[bytes], target: memoryview) -> None:
    """Fill ``target`` in pieces, because a decompressor has its own buffer."""
    done = 0
    while done < len(target):
        data = file.read(min(1 << 24, len(target) - done))
        if not data:
            raise EOFError("it ends too early")
        target[done : done + len(data)] = data
        done += len(data)
    if file.read(1):
        raise EOFError("it does not end where it should")
