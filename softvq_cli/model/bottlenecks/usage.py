"""Statistics of how the images of a split use a codebook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def entropy_bits(shares: np.ndarray) -> float:
    """Entropy in bits of the probabilities ``shares`` (K,)."""
    used = shares[shares > 0]
    return max(0.0, float(-(used * np.log2(used)).sum()))


@dataclass(frozen=True)
class CodebookUsage:
    """How the images use the K codewords, without noise."""

    counts: np.ndarray
    """int64 (K,): the number of images for which each codeword is the most probable one."""
    usage: np.ndarray
    """float64 (K,): the mean posterior probability of each codeword; sums to 1."""
    posterior_entropy_bits: float
    """Mean entropy, in bits, of an image's posterior over the codewords; 0 for hard quantisation."""
    soft_hard_distance: float
    """Mean Euclidean distance between ẑ_q and the most probable codeword."""
    soft_hard_relative: float
    """The root mean square of this distance divided by that of the norm of the chosen codewords."""
    positions_entropy_bits: tuple[float, ...] = ()
    """Entropy of the mean posterior at each position, in bits (P,)."""

    @property
    def usage_entropy_bits(self) -> float:
        """Entropy of :attr:`usage`, in bits."""
        return entropy_bits(self.usage)

    @property
    def bits_per_image(self) -> float:
        """I(X; k) = H(mean posterior) − mean H(posterior) in bits, summed over the positions.

        The mean posterior is that of a position, because which code belongs to which position says nothing about X.
        """
        posteriors = len(self.positions_entropy_bits) * self.posterior_entropy_bits
        return max(0.0, sum(self.positions_entropy_bits) - posteriors)

    @property
    def perplexity(self) -> float:
        """The effective number of codewords, 1 … K."""
        return float(2.0**self.usage_entropy_bits)

    @property
    def dead(self) -> int:
        """Number of codewords that are not the most probable one for any image."""
        return int((self.counts == 0).sum())

    def figures(self) -> dict[str, float]:
        """All scalars by name."""
        return {
            "bits_per_image": self.bits_per_image,
            "perplexity": self.perplexity,
            "active_codes": len(self.counts) - self.dead,
            "dead_codes": self.dead,
            "posterior_entropy_bits": self.posterior_entropy_bits,
            "soft_hard_distance": self.soft_hard_distance,
            "soft_hard_relative": self.soft_hard_relative,
        }
