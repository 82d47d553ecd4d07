"""The base of all bottlenecks with a codebook: distances, code assignment and usage statistics."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Bottleneck, Codes
from softvq_cli.model.bottlenecks.usage import CodebookUsage, entropy_bits


def squared_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances ‖z_b − μ_k‖² of z (B, d) to the codebook (K, d): (B, K), never negative.

    Computed by one matrix product and clamped, because rounding can make the expanded square slightly negative.
    """
    cross = z @ codebook.T
    return (z.square().sum(1, keepdim=True) - 2.0 * cross + codebook.square().sum(1)).clamp_min(0.0)


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of x (van den Oord et al. 2017, section 3.2).

    The value is exact. With x + (value − x), rows with the same codeword would differ by rounding, and whitening or a
    neighbour search would then amplify these differences.
    """
    return value.detach() + (x - x.detach())


def perplexity(usage: Tensor) -> float:
    """exp of the entropy of ``usage`` (K,), non-negative weights: the effective number of centroids, 1 … K."""
    share = usage.double() / usage.double().sum().clamp_min(1e-300)
    return math.exp(torch.special.entr(share).sum().item())


class CodebookBottleneck(Bottleneck):
    """Replaces each latent by one of K codewords, or by a mean of them, as a subclass defines."""

    def __init__(self, config: ModelConfig, hidden_dim: int, K: int) -> None:
        super().__init__(config, hidden_dim)
        self.K = K

    @abstractmethod
    def centroids(self) -> Tensor: ...

    @abstractmethod
    def assign(self, z_e: Tensor, h: Tensor) -> Tensor: ...

    def decoded(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.centroids())

    @abstractmethod
    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Quantise z (B, d) without noise to ẑ_q (B, d), differentiable in the codebook; also the statistics."""

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """``perplexity``, ``active_codes`` (most probable for at least one image) and the posterior entropy in bits."""
        return {
            "perplexity": perplexity(stats["usage"]),
            "active_codes": int((stats["counts"] > 0).sum()),
            "posterior_entropy_bits": max(0.0, stats["entropy"].item() / (n * self.positions) / math.log(2)),
        }

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        return self.usage(codes).figures()

    def usage(self, codes: Codes) -> CodebookUsage:
        codebook = self.centroids()
        n = 0
        usage, counts = np.zeros((self.positions, len(codebook))), np.zeros(len(codebook))
        entropy = distance = squared_distance = squared_norm = 0.0
        for every_z_e, every_h in codes:
            n += len(every_z_e)
            for position in range(self.positions):
                z_e, h = every_z_e[position :: self.positions], every_h[position :: self.positions]
                soft, stats = self.quantise(z_e, h)  # (B, d)
                hard = F.embedding(self.assign(z_e, h), codebook)  # (B, d)
                usage[position] += stats["usage"].cpu().double().numpy()
                counts += stats["counts"].cpu().double().numpy()
                entropy += stats["entropy"].item()
                squares = (soft - hard).cpu().double().square().sum(1)  # (B,)
                distance += squares.sqrt().sum().item()
                squared_distance += squares.sum().item()
                squared_norm += hard.cpu().double().square().sum().item()
        return CodebookUsage(
            counts=counts.astype(np.int64),
            usage=usage.sum(0) / usage.sum(),
            posterior_entropy_bits=max(0.0, entropy / n / math.log(2)),
            soft_hard_distance=distance / n,
            soft_hard_relative=math.sqrt(squared_distance / squared_norm) if squared_norm > 0 else 0.0,
            positions_entropy_bits=tuple(entropy_bits(each / each.sum()) for each in usage),
        )

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """Detect a collapsed codebook: a perplexity of at most K/10, or of about 1."""
        K, active, spread = self.K, summary["active_codes"], summary["perplexity"]
        if K == 1 or n < 10 * K or spread > max(1.1, K / 10):  # too few images do not show a collapse
            return None
        return Message(
            "the codebook has collapsed: of {} codes, about {:.3g} are in use (perplexity), and {:.0f} are dead; "
            "try {}",
            *(K, spread, K - active, self.remedy()),
        )

    def remedy(self) -> str:
        """Remedies for a collapse, as text."""
        return Message("a smaller {K}, a smaller {lr}, a larger {latent_weight} or another {seed}")


def counts_of(indices: Tensor, K: int) -> Tensor:
    """How often each centroid occurs in ``indices`` (B,): float32 (K,), computed without a host synchronisation."""
    ones = torch.ones_like(indices, dtype=torch.float32)
    return ones.new_zeros(K).index_add(0, indices, ones)


def hard_stats(indices: Tensor, K: int) -> dict[str, Tensor]:
    """The statistics of a batch with hard assignments ``indices`` (B,)."""
    counts = counts_of(indices, K)
    return {"usage": counts, "counts": counts, "entropy": torch.zeros((), device=indices.device)}


def posterior_stats(log_p: Tensor) -> dict[str, Tensor]:
    """The statistics of a batch with posterior log p(μ_k | z), (B, K)."""
    log_p = log_p.detach()
    p = log_p.exp()
    return {
        "usage": p.sum(0),
        "counts": counts_of(p.argmax(1), p.shape[1]),
        "entropy": -(p * log_p).sum(),  # log_p is finite, so 0 · log 0 cannot occur
    }
