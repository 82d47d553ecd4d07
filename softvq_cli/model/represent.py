"""What can be read out of a trained model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from softvq_cli.config import BATCH
from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.model.autoencoder import Autoencoder
from softvq_cli.words import REPRESENTATIONS


def represent(model: Autoencoder, images: np.ndarray, what: str = "z_e") -> np.ndarray:
    """Read a representation of ``images`` off the model, without noise.

    Args:
        model: in evaluation mode.
        images: uint8 (N, H, W, C) of the model's image shape, at least one.
        what: ``z_e`` the encoder's output (the mean, for the Gaussian bottlenecks), ``z_q`` the decoder's
            input, ``codes`` the numbers of the codewords, ``reconstruction`` or ``pixels``.

    Returns:
        float32 (N, d) for z_e and z_q, int64 (N, codes of an image) for codes, float32 (N, H*W*C) in [0, 1]
        for the others.

    Raises:
        UsageError: an unknown ``what``.
        InputError: no images, images of another shape, or codes of a bottleneck without a codebook.
    """
    return np.concatenate(list(representations(model, images, what)))


def representations(
    model: Autoencoder, images: np.ndarray, what: str = "z_e", size: int = BATCH
) -> Iterator[np.ndarray]:
    """The rows of :func:`represent`, ``size`` images at a time. What it raises comes before the first of them."""
    if what not in REPRESENTATIONS:
        raise UsageError(unknown_name("representation", what, REPRESENTATIONS))
    if tuple(images.shape[1:]) != model.image_shape:
        raise InputError(
            f"the model takes images of shape {model.image_shape} (height, width, channels), "
            f"and these have {tuple(images.shape[1:])}"
        )
    if not len(images):
        raise InputError("there are no images to represent")
    for x in model.batches(images, size):
        with torch.inference_mode():  # not while the caller works on the rows
            rows = _read(model, x, what).cpu().numpy()
        yield rows


def _read(model: Autoencoder, x: torch.Tensor, what: str) -> torch.Tensor:
    if what == "pixels":
        return model.unscale(x).flatten(1)
    z_e, h = model.encode(x)
    if what == "z_e":
        return model.flat(z_e)
    if what == "codes":
        codes = model.codes(z_e, h)
        if codes is None:
            raise InputError(f"a {model.config.bottleneck} model has no codebook, so it has no codes")
        return codes
    z_q = model.flat(model.bottleneck(z_e, h).z_q)
    return z_q if what == "z_q" else model.unscale(model.decoder(z_q)).flatten(1)
