"""SQ-VAE (Takida et al. 2022, arXiv 2205.07547): stochastic quantisation with a learned, self-annealing variance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Codes
from softvq_cli.model.bottlenecks.codebook import squared_distances
from softvq_cli.model.bottlenecks.relaxed_codebook import RelaxedCodebook

FIRST_VARIANCE = 11 / 64
"""Initial σ_φ². The published MNIST model starts at 11 with centroids of squared norm 64; here the norm is 1."""
LOG_VARIANCE_LIMIT = 30.0
"""Limit of |log σ_φ²|, so that every exponent is finite."""
SMALLEST = 1e-8
"""Minimum of nMSE, so that its logarithm is finite."""


class SQVAE(RelaxedCodebook):
    """p(μ_k | z_e) ∝ exp(−‖z_e − μ_k‖² / 2σ_φ²) with one learned σ_φ: the Gaussian SQ-VAE (I) of section 3 there.

    The posterior is that of soft VQ-VAE with one σ, but the decoder receives a sample from it, not the mean.

    Extra loss: the two latent terms of the ELBO, in nats, averaged over the batch: ``kl_discrete``
    KL(p ‖ uniform) = log K − H(p), and ``kl_continuous`` ‖z_e − ẑ_q‖² / 2σ_φ², the KL divergence of two Gaussians with
    variance σ_φ². The reconstruction term is (D/2) log nMSE: −log p(x | ẑ_q) with the optimal decoder variance for the
    batch. As the error decreases, the optimal σ_φ decreases too, and the quantisation becomes hard by itself.
    """

    term_names = ("kl_discrete", "kl_continuous")

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.log_variance = nn.Parameter(torch.tensor(math.log(FIRST_VARIANCE)))

    def variance(self) -> Tensor:
        """σ_φ², a scalar."""
        return self.log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT).exp()

    def sigma(self, h: Tensor) -> Tensor:
        return self.variance().sqrt().expand(len(h), self.K)

    def log_posterior(self, z: Tensor) -> Tensor:
        return torch.log_softmax(-0.5 * squared_distances(z, self.codebook) / self.variance(), dim=1)

    def terms(self, z_e: Tensor, z_q: Tensor, log_p: Tensor) -> dict[str, Tensor]:
        apart = (z_e - z_q).square().sum(1).mean() * self.positions
        return {"kl_discrete": self.divergence(log_p), "kl_continuous": 0.5 * apart / self.variance()}

    def reconstruction(self, nmse: Tensor) -> Tensor:
        """log nMSE; ``reconstruction_scale`` is D/2."""
        return nmse.clamp_min(SMALLEST).log()

    def stats(self, log_p: Tensor) -> dict[str, Tensor]:
        return {**super().stats(log_p), "sigma": log_p.shape[0] * self.variance().detach().sqrt()}

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """Also σ_φ."""
        return {**super().summarise(stats, n), "sigma": stats["sigma"].item() / (n * self.positions)}

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        """Also σ_φ, as the median of σ."""
        return {**super().evaluate(codes, n), "sigma_p50": self.variance().sqrt().item()}
