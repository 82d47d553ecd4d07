"""One pass of a model over images: all that a report shows of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.config import BATCH

if TYPE_CHECKING:
    from softvq_cli.datasets.progress import Progress
    from softvq_cli.model import Autoencoder

SIGMA_ROWS = 2048
"""σ_k is looked at over at most this many images, evenly spaced."""


@dataclass(frozen=True)
class Reading:
    """What the model makes of n images, without noise."""

    z: np.ndarray
    """float32 (n, d): z_e."""
    errors: np.ndarray
    """float64 (n,): mean squared error of the pixels over the pixel variance of training; the mean is the nMSE."""
    reconstructions: np.ndarray
    """uint8 (m, H, W, C), of the rows asked for."""
    codewords: np.ndarray | None
    """int64 (n,): the most probable codeword of each."""
    codeword_distances: np.ndarray | None
    """float64 (n,): ‖z_e − μ_k‖ to it."""
    usage: np.ndarray | None
    """float64 (K,): the mean posterior probability of each codeword."""
    figures: Mapping[str, float]
    """The bottleneck's own figures over all images, as in the log."""


def read(model: Autoencoder, images: np.ndarray, rows: np.ndarray, *, progress: Progress | None = None) -> Reading:
    """Send ``images`` through the model.

    Args:
        model: in evaluation mode.
        images: uint8 (n, H, W, C).
        rows: int (m,), rising: whose reconstructions are kept.
        progress: is told how far it is.
    """
    import torch

    centroids = model.bottleneck.centroids()
    wanted = np.zeros(len(images), dtype=bool)
    wanted[rows] = True
    z, errors, pixels, codewords, distances = ([] for _ in range(5))
    sums: dict[str, torch.Tensor] = {}
    done = 0
    with torch.inference_mode():
        for x in model.batches(images):
            z_e, h = model.encode(x)
            output = model.bottleneck(z_e, h)
            x_hat = model.decoder(output.z_q)
            squares = (x - x_hat).double().square().flatten(1).mean(1) / model.pixel_variance.double()
            kept = torch.from_numpy(wanted[done : done + len(x)]).to(x.device)
            pixels.append((255 * model.unscale(x_hat[kept])).round().byte().cpu().numpy())
            z.append(z_e.cpu().numpy())
            errors.append(squares.cpu().numpy())
            sums = {name: sums.get(name, 0) + value.double() for name, value in output.stats.items()}
            if centroids is not None:
                index = model.bottleneck.assign(z_e, h)
                assert index is not None  # there are centroids
                codewords.append(index.cpu().numpy())
                distances.append((z_e - centroids[index]).double().norm(dim=1).cpu().numpy())
            done += len(x)
            if progress is not None:
                progress("reconstructing", done, len(images))
    usage = sums["usage"].cpu().numpy() / len(images) if "usage" in sums else None
    return Reading(
        z=np.concatenate(z),
        errors=np.concatenate(errors),
        reconstructions=np.concatenate(pixels),
        codewords=np.concatenate(codewords) if codewords else None,
        codeword_distances=np.concatenate(distances) if distances else None,
        usage=usage,
        figures=model.bottleneck.summarise(sums, len(images)) if sums else {},
    )


def decoded_centroids(model: Autoencoder, numbers: np.ndarray) -> np.ndarray:
    """uint8 (S, H, W, C): what the decoder draws of the codewords with these ``numbers``, int (S,)."""
    import torch

    centroids = model.bottleneck.centroids()
    assert centroids is not None
    with torch.inference_mode():
        parts = [
            (255 * model.unscale(model.decoder(centroids[numbers[i : i + BATCH]]))).round().byte().cpu().numpy()
            for i in range(0, len(numbers), BATCH)
        ]
    return np.concatenate(parts)


def median_sigma(model: Autoencoder, images: np.ndarray) -> np.ndarray | None:
    """float64 (K,): the median of each σ_k over images, at most SIGMA_ROWS; None where the bottleneck has no σ."""
    import torch

    rows = np.linspace(0, len(images) - 1, min(len(images), SIGMA_ROWS)).round().astype(np.int64)
    parts = []
    with torch.inference_mode():
        for x in model.batches(images[rows]):
            sigma = model.bottleneck.sigma(model.encode(x)[1])
            if sigma is None:
                return None
            parts.append(sigma.cpu().double().numpy())
    return np.asarray(np.median(np.concatenate(parts), axis=0))
