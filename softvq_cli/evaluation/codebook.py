"""How a codebook is used by the images of a split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError

if TYPE_CHECKING:
    from softvq_cli.model import Autoencoder

SIGMA_ROWS = 2048
"""The quantiles of σ are taken over all codewords and at most this many images, evenly spaced."""
SIGMA_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class CodebookUse:
    """What the images make of the K codewords, without noise."""

    counts: np.ndarray
    """int64 (K,): for how many images each codeword is the most probable one."""
    usage: np.ndarray
    """float64 (K,): the mean posterior probability of each codeword; sums to 1."""
    posterior_entropy_bits: float
    """Mean entropy of an image's posterior over the codewords; 0 for hard quantisation."""
    soft_hard_distance: float
    """Mean Euclidean distance between ẑ_q and the most probable codeword."""
    soft_hard_relative: float
    """The same as a share: root mean square distance over the root mean square norm of the codewords chosen."""
    sigma: tuple[float, ...] | None
    """The quantiles SIGMA_QUANTILES of σ_k over images and codewords; None where the bottleneck has no σ."""
    n: int

    @property
    def usage_entropy_bits(self) -> float:
        """Entropy of :attr:`usage`."""
        used = self.usage[self.usage > 0]
        return max(0.0, float(-(used * np.log2(used)).sum()))

    @property
    def perplexity(self) -> float:
        """The effective number of codewords, 1…K."""
        return float(2.0**self.usage_entropy_bits)

    @property
    def active(self) -> int:
        """Codewords that are the most probable one for at least one image."""
        return int((self.counts > 0).sum())

    @property
    def dead(self) -> int:
        """Codewords that are the most probable one for no image."""
        return len(self.counts) - self.active

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the two arrays are left out."""
        names = [f"sigma_p{round(100 * q):02d}" for q in SIGMA_QUANTILES]
        return {
            "perplexity": self.perplexity,
            "active_codes": self.active,
            "dead_codes": self.dead,
            "posterior_entropy_bits": self.posterior_entropy_bits,
            "soft_hard_distance": self.soft_hard_distance,
            "soft_hard_relative": self.soft_hard_relative,
            **(dict(zip(names, self.sigma, strict=True)) if self.sigma is not None else {}),
        }


def codebook_use(model: Autoencoder, images: np.ndarray, *, batch_size: int = 512) -> CodebookUse:
    """Send ``images`` through the encoder and the codebook, and count.

    Args:
        model: in evaluation mode, with a codebook.
        images: uint8 (N, H, W, C), at least one.
        batch_size: images at a time.

    Raises:
        InputError: the bottleneck has no codebook.
    """
    import torch
    from torch.nn import functional as F

    from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck

    bottleneck = model.bottleneck
    if not isinstance(bottleneck, CodebookBottleneck):
        raise InputError(f"a {model.config.bottleneck} model has no codebook")
    codebook = bottleneck.centroids()
    usage, counts = (np.zeros(len(codebook)) for _ in range(2))
    entropy = distance = squared_distance = squared_norm = 0.0
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            z_e, h = encode(model, images[start : start + batch_size])
            soft, stats = bottleneck.quantise(z_e, h)  # (B, d)
            hard = F.embedding(bottleneck.assign(z_e, h), codebook)  # type: ignore[arg-type]  # (B, d)
            usage += stats["usage"].cpu().double().numpy()
            counts += stats["counts"].cpu().double().numpy()
            entropy += stats["entropy"].item()
            squares = (soft - hard).cpu().double().square().sum(1)  # (B,)
            distance += squares.sqrt().sum().item()
            squared_distance += squares.sum().item()
            squared_norm += hard.cpu().double().square().sum().item()
    n = len(images)
    return CodebookUse(
        counts=counts.astype(np.int64),
        usage=usage / usage.sum(),
        posterior_entropy_bits=max(0.0, entropy / n / math.log(2)),
        soft_hard_distance=distance / n,
        soft_hard_relative=math.sqrt(squared_distance / squared_norm) if squared_norm > 0 else 0.0,
        sigma=_sigma_quantiles(model, images, batch_size),
        n=n,
    )


def encode(model: Autoencoder, images: np.ndarray) -> Any:
    """(z_e, h), tensors on the model's device, of uint8 ``images`` (B, H, W, C)."""
    import torch

    x = model.scale(torch.from_numpy(np.ascontiguousarray(images)).to(model.pixel_variance.device))
    return model.encode(x)


def _sigma_quantiles(model: Autoencoder, images: np.ndarray, batch_size: int) -> tuple[float, ...] | None:
    import torch

    from softvq_cli.model.bottlenecks.soft_vq import SoftVQ

    bottleneck = model.bottleneck
    if not isinstance(bottleneck, SoftVQ):
        return None
    rows = np.linspace(0, len(images) - 1, min(len(images), SIGMA_ROWS)).round().astype(np.int64)
    with torch.inference_mode():
        parts = [
            bottleneck.log_sigma(encode(model, images[rows[i : i + batch_size]])[1]).cpu().double().numpy()
            for i in range(0, len(rows), batch_size)
        ]
    log_sigma = np.concatenate([part.reshape(-1) for part in parts])
    return tuple(np.exp(np.quantile(log_sigma, SIGMA_QUANTILES)).tolist())
