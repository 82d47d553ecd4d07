"""Information dropout (Achille and Soatto 2018, arXiv 1611.01353): learned multiplicative log-normal noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Bottleneck, Codes, Output

OFFSET = 0.001
"""The constant inside the logarithm in the published implementation; it bounds the loss as α → 0."""
SMALLEST = 1e-30
"""Minimum of |z_e|, so that its logarithm is finite."""


def bits(z_e: np.ndarray, alpha: np.ndarray) -> float:
    """Upper bound in bits of the information that z = z_e ⊙ e^(α ε) carries about an image, for N images.

    The sign and log |z| determine z. Given the image, log |z_j| is N(log |z_e,j|, α_j²). The prior of each dimension is
    a Gaussian with the mean and variance of log |z_j|, and a Bernoulli distribution for the sign:
    I(X; z) ≤ Σ_j H(sign_j) + ½ log2 v_j − ½ E log2 α_j², where v_j = Var log |z_e,j| + E α_j².
    ``z_e`` and ``alpha`` are (N, d); alpha, the scale of the noise, is positive.
    """
    log_z = np.log(np.maximum(np.abs(z_e.astype(np.float64)), SMALLEST))
    variance = np.square(alpha.astype(np.float64))
    aggregate = log_z.var(axis=0) + variance.mean(axis=0)  # v_j
    information = 0.5 * (np.log2(aggregate) - np.log2(variance).mean(axis=0))
    return float((information + _coin_entropy((z_e > 0).mean(axis=0))).sum())


def _coin_entropy(p: np.ndarray) -> np.ndarray:
    """Entropy in bits of a Bernoulli distribution with probability ``p``."""
    sides = np.stack([p, 1 - p])
    return np.asarray(-(sides * np.log2(np.where(sides > 0, sides, 1.0))).sum(axis=0))


class InfoDropout(Bottleneck):
    """z = z_e ⊙ exp(α(x) ε), α(x) = α_max · sigmoid(head(h)), ε ~ N(0, I).

    Extra loss ``information``: −log(α/α_max + 0.001), averaged over the batch and the d dimensions. It rewards noise,
    and so penalises information in the latent.
    """

    stochastic = True
    term_names = ("information",)

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.alpha_head = nn.Linear(hidden_dim, config.latent_dim)

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        share = torch.sigmoid(self.alpha_head(h))  # (B, d), α/α_max in (0, 1)
        z = z_e if eps is None else z_e * torch.exp(self.config.alpha_max * share * eps)
        return Output(z, {"information": -torch.log(share + OFFSET).mean()}, {})

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        means, scales = [], []
        for z_e, h in codes:
            means.append(z_e.cpu().numpy())
            share = torch.sigmoid(self.alpha_head(h).cpu().double())  # in float32 a small value would be 0
            scales.append(self.config.alpha_max * share.numpy())
        side_by_side = [np.concatenate(rows).reshape(n, -1) for rows in (means, scales)]
        return {"bits_per_image": bits(*side_by_side)}
