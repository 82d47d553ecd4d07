"""The Python API: load checkpoints, embed images, and the scikit-learn estimators."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softvq_cli.datasets.loose import read_images
from softvq_cli.datasets.vectors import checked
from softvq_cli.devices import pick
from softvq_cli.errors import InputError
from softvq_cli.estimators import AutoencoderEmbedder, KMeansManyStarts
from softvq_cli.estimators.pixels import Numbers, as_images, check_bytes
from softvq_cli.model import Autoencoder, represent
from softvq_cli.training import Checkpoint, checkpoint
from softvq_cli.training.run import networks_of

__all__ = ["AutoencoderEmbedder", "KMeansManyStarts", "embed", "load"]


def load(
    path: str | os.PathLike[str],
    device: str = "cpu",
    *,
    encoder: torch.nn.Module | None = None,
    decoder: torch.nn.Module | None = None,
) -> Checkpoint:
    """Load a checkpoint and rebuild its model, which can be passed to ``embed``.

    Args:
        path: a ``ckpt.pt`` file written by ``softvq train``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        encoder: a module with the architecture of the custom encoder that was passed to ``train``, if there was
            one. Its weights are read from the file.
        decoder: the same for the decoder.

    Raises:
        InputError: the file is missing, damaged, or not a softvq checkpoint (nothing in it is executed); or
            ``encoder`` and ``decoder`` are missing, or given for a model without custom modules.
        UsageError: the device is not available.
    """
    return checkpoint.load(path, pick(device), networks_of(encoder, decoder))


def embed(model: Checkpoint | Autoencoder | str | os.PathLike[str], images: Any, what: str = "z_e") -> np.ndarray:
    """Compute a representation of ``images``, without noise.

    Args:
        model: a loaded checkpoint, the path of a checkpoint, or an autoencoder in evaluation mode.
        images: an array or tensor, uint8 (N, H, W, C) or, for greyscale, (N, H, W), where 0 is black and 255 white;
            a tensor may also be (N, C, H, W). Or a list of arrays (one image each), PIL images, or paths of image
            files; PIL images and files are converted to the model's size and channels. A checkpoint trained on
            images that are not 8-bit also accepts values in the units of its training data. They are scaled as in
            training, but not rounded or clipped. A checkpoint trained on rows also accepts rows (N, H*W*C).
        what: ``z_e`` (default), ``z_q``, ``codes``, ``reconstruction`` or ``pixels``;
            see ``softvq_cli.model.represent``.

    Returns:
        float32 (N, d), or the shape and dtype given in ``softvq_cli.model.represent``.

    Raises:
        InputError: the images have a type or shape that the model does not accept, or are a single image.
        UsageError: ``what`` is unknown.
    """
    if isinstance(model, str | os.PathLike):
        model = load(model)
    network = model.model if isinstance(model, Checkpoint) else model
    if network.of_vectors:
        array = checked(images, "the array")
    elif isinstance(model, Checkpoint):
        array = _bytes_or_scaled(_array_of(images, network.image_shape, model.config.data.pixel_range), model)
    else:
        unknown = "an autoencoder does not know the range of the images: give its checkpoint, or uint8 images"
        array = _bytes(_array_of(images, network.image_shape, "auto"), unknown)
    return represent(network, array, what)


def _array_of(images: Any, shape: tuple[int, ...], setting: str) -> np.ndarray:
    """Convert ``images`` to one array. ``shape`` is the model's (H, W, C), ``setting`` its ``pixel_range``."""
    if isinstance(images, str | os.PathLike) or _is_picture(images):
        raise InputError("this is a single image: give a list of images, [image]")
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu().numpy()
        if images.ndim == 4 and images.shape[-1] != shape[-1] and images.shape[1] == shape[-1]:
            images = images.transpose(0, 2, 3, 1)
    if isinstance(images, np.ndarray):
        _refuse_one(images, shape)
        return images
    images = list(images)
    if not images:
        raise InputError("there are no images to represent")
    if all(isinstance(image, str | os.PathLike) for image in images):
        return read_images([Path(image) for image in images], shape, setting)
    if all(map(_is_picture, images)):
        mode, size = ("L" if shape[2] == 1 else "RGB"), (shape[1], shape[0])
        return np.stack([np.asarray(image.convert(mode).resize(size)).reshape(shape) for image in images])
    arrays = [
        image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image) for image in images
    ]
    if len({array.shape for array in arrays}) != 1:
        raise InputError(f"the images of the list have different shapes, {arrays[0].shape} and others")
    if arrays[0].shape == (shape[2], *shape[:2]) and arrays[0].shape != shape:  # a tensor, channels first
        arrays = [array.transpose(1, 2, 0) for array in arrays]
    return np.stack(arrays)


def _is_picture(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _refuse_one(images: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise InputError for a single image: a 3-D array is N grey images unless its shape is that of one image."""
    colour = images.ndim == 3 and images.shape[-1] == 3 and shape[1] != 3
    if colour or images.shape == shape or (images.shape == shape[:2] and shape[0] > 1):
        raise InputError(f"an array of shape {images.shape} is a single image: give images[None], or a list of images")


def _bytes_or_scaled(images: np.ndarray, trained: Checkpoint) -> np.ndarray:
    """Scale images to (N, H, W, C), black 0 and white 255, by the value range of the checkpoint's training data."""
    numbers = Numbers.of(trained.config, trained.model.image_shape)
    if numbers is None:
        return _bytes(images, f"{trained.path} was trained on 8-bit images: give uint8 from 0 (black) to 255 (white)")
    if numbers.of_rows and images.ndim == 2:
        if images.shape[1] != math.prod(numbers.shape):
            raise InputError(
                f"{trained.path} takes rows of {math.prod(numbers.shape)} numbers, but these have {images.shape[1]}"
            )
        return numbers.images(images)
    return numbers.of_images(as_images(images))


def _bytes(images: np.ndarray, otherwise: str) -> np.ndarray:
    check_bytes(images, otherwise)
    return as_images(images)
