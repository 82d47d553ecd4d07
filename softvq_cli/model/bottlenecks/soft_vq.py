"""Soft VQ-VAE (Wu and Flierl, AAAI 2020, arXiv 1905.11062): the posterior mean of the centroids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Codes
from softvq_cli.model.bottlenecks.codebook import posterior_stats, squared_distances
from softvq_cli.model.bottlenecks.learned_codebook import VectorQuantiser

LOG_SIGMA_LIMIT = 15.0
"""|log σ_k| is held below this: beyond it the posterior is one-hot or uniform to float32 anyway, and with
distances up to 1e8 every exponent stays finite."""
SIGMA_IMAGES = 2048
"""The quantiles of σ are taken over all codewords and at most this many images, evenly spaced."""
SIGMA_QUANTILES = {"sigma_p05": 0.05, "sigma_p50": 0.5, "sigma_p95": 0.95}


def log_posterior(z: Tensor, codebook: Tensor, log_sigma: Tensor, power: float) -> Tensor:
    """log p(μ_k | z) ∝ a log σ_k − ‖z − μ_k‖² / 2σ_k², normalised over k by a log-softmax.

    The code z (B, d) is modelled as drawn from a mixture of K Gaussians N(μ_k, σ_k² I) of equal weight. ``power`` is a;
    −d is the Gaussian density's own factor σ_k^(−d). Returned for log σ_k of shape (B, K) or (K,): (B, K).
    """
    log_sigma = log_sigma.clamp(-LOG_SIGMA_LIMIT, LOG_SIGMA_LIMIT)
    exponent = -0.5 * squared_distances(z, codebook) * torch.exp(-2.0 * log_sigma)
    return torch.log_softmax(power * log_sigma + exponent, dim=1)


class SoftVQ(VectorQuantiser):
    """ẑ_q = Σ_k μ_k p(μ_k | z'_e): the minimum mean squared error estimate of the centroid.

    σ_k is learned: ``sigma_form="input"`` predicts log σ_k(x) by a second linear head of h, ``"codeword"``
    keeps one vector for all inputs, ``"fixed"`` keeps σ_k = 1. With ``soft_weights="notebook"`` the centroids are
    weighed by σ_k · p(μ_k | z'_e), which do not sum to 1, as in the authors' notebook for SVHN; there ``sigma_power``
    is 0. As σ_k → 0 this becomes :class:`~softvq_cli.model.bottlenecks.vq.VQ`.

    Two settings are for ablations and not the paper's: with ``cosine`` z_e and all μ_k are divided by their norms, and
    with ``soft_gradient="attention"`` the decoder's gradient passes through p instead of being copied to z_e.
    """

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.power = -float(config.latent_dim) if config.sigma_power == "-d" else float(config.sigma_power)
        if config.sigma_form == "input":
            self.log_sigma_head = nn.Linear(hidden_dim, config.K)
        elif config.sigma_form == "codeword":
            self.log_sigma_vector = nn.Parameter(torch.zeros(config.K))
        else:
            self.register_buffer("log_sigma_vector", torch.zeros(config.K), persistent=False)

    def log_sigma(self, h: Tensor) -> Tensor:
        """log σ_k: (B, K) predicted from h (B, hidden_dim), or the one vector (K,)."""
        if self.config.sigma_form == "input":
            predicted: Tensor = self.log_sigma_head(h)
            return predicted
        return self.log_sigma_vector

    def sigma(self, h: Tensor) -> Tensor:
        return self.log_sigma(h).exp().expand(len(h), -1)

    def log_posterior(self, z: Tensor, h: Tensor) -> Tensor:
        """log p(μ_k | z), (B, K)."""
        return log_posterior(self.prepared(z), self.centroids(), self.log_sigma(h), self.power)

    def decoder_input(self, z_e: Tensor, quantised: Tensor) -> Tensor:
        return quantised if self.config.soft_gradient == "attention" else super().decoder_input(z_e, quantised)

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_p = self.log_posterior(z, h)  # (B, K)
        weights = log_p.exp()
        if self.config.soft_weights == "notebook":
            weights = weights * self.log_sigma(h).clamp(-LOG_SIGMA_LIMIT, LOG_SIGMA_LIMIT).exp()
        return weights @ self.centroids(), posterior_stats(log_p)

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        """Also the quantiles of σ_k over images and codewords."""
        n_rows = n * self.positions
        rows = np.linspace(0, n_rows - 1, min(n_rows, SIGMA_IMAGES)).round().astype(np.int64)
        log_sigma: list[np.ndarray] = []

        def seen() -> Iterator[tuple[Tensor, Tensor]]:
            start = 0
            for z_e, h in codes:
                own = h[rows[(rows >= start) & (rows < start + len(h))] - start]
                log_sigma.append(self.log_sigma(own).expand(len(own), -1).cpu().double().numpy())
                start += len(h)
                yield z_e, h

        figures = super().evaluate(seen(), n)
        values = np.exp(np.quantile(np.concatenate(log_sigma), list(SIGMA_QUANTILES.values()))).tolist()
        return {**figures, **dict(zip(SIGMA_QUANTILES, values, strict=True))}

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return self.log_posterior(z_e.detach(), h).argmax(1)
