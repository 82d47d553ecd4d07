"""What the two codebook bottlenecks share: distances, eq. (27), and how the codebook is used."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.errors import param
from softvq_cli.model.bottlenecks.base import Bottleneck, Codes, Output
from softvq_cli.model.bottlenecks.usage import CodebookUsage


def squared_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """‖z_b − μ_k‖² for z (B, d) and codebook (K, d): (B, K), never negative.

    One matrix product; clamped because rounding can take the expanded square just below zero.
    """
    cross = z @ codebook.T
    return (z.square().sum(1, keepdim=True) - 2.0 * cross + codebook.square().sum(1)).clamp_min(0.0)


def perplexity(usage: Tensor) -> float:
    """exp of the entropy of ``usage`` (K,), non-negative weights: the effective number of centroids, 1…K."""
    share = usage.double() / usage.double().sum().clamp_min(1e-300)
    return math.exp(torch.special.entr(share).sum().item())


class CodebookBottleneck(Bottleneck):
    """Quantises the noisy code z'_e = z_e + σ_ε ε; subclasses say how.

    Extra loss, the two latent terms of eq. (27), each a mean over the batch and the d dimensions:
    ``codebook`` ‖sg(z'_e) − ẑ_q‖² and ``commitment`` ‖z'_e − sg(ẑ_q)‖², the second weighed by beta.
    """

    term_names = ("codebook", "commitment")

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        limit = math.sqrt(3.0 / config.latent_dim)  # "uniform unit scaling": unit expected squared norm
        self.codebook = nn.Parameter(torch.empty(config.K, config.latent_dim).uniform_(-limit, limit))
        self.stochastic = config.noise_std > 0

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        noisy = z_e if eps is None else z_e + self.config.noise_std * eps  # z'_e
        quantised, stats = self.quantise(noisy, h)  # ẑ_q
        losses = {
            "codebook": (noisy.detach() - quantised).square().mean(),
            "commitment": (noisy - quantised.detach()).square().mean(),
        }
        # Straight through: the value of ẑ_q, the gradient of the decoder's input copied to z_e.
        return Output(z_e + (quantised - z_e).detach(), losses, stats)

    def centroids(self) -> Tensor:
        return self.codebook

    @abstractmethod
    def assign(self, z_e: Tensor, h: Tensor) -> Tensor: ...

    @abstractmethod
    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """ẑ_q (B, d) of the code z (B, d), differentiable in the codebook, and the batch's stats."""

    def term_weights(self, beta: float) -> dict[str, float]:
        return {"codebook": 1.0, "commitment": beta}

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """``perplexity`` of the usage, ``active_codes`` (most probable for at least one image), posterior entropy."""
        summary = {"perplexity": perplexity(stats["usage"]), "active_codes": int((stats["counts"] > 0).sum())}
        return {**summary, "posterior_entropy_bits": max(0.0, stats["entropy"].item() / n / math.log(2))}

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        return self.usage(codes).figures()

    def usage(self, codes: Codes) -> CodebookUsage:
        codebook = self.centroids()
        n = 0
        usage, counts = np.zeros(len(codebook)), np.zeros(len(codebook))
        entropy = distance = squared_distance = squared_norm = 0.0
        for z_e, h in codes:
            soft, stats = self.quantise(z_e, h)  # (B, d)
            hard = F.embedding(self.assign(z_e, h), codebook)  # (B, d)
            n += len(z_e)
            usage += stats["usage"].cpu().double().numpy()
            counts += stats["counts"].cpu().double().numpy()
            entropy += stats["entropy"].item()
            squares = (soft - hard).cpu().double().square().sum(1)  # (B,)
            distance += squares.sqrt().sum().item()
            squared_distance += squares.sum().item()
            squared_norm += hard.cpu().double().square().sum().item()
        return CodebookUsage(
            counts=counts.astype(np.int64),
            usage=usage / usage.sum(),
            posterior_entropy_bits=max(0.0, entropy / n / math.log(2)),
            soft_hard_distance=distance / n,
            soft_hard_relative=math.sqrt(squared_distance / squared_norm) if squared_norm > 0 else 0.0,
        )

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """A collapsed codebook: its K codes are worth a tenth or less, or one alone."""
        K, active, spread = self.config.K, summary["active_codes"], summary["perplexity"]
        if K == 1 or n < 10 * K or spread > max(1.1, K / 10):  # of too few images nothing can be said
            return None
        return (
            f"the codebook has collapsed: {K} codes are used as if there were {spread:.3g} (perplexity), and "
            f"{K - active:.0f} are dead; try a smaller {param('K')}, a smaller {param('lr')}, a larger "
            f"{param('latent_weight')} or another {param('seed')}"
        )


def counts_of(indices: Tensor, K: int) -> Tensor:
    """(K,) float32: how often each centroid occurs in ``indices`` (B,), without a host synchronisation."""
    ones = torch.ones_like(indices, dtype=torch.float32)
    return torch.zeros(K, device=indices.device).index_add(0, indices, ones)
