"""Damaged and forged files."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def mutations(data: bytes, count: int, seed: int) -> list[bytes]:
    """Flip bits, change bytes, and remove, duplicate or set pieces to extreme values."""
    random = np.random.default_rng(seed)
    results = []
    for _ in range(count):
        mutated = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            start = int(random.integers(len(mutated)))
            stop = min(len(mutated), start + int(random.integers(1, 9)))
            kind = int(random.integers(5))
            if kind == 0:
                mutated[start] ^= 1 << int(random.integers(8))
            elif kind == 1:
                mutated[start:stop] = random.bytes(stop - start)
            elif kind == 2:
                del mutated[start:stop]
            elif kind == 3:
                mutated[start:start] = mutated[start:stop]
            else:
                mutated[start:stop] = (b"\xff" if random.integers(2) else b"\0") * (stop - start)
        results.append(bytes(mutated))
    return results


def with_seal(body: bytes) -> bytes:
    """Write an archive with the seal of a checkpoint, as if the program had written it."""
    prefix = b"softvq sha256:"
    head = body[:-2] + struct.pack("<H", len(prefix) + 64)
    return head + prefix + hashlib.sha256(head).hexdigest().encode()


def with_pickle(ckpt: Path, change: Callable[[bytes], bytes], more: dict[str, bytes] | None = None) -> bytes:
    """Write the checkpoint with another pickle inside, under a valid seal."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(ckpt) as source, zipfile.ZipFile(buffer, "w") as target:
        for record in source.infolist():
            data = source.read(record)
            target.writestr(record.filename, change(data) if record.filename.endswith("data.pkl") else data)
        for name, data in (more or {}).items():
            target.writestr(name, data)
    return with_seal(buffer.getvalue())
