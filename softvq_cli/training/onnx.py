"""A trained model in the ONNX format: from uint8 images to latents, in any program that has an ONNX runtime."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from softvq_cli.config import pixel_range
from softvq_cli.errors import SoftVQError
from softvq_cli.files import atomic_write
from softvq_cli.model import Autoencoder

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint

INPUT = "images"
"""uint8 (N, H, W, C), N free."""
MEANINGS = {
    "z_e": "float32 (N, d): the encoder's output, without noise",
    "indices": "int64 (N,): the most probable centroid of the codebook",
    "reconstruction": "float32 (N, H, W, C) in [0, 1]: what the decoder makes of it",
}
"""The outputs by name; those of a model without a codebook have no indices."""
_OPSET = 18


class Deployed(nn.Module):
    """The model as a function of uint8 images, with the scaling of the pixels inside."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs that :func:`outputs_of` names, in that order."""
        z_e, h = self.model.encode(self.model.scale(images))
        indices = self.model.bottleneck.assign(z_e, h)
        x_hat = self.model.unscale(self.model.decoder(self.model.bottleneck(z_e, h).z_q))
        return (z_e, x_hat) if indices is None else (z_e, indices, x_hat)


def outputs_of(model: Autoencoder) -> tuple[str, ...]:
    """The names of the outputs, in order."""
    return tuple(name for name in MEANINGS if name != "indices" or model.bottleneck.centroids() is not None)


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the model atomically, with the settings, the data's description and the meaning of each output.

    Raises:
        SoftVQError: it could not be written, or a package that it needs is not installed.
    """
    require_onnx()
    model = checkpoint.model
    device = model.pixel_variance.device
    example = torch.zeros((2, *model.image_shape), dtype=torch.uint8, device=device)
    with _silence():
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
    proto = program.model_proto
    _forget_source(proto.graph)
    for name, text in _metadata(checkpoint).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, text
    proto.producer_name = "softvq"
    with atomic_write(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """All that a checkpoint says of itself, each value as JSON, and the meaning of input and outputs as text."""
    return {
        **{name: json.dumps(value, allow_nan=False) for name, value in checkpoint.description().items()},
        "checkpoint_sha256": checkpoint.sha256,
        INPUT: input_meaning(checkpoint),
        **{name: MEANINGS[name] for name in outputs_of(checkpoint.model)},
    }


def input_meaning(checkpoint: Checkpoint) -> str:
    """What the images are that the exported model takes."""
    limits = pixel_range(checkpoint.config.data.pixel_range)
    if limits is None:
        return "uint8 (N, H, W, C): the pixels as they are, in RGB or grey"
    low, high = limits
    return (
        f"uint8 (N, H, W, C), in RGB or grey: 0 is what was {low:.6g} in training and 255 what was {high:.6g}; "
        f"other numbers are to be mapped and rounded first, (x - {low:.6g}) * 255 / {high - low:.6g}"
    )


def _forget_source(graph: Any) -> None:
    """Take out which line of which file on this machine a node comes from."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def require_onnx() -> None:
    """Make sure that the packages are there.

    Raises:
        SoftVQError: one is not.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise SoftVQError(f"this needs the {package} package: pip install 'softvq[onnx]'") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter speaks to programmers, on both streams."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
