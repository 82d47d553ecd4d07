"""Export a trained model: weights with metadata (safetensors), or an ONNX model.

A safetensors file has text metadata and no checksum. Each value is stored as JSON, together with a SHA-256 of the whole
content. An ONNX model computes latents from uint8 images in any program with an ONNX runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softvq_cli.config import pixel_range
from softvq_cli.errors import InputError, one_line, optional
from softvq_cli.files import atomic_write
from softvq_cli.model import Autoencoder
from softvq_cli.process import quiet

_SEAL = "sha256"
INPUT = "images"
"""The input of the ONNX model: uint8 (N, H, W, C), or float32 (N, D) for vectors; N is variable."""
MEANINGS = {
    "z_e": "float32 (N, d): the encoder's output, without noise",
    "codes": "int64 (N,), or (N, number of codes of an image): the most probable centroid of the codebook",
    "reconstruction": "float32 (N, H, W, C) in [0, 1]: what the decoder makes of it",
}
"""The outputs by name; without a codebook there are no codes."""
_OPSET = 18


def write_safetensors(path: str | os.PathLike[str], content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write ``content`` (plain values) and ``tensors`` atomically."""
    save = optional("safetensors.torch", "safetensors", "safetensors").save
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in content.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata[_SEAL] = _seal(metadata, plain)
    raw = save(plain, metadata)
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header["__metadata__"] = metadata  # in fixed order, because that of the package varies
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # align the tensors to 8 bytes
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(memoryview(raw)[start:])


def read_safetensors(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a file written by :func:`write_safetensors`, without training state, and its seal."""
    safe_open = optional("safetensors", "safetensors", "safetensors").safe_open
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except Exception as error:  # the package has its own error classes
        raise InputError(f"{path} is damaged: {one_line(error)}; export it again") from error
    seal = metadata.pop(_SEAL, None)
    if seal is None:
        raise InputError(f"{path} was not exported by softvq: its metadata do not describe the weights")
    if seal != _seal(metadata, tensors):
        raise InputError(f"{path} is damaged: its checksum does not match; export it again")
    try:
        content = {name: json.loads(value) for name, value in metadata.items()}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has metadata that are not JSON: {one_line(error)}") from error
    return {**content, "model": tensors, "training": {}}, seal


def _seal(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 in hexadecimal of all names, texts, types, shapes and numbers."""
    described = [*sorted(metadata.items())]
    described += [(name, f"{tensor.dtype} {list(tensor.shape)}") for name, tensor in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps(described).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Deployed(nn.Module):
    """The model as a function of uint8 images, including the scaling of pixels."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs in the order of :func:`outputs_of`."""
        z_e, h = self.model.encode(self.model.scale(images))
        codes = self.model.codes(z_e, h)
        x_hat = self.model.unscale(self.model.decoder(self.model.bottleneck(z_e, h).z_q))
        z_e = self.model.flat(z_e)
        if codes is None:
            return z_e, x_hat
        return z_e, codes[:, 0] if codes.shape[1] == 1 else codes, x_hat


def outputs_of(model: Autoencoder) -> dict[str, str]:
    """The outputs in order: name → meaning."""
    meanings = dict(MEANINGS)
    if model.bottleneck.centroids() is None:
        del meanings["codes"]
    if model.of_vectors:
        meanings["reconstruction"] = "float32 (N, D): what the decoder makes of it, in the units of the training"
    return meanings


def write_onnx(path: str | os.PathLike[str], content: Mapping[str, Any], model: Autoencoder) -> None:
    """Write ``model`` atomically; ``content`` (plain values) and the meaning of inputs and outputs are metadata."""
    require_onnx()
    device = model.pixel_variance.device
    kind = torch.float32 if model.of_vectors else torch.uint8
    example = torch.zeros((2, *model.image_shape), dtype=kind, device=device)
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _no_logs():
        program: Any = torch.onnx.export(
            Deployed(model).eval(),
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs_of(model)),
            dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
            opset_version=_OPSET,
            verbose=False,
        )
    proto = program.model_proto  # created anew at each access
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the source file and line of each node, with paths of this machine
        part.ClearField("doc_string")
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in content.items()}
    metadata["checkpoint_sha256"] = content["checkpoint_sha256"]
    metadata[INPUT] = input_meaning(content["config"]["data"]["pixel_range"], of_vectors=model.of_vectors)
    metadata |= outputs_of(model)
    for name, text in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, text
    proto.producer_name = "softvq"
    with atomic_write(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


def input_meaning(trained_range: str, *, of_vectors: bool = False) -> str:
    """The input of the exported model: images, for this ``pixel_range`` of the training, or vectors."""
    if of_vectors:
        return "float32 (N, D): vectors in the units of the training; they are standardised inside"
    limits = pixel_range(trained_range)
    if limits is None:
        return "uint8 (N, H, W, C): the pixels as they are, in RGB or grey"
    low, high = limits
    return (
        f"uint8 (N, H, W, C), in RGB or grey: 0 is what was {low:.6g} in training and 255 what was {high:.6g}; "
        f"other numbers are to be mapped and rounded first, (x - {low:.6g}) * 255 / {high - low:.6g}"
    )


def require_onnx() -> None:
    """Raise SoftVQError if a package for ONNX is missing."""
    for package in ("onnx", "onnxscript"):
        optional(package, "onnx", package)


@contextlib.contextmanager
def _no_logs() -> Iterator[None]:
    """Suppress the exporter's log messages, which are for programmers."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(level)
