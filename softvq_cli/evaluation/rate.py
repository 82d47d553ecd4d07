"""How many bits about an image a bottleneck passes on.

Let X be an image drawn from the N that are evaluated. What can be said about the information in the code differs
by bottleneck, and so does what the number means:

=============  ==================================================================================  ===========
codebooks      I(X; k) for a codeword k drawn from the image's posterior p(k | x): the entropy of  exact
               the mean posterior minus the mean entropy of the posteriors; at most log2 K. Hard
               quantisation: the entropy of the usage. The decoder of soft VQ-VAE receives the
               posterior mean, a point between the codewords, which this number does not count.
vae, beta-vae  mean KL(q(z | x) ‖ N(0, I)) / ln 2 ≥ I(X; z): what bits-back coding would spend.    upper bound
info-dropout   z = z_e ⊙ e^(α ε). The sign and log |z| determine z, and given x, log |z_j| is      upper bound
               N(log |z_e,j|, α_j²). With a Gaussian of the same mean and variance and a coin for
               the sign as the prior of each dimension, I(X; z) ≤ Σ_j H(sign_j) + ½ log v_j −
               ½ E log α_j², where v_j = Var log |z_e,j| + E α_j².
ae             none: a real vector without noise has no finite rate.                               –
=============  ==================================================================================  ===========
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.evaluation.codebook import CodebookUse, codebook_use, encode

if TYPE_CHECKING:
    from softvq_cli.model import Autoencoder

_SMALLEST = 1e-30
"""Below this |z_e| is taken for this: its logarithm must be finite."""


@dataclass(frozen=True)
class Rate:
    """Bits about an image."""

    bits: float
    upper_bound: bool
    """Whether the information is at most this, or is this."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def codeword_rate(use: CodebookUse) -> Rate:
    """I(X; k) = H(mean posterior) − mean H(posterior)."""
    return Rate(max(0.0, use.usage_entropy_bits - use.posterior_entropy_bits), upper_bound=False)


def gaussian_rate(kl_nats: float) -> Rate:
    """The mean KL to the prior, in bits."""
    return Rate(kl_nats / math.log(2), upper_bound=True)


def log_normal_rate(z_e: np.ndarray, alpha: np.ndarray) -> Rate:
    """The bound for multiplicative log-normal noise.

    Args:
        z_e: (N, d), the code without noise.
        alpha: (N, d), the noise's scale, positive.
    """
    log_z = np.log(np.maximum(np.abs(z_e.astype(np.float64)), _SMALLEST))
    variance = np.square(alpha.astype(np.float64))
    aggregate = log_z.var(axis=0) + variance.mean(axis=0)  # v_j
    information = 0.5 * (np.log2(aggregate) - np.log2(variance).mean(axis=0))
    return Rate(float((information + _coin_entropy((z_e > 0).mean(axis=0))).sum()), upper_bound=True)


def kl_nats(model: Autoencoder, images: np.ndarray, *, batch_size: int = 512) -> float | None:
    """Mean KL(q(z | x) ‖ N(0, I)) over ``images``, summed over the d dimensions; None without a Gaussian head."""
    import torch

    from softvq_cli.model.bottlenecks.vae import VAE

    if not isinstance(model.bottleneck, VAE):
        return None
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            total += model.bottleneck(*encode(model, batch)).losses["kl"].item() * len(batch)
    return total / len(images)


def rate(model: Autoencoder, images: np.ndarray, *, batch_size: int = 512) -> Rate | None:
    """Bits about one of ``images``, uint8 (N, H, W, C), that the bottleneck passes on; None where nothing is known."""
    from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck
    from softvq_cli.model.bottlenecks.info_dropout import InfoDropout

    if isinstance(model.bottleneck, CodebookBottleneck):
        return codeword_rate(codebook_use(model, images, batch_size=batch_size))
    if isinstance(model.bottleneck, InfoDropout):
        return log_normal_rate(*_noise_of(model, images, batch_size))
    kl = kl_nats(model, images, batch_size=batch_size)
    return None if kl is None else gaussian_rate(kl)


def _noise_of(model: Autoencoder, images: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(z_e, α) of an information dropout model, each (N, d)."""
    import torch

    bottleneck: Any = model.bottleneck
    codes, scales = [], []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            z_e, h = encode(model, images[start : start + batch_size])
            codes.append(z_e.cpu().numpy())
            share = torch.sigmoid(bottleneck.alpha_head(h).cpu().double())  # in float32 a small one would be 0
            scales.append(model.config.alpha_max * share.numpy())
    return np.concatenate(codes), np.concatenate(scales)


def _coin_entropy(p: np.ndarray) -> np.ndarray:
    """Bits of a coin that falls on one side with probability ``p``."""
    sides = np.stack([p, 1 - p])
    return np.asarray(-(sides * np.log2(np.where(sides > 0, sides, 1.0))).sum(axis=0))
