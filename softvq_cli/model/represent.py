"""Read representations from a trained model, and decode codes and latents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch

from softvq_cli.config import BATCH
from softvq_cli.devices import inference
from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.model.autoencoder import Autoencoder
from softvq_cli.words import REPRESENTATIONS


class Filled:
    """Arrays of a known number of rows, filled batch by batch.

    A list of batches would keep small arrays between the large ones of the network, and so break the memory into
    pieces that the next batches cannot use: 4 GB more for 10^6 vectors.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._done: Counter[str] = Counter()

    def add(self, name: str, rows: np.ndarray, count: int) -> None:
        """Append to the array ``name``, which will have ``count`` rows."""
        start = self._done[name]
        if not start:
            self.arrays[name] = np.empty((count, *rows.shape[1:]), rows.dtype)
        self.arrays[name][start : start + len(rows)] = rows
        self._done[name] += len(rows)


def represent(
    model: Autoencoder, images: np.ndarray, what: str = "z_e", tick: Callable[[int], object] = lambda done: None
) -> np.ndarray:
    """Compute a representation of ``images``, uint8 (N, H, W, C), without noise; the model is in evaluation mode.

    ``what``: ``z_e``, the encoder's output (for Gaussian bottlenecks, the mean), or ``z_q``, the decoder's input,
    float32 (N, d); ``codes``, int64 (N, codes per image); ``reconstruction`` or ``pixels``, float32 (N, H*W*C) in
    [0, 1]. ``tick`` receives the number of images that are done. UsageError: ``what`` is unknown. InputError: no
    images, images of another shape, or codes of a bottleneck without a codebook.
    """
    filled, done = Filled(), 0
    for rows in representations(model, images, what):
        filled.add(what, rows, len(images))
        done += len(rows)
        tick(done)
    return filled.arrays[what]


def representations(
    model: Autoencoder, images: np.ndarray, what: str = "z_e", size: int = BATCH
) -> Iterator[np.ndarray]:
    """Yield the rows of :func:`represent`, ``size`` images at a time. Errors are raised before the first batch."""
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
        with inference(model.pixel_variance.device):  # left before the caller uses the rows
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
            raise _no_codebook(model)
        return codes
    z_q = model.flat(model.bottleneck(z_e, h).z_q)
    return z_q if what == "z_q" else model.unscale(model.decoder(z_q)).flatten(1)


def decode(model: Autoencoder, rows: np.ndarray) -> np.ndarray:
    """Decode codes or latents with the decoder of the model, which is in evaluation mode.

    Integers (N, codes per image), or (N,) for one code per image, are codes. Floats (N, d) are latents, decoded without
    the bottleneck. Returns float32 (N, H, W, C) in [0, 1], or (N, D) for vectors, in the units of the training data.
    InputError: another shape, a code that is not in the codebook, values that are not finite, or codes for a bottleneck
    without a codebook.
    """
    of_codes = rows.dtype.kind in "iu"
    rows = _checked_codes(model, rows) if of_codes else _checked_latents(model, rows)
    parts, device = [], model.pixel_variance.device
    with inference(device):
        for start in range(0, len(rows), model.batch_size):
            part = torch.from_numpy(rows[start : start + model.batch_size]).to(device)
            if of_codes:
                of_positions = part.reshape(len(part) * model.positions, -1)  # (B·P, G)
                z_q = model.bottleneck.decoded(of_positions if of_positions.shape[1] > 1 else of_positions[:, 0])
                assert z_q is not None  # it has a codebook
                part = model.flat(z_q)
            parts.append(model.unscale(model.decoder(part)).cpu().numpy())
    return np.concatenate(parts)


def codes_shape(model: Autoencoder) -> tuple[int, int, int]:
    """(P, G, K): positions per image, codes per position, codewords per codebook (InputError: no codebook)."""
    centroids = model.bottleneck.centroids()
    if centroids is None:
        raise _no_codebook(model)
    return model.positions, len(centroids) if centroids.dim() == 3 else 1, centroids.shape[-2]


def _checked_codes(model: Autoencoder, codes: np.ndarray) -> np.ndarray:
    """Check codes and convert them to int64 (N, P·G)."""
    P, G, K = codes_shape(model)
    codes = codes[:, None] if codes.ndim == 1 and P * G == 1 else codes
    if codes.ndim != 2 or codes.shape[1] != P * G or not len(codes):
        raise InputError(f"an image has {P * G} codes here, and these have the shape {codes.shape}: give (N, {P * G})")
    outside = (codes < 0) | (codes >= K)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise InputError(f"row {row} has the code {codes[row, column]}: the codes are 0 to {K - 1}")
    return codes.astype(np.int64)


def _checked_latents(model: Autoencoder, z: np.ndarray) -> np.ndarray:
    """Check latents and convert them to float32 (N, d)."""
    d = model.config.latent_dim
    if z.dtype.kind != "f" or z.ndim != 2 or z.shape[1] != d or not len(z):
        raise InputError(f"the latents have {d} dimensions: give floats (N, {d}), not {z.dtype} {z.shape}")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(z, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise InputError("these latents have NaN, infinity or a number too large for float32")
    return rows


def _no_codebook(model: Autoencoder) -> InputError:
    return InputError(f"the bottleneck {model.config.bottleneck} has no codebook, so its models have no codes")
