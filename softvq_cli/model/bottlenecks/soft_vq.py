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
"""Limit of |log σ_k|: beyond it the posterior is one-hot or uniform in float32 anyway. With the limit, every exponent
is finite for squared distances up to 1e8."""
SIGMA_IMAGES = 2048
"""Maximum number of images, evenly spaced, for the quantiles of σ over images and codewords."""
SIGMA_QUANTILES = {"sigma_p05": 0.05, "sigma_p50": 0.5, "sigma_p95": 0.95}


def log_posterior(z: Tensor, codebook: Tensor, log_sigma: Tensor, power: float) -> Tensor:
    """log p(μ_k | z) ∝ a log σ_k − ‖z − μ_k‖² / 2σ_k², normalised over k by a log-softmax: (B, K).

    z (B, d) is modelled as a sample from a mixture of K Gaussians N(μ_k, σ_k² I) with equal weights. ``power`` is a;
    with a = −d it is the factor σ_k^(−d) of the Gaussian density. ``log_sigma`` is (B, K) or (K,).
    """
    log_sigma = log_sigma.clamp(-LOG_SIGMA_LIMIT, LOG_SIGMA_LIMIT)
    exponent = -0.5 * squared_distances(z, codebook) * torch.exp(-2.0 * log_sigma)
    return torch.log_softmax(power * log_sigma + exponent, dim=1)


class SoftVQ(VectorQuantiser):
    """ẑ_q = Σ_k μ_k p(μ_k | z'_e): the minimum mean squared error estimate of the centroid.

    ``sigma_form="input"`` predicts log σ_k(x) with a second linear head of h; ``"codeword"`` learns one σ_k per
    codeword for all inputs; ``"fixed"`` sets σ_k = 1. With ``soft_weights="notebook"`` the weights of the centroids are
    σ_k · p(μ_k | z'_e), which do not sum to 1, as in the authors' SVHN notebook, where ``sigma_power`` is 0. As σ_k → 0
    this becomes :class:`~softvq_cli.model.bottlenecks.vq.VQ`.

    Two settings are for ablations and not in the paper: ``cosine`` divides z_e and all μ_k by their norms, and
    ``soft_gradient="attention"`` passes the decoder's gradient through p instead of copying it to z_e.
    """

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.power = -float(config.latent_dim) if config.sigma_power == "-d" else float(config.sigma_power)
        if config.sigma_form == "input":
            self.log_sigma_head = nn.Linear(hidden_dim, config.K)
        elif config.sigma_form == "codeword":
            self.log_sigma_vector = nn.Parameter(torch.zeros(config.K))

    def log_sigma(self, h: Tensor) -> Tensor:
        """log σ_k: (B, K) predicted from h (B, hidden_dim), or (K,) for all inputs."""
        if self.config.sigma_form == "input":
            predicted: Tensor = self.log_sigma_head(h)
            return predicted
        return self.log_sigma_vector if self.config.sigma_form == "codeword" else self.codebook.new_zeros(self.K)

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
