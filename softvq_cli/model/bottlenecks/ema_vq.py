"""VQ-VAE with a codebook of moving averages (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Output
from softvq_cli.model.bottlenecks.codebook import counts_of
from softvq_cli.model.bottlenecks.vq import VQ

SMALLEST = 1e-30
"""Minimum of a moving count in the division; a codeword with a smaller count does not move."""


class EMAVQ(VQ):
    """Quantises to the nearest centroid; each centroid is the moving average of the latents assigned to it.

    With n_k latents z of the batch assigned to k, and the decay γ (eq. 6 to 8 there):

        N_k ← γ N_k + (1 − γ) n_k,   m_k ← γ m_k + (1 − γ) Σ z,   μ_k = m_k / N_k,

    computed as μ_k ← μ_k + (1 − γ) (Σ z − n_k μ_k) / N_k, which is also exact for unused codewords. N_k starts at 1, or
    after K-means at the mean count of cluster k in a batch. Extra loss ``commitment``: ‖z_e − sg(ẑ_q)‖² as in
    eq. (27), with weight beta.

    A centroid is dead if N_k is less than ``revive`` times B/K, its count if a batch of B used all centroids equally. A
    dead centroid is moved to a random latent of the batch, with N_k = B/K (random restarts: Dhariwal et al. 2020,
    arXiv 2005.00341, section 3.1). For this, training draws ``eps`` (K,), uniform on [0, 1).
    """

    by_gradient = False
    term_names = ("commitment",)
    count: Tensor

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.register_buffer("count", torch.ones(config.K))  # N_k
        self.stochastic = config.revive > 0

    def noise(self, n: int, generator: torch.Generator) -> Tensor | None:
        return torch.rand(self.K, generator=generator, device=generator.device) if self.stochastic else None

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        z_e = self.prepared(z_e)
        quantised, stats = self.quantise(z_e, h)
        losses = {"commitment": (z_e - quantised).square().mean()}
        state = self.moved(z_e.detach(), self.assign(z_e, h), eps)
        return Output(self.decoder_input(z_e, quantised), losses, stats, state)

    def moved(self, z: Tensor, indices: Tensor, eps: Tensor | None) -> dict[str, Tensor]:
        """Update codebook and counts with z (B, d), assigned to ``indices`` (B,); ``eps`` (K,) is for restarts."""
        codebook, count = followed(self.centroids(), self.count, z, indices, eps, self.config)
        return {"codebook": F.normalize(codebook, dim=1) if self.config.cosine else codebook, "count": count}

    def start(self, z_e: Tensor, seed: int) -> None:
        super().start(z_e, seed)
        self.count.copy_(first_counts(self.assign(z_e, z_e), self.K))

    def remedy(self) -> str:
        return Message("a larger {revive}, a smaller {K}, a larger {beta} or another {seed}")


def first_counts(indices: Tensor, K: int) -> Tensor:
    """The negative fraction of ``indices`` (N,) equal to each k: (K,). :func:`followed` multiplies it by −B."""
    return -counts_of(indices, K) / len(indices)


def followed(
    codebook: Tensor, count: Tensor, z: Tensor, indices: Tensor, eps: Tensor | None, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Update codebook (K, d) and counts N_k (K,) with z (B, d), assigned to ``indices`` (B,): see :class:`EMAVQ`.

    ``eps`` (K,), uniform on [0, 1), chooses the latent for each dead centroid; None: no restarts.
    """
    K, decay = len(codebook), config.decay
    share = z.shape[0] / K
    chosen = (indices[:, None] == torch.arange(K, device=z.device)).to(z.dtype)  # (B, K)
    n = chosen.sum(0)
    count = torch.where(count < 0, -count * z.shape[0], count)  # K-means stores fractions: it has no batch size
    count = decay * count + (1 - decay) * n
    pull = chosen.T @ z - n[:, None] * codebook  # (K, d), Σ z − n_k μ_k
    codebook = codebook + (1 - decay) * pull / count.clamp_min(SMALLEST)[:, None]
    if eps is not None:
        dead = count < config.revive * share
        rows = (eps * z.shape[0]).long().clamp_max(z.shape[0] - 1)
        codebook = torch.where(dead[:, None], z[rows], codebook)
        count = torch.where(dead, share, count)
    return codebook, count
