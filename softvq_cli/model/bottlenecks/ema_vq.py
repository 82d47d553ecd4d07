"""VQ-VAE whose codebook follows its codes (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1)."""

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
"""Below this a moving count is taken for this; the code that has it stays where it is."""


class EMAVQ(VQ):
    """The nearest centroid, where each centroid is the moving average of the codes that chose it.

    With n_k codes z in the batch that chose k, and γ the decay (eq. 6 to 8 there):

        N_k ← γ N_k + (1 − γ) n_k,   m_k ← γ m_k + (1 − γ) Σ z,   μ_k = m_k / N_k,

    which is computed as μ_k ← μ_k + (1 − γ) (Σ z − n_k μ_k) / N_k: exact also for a code that nothing chooses. N_k
    begins with 1, or after a K-means with what a batch has of cluster k on average. Extra loss ``commitment``
    ‖z_e − sg(ẑ_q)‖², as in eq. (27), weighed by beta.

    A centroid is dead when N_k is below ``revive`` times B/K, its part in a batch of B when all are used alike. It
    moves to a code drawn from the batch, with N_k = B/K (random restarts: Dhariwal et al. 2020, arXiv 2005.00341,
    section 3.1). For that, training draws ``eps`` (K,), uniform on [0, 1).
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
        """Codebook and counts after the codes z (B, d), which chose ``indices`` (B,); ``eps`` (K,) revives the dead."""
        codebook, count = followed(self.centroids(), self.count, z, indices, eps, self.config)
        return {"codebook": F.normalize(codebook, dim=1) if self.config.cosine else codebook, "count": count}

    def start(self, z_e: Tensor, seed: int) -> None:
        super().start(z_e, seed)
        self.count.copy_(first_counts(self.assign(z_e, z_e), self.K))

    def term_weights(self, beta: float) -> dict[str, float | Tensor]:
        return {"commitment": beta}

    def remedy(self) -> str:
        return Message("a larger {revive}, a smaller {K}, a larger {beta} or another {seed}")


def first_counts(indices: Tensor, K: int) -> Tensor:
    """(K,): −(share of ``indices`` (N,) that are k): the sign tells :func:`followed` to multiply by the batch size."""
    return -counts_of(indices, K) / len(indices)


def followed(
    codebook: Tensor, count: Tensor, z: Tensor, indices: Tensor, eps: Tensor | None, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Codebook (K, d) and counts N_k (K,) after the codes z (B, d), which chose ``indices`` (B,): see :class:`EMAVQ`.

    ``eps`` (K,), uniform on [0, 1), says on which code a dead centroid is put; None revives none.
    """
    K, decay = len(codebook), config.decay
    share = z.shape[0] / K
    chosen = (indices[:, None] == torch.arange(K, device=z.device)).to(z.dtype)  # (B, K)
    n = chosen.sum(0)
    count = torch.where(count < 0, -count * z.shape[0], count)  # how large a batch is, a K-means does not know
    count = decay * count + (1 - decay) * n
    pull = chosen.T @ z - n[:, None] * codebook  # (K, d), Σ z − n_k μ_k
    codebook = codebook + (1 - decay) * pull / count.clamp_min(SMALLEST)[:, None]
    if eps is not None:
        dead = count < config.revive * share
        rows = (eps * z.shape[0]).long().clamp_max(z.shape[0] - 1)
        codebook = torch.where(dead[:, None], z[rows], codebook)
        count = torch.where(dead, share, count)
    return codebook, count
