"""How a codebook is used by the images of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def entropy_bits(shares: np.ndarray) -> float:
    """Entropy of shares (K,), which sum to 1."""
    used = shares[shares > 0]
    return max(0.0, float(-(used * np.log2(used)).sum()))


@dataclass(frozen=True)
class CodebookUsage:
    """How the images use the K codewords, without noise."""

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
    positions: int = 1
    """P: codes of an image."""

    @property
    def usage_entropy_bits(self) -> float:
        """Entropy of :attr:`usage`."""
        return entropy_bits(self.usage)

    @property
    def bits_per_image(self) -> float:
        """I(X; k) = H(mean posterior) − mean H(posterior), summed over the positions."""
        return self.positions * max(0.0, self.usage_entropy_bits - self.posterior_entropy_bits)

    @property
    def perplexity(self) -> float:
        """The effective number of codewords, 1…K."""
        return float(2.0**self.usage_entropy_bits)

    @property
    def dead(self) -> int:
        """Codewords that are the most probable one for no image."""
        return int((self.counts == 0).sum())

    def figures(self) -> dict[str, float]:
        """All but the two arrays, by name."""
        return {
            "bits_per_image": self.bits_per_image,
            "perplexity": self.perplexity,
            "active_codes": len(self.counts) - self.dead,
            "dead_codes": self.dead,
            "posterior_entropy_bits": self.posterior_entropy_bits,
            "soft_hard_distance": self.soft_hard_distance,
            "soft_hard_relative": self.soft_hard_relative,
        }
