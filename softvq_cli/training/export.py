"""A trained model in the safetensors format: weights any program can read, and what they mean as metadata.

The format knows only text as metadata and has no checksum; each value is stored as JSON, and beside them stands
the SHA-256 of everything in the file.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softvq_cli.errors import InputError, SoftVQError, one_line
from softvq_cli.files import atomic_write

_SEAL = "sha256"
_LARGEST_HEADER = 1 << 24


def write(path: str | os.PathLike[str], content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write ``content`` (plain values) and ``tensors`` atomically.

    Raises:
        SoftVQError: it could not be written, or the safetensors package is not installed.
    """
    save = _safetensors("torch").save
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in content.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata[_SEAL] = _seal(metadata, plain)
    raw = save(plain, metadata)
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header["__metadata__"] = metadata  # in our order: the package's changes from one call to the next
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(memoryview(raw)[start:])


def is_export(path: Path) -> bool:
    """Whether a file begins like one in this format: the length of its header, and the header's brace."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:  # whoever reads it says so
        return False
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= _LARGEST_HEADER


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a file made by :func:`write`, as that of a checkpoint without training state, and its seal.

    Raises:
        InputError: damaged, or made by another program.
        SoftVQError: the safetensors package is not installed.
    """
    safe_open = _safetensors().safe_open
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except Exception as error:  # the package has errors of its own
        raise InputError(f"{path} is damaged: {one_line(error)}; export it again") from error
    seal = metadata.pop(_SEAL, None)
    if seal is None:
        raise InputError(f"{path} was not exported by softvq: its metadata do not say what the weights are")
    if seal != _seal(metadata, tensors):
        raise InputError(f"{path} is damaged: its checksum does not match; export it again")
    try:
        content = {name: json.loads(value) for name, value in metadata.items()}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has metadata that are not JSON: {one_line(error)}") from error
    return {**content, "model": tensors, "training": {}}, seal


def _seal(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of every name, text, type, shape and number."""
    described = [*sorted(metadata.items())]
    described += [(name, f"{tensor.dtype} {list(tensor.shape)}") for name, tensor in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps(described).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _safetensors(part: str = "") -> Any:
    """The package, or one of its modules; it is an optional one."""
    try:
        return importlib.import_module("safetensors" + (f".{part}" if part else ""))
    except ImportError as error:
        raise SoftVQError("this needs the safetensors package: pip install 'softvq[safetensors]'") from error
