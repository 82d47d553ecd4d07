"""What can be read out of a trained model, one batch of images at a time."""

from __future__ import annotations

import numpy as np
import torch

from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.model.autoencoder import Autoencoder
from softvq_cli.words import REPRESENTATIONS


def represent(model: Autoencoder, images: np.ndarray, what: str = "z_e") -> np.ndarray:
    """Read a representation of ``images`` off the model, without noise.

    Args:
        model: in evaluation mode.
        images: uint8 (B, H, W, C) of the model's image shape.
        what: ``z_e`` the encoder's output (the mean, for the Gaussian bottlenecks), ``z_q`` the decoder's
            input, ``indices`` the most probable centroid, ``reconstruction`` or ``pixels``.

    Returns:
        float32 (B, d) for z_e and z_q, int64 (B, 1) for indices, float32 (B, H*W*C) in [0, 1] for the others.

    Raises:
        UsageError: an unknown ``what``.
        InputError: images of another shape, or indices of a bottleneck without a codebook.
    """
    if what not in REPRESENTATIONS:
        raise UsageError(unknown_name("representation", what, REPRESENTATIONS))
    if tuple(images.shape[1:]) != model.image_shape:
        raise InputError(
            f"the model takes images of shape {model.image_shape} (height, width, channels), "
            f"and these have {tuple(images.shape[1:])}"
        )
    device = model.pixel_variance.device
    with torch.inference_mode():
        x = model.scale(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        return _read(model, x, what).cpu().numpy()


def _read(model: Autoencoder, x: torch.Tensor, what: str) -> torch.Tensor:
    if what == "pixels":
        return model.unscale(x).flatten(1)
    z_e, h = model.encode(x)
    if what == "z_e":
        return z_e
    if what == "indices":
        indices = model.bottleneck.assign(z_e, h)
        if indices is None:
            raise InputError(f"a {model.config.bottleneck} model has no codebook, so it has no indices")
        return indices[:, None]
    z_q = model.bottleneck(z_e, h).z_q
    return z_q if what == "z_q" else model.unscale(model.decoder(z_q)).flatten(1)
