"""A learned codebook in the space of z_e: its initialisation, and the loss eq. (27) of VQ-VAE and soft VQ-VAE."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Output
from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck, straight_through
from softvq_cli.process import quiet

ENCODINGS_A_CODEWORD = 8
"""Number of encodings per codeword for the initial K-means."""
INPUTS_A_CODEWORD = 256
"""The same without a network, where K-means is the whole training; also the maximum of faiss."""
INPUT_NUMBERS = 1 << 26
"""Maximum number of values for that K-means: half a gigabyte."""
CUT_DEVIATION = 0.87962566103423978
"""The standard deviation of a standard normal distribution truncated at ±2."""


class LearnedCodebook(CodebookBottleneck):
    """Centroids μ_k in R^d: a parameter if ``by_gradient``, otherwise a buffer.

    They are initialised by "uniform unit scaling", U(−√(3/d), √(3/d)), so that their mean squared norm is 1.
    ``codebook_init="kmeans"`` moves them to the K-means centres of the untrained encoder's first outputs.
    ``"notebook"`` draws them from a normal distribution with variance 1/d, truncated at ±2 std, as in the SVHN code.
    """

    by_gradient = True
    codebook: Tensor

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim, config.K)
        limit = math.sqrt(3.0 / config.latent_dim)
        drawn = torch.empty(config.K, config.latent_dim)
        if config.codebook_init == "notebook":
            std = config.latent_dim**-0.5 / CUT_DEVIATION
            nn.init.trunc_normal_(drawn, std=std, a=-2 * std, b=2 * std)
        else:
            drawn.uniform_(-limit, limit)
        if self.by_gradient:
            self.codebook = nn.Parameter(drawn)
        else:
            self.register_buffer("codebook", drawn)
        self.encodings_to_start = encodings_to_start(config)

    def start(self, z_e: Tensor, seed: int) -> None:
        with torch.no_grad():
            self.codebook.copy_(kmeans(z_e, self.K, seed))

    def centroids(self) -> Tensor:
        return self.codebook


class VectorQuantiser(LearnedCodebook):
    """Quantises the noisy latent z'_e = z_e + σ_ε ε, as a subclass defines.

    Extra loss: the two latent terms of eq. (27), each a mean over the batch and the d dimensions: ``codebook``
    ‖sg(z'_e) − ẑ_q‖², and ``commitment`` ‖z'_e − sg(ẑ_q)‖² with weight beta.
    """

    term_names: ClassVar[tuple[str, ...]] = ("codebook", "commitment")
    beta_term = "commitment"

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.stochastic = config.noise_std > 0

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        z_e = self.prepared(z_e)
        noisy = z_e if eps is None else z_e + self.config.noise_std * eps  # z'_e
        quantised, stats = self.quantise(noisy, h)  # ẑ_q
        losses = {
            "codebook": (noisy.detach() - quantised).square().mean(),
            "commitment": (noisy - quantised.detach()).square().mean(),
        }
        return Output(self.decoder_input(z_e, quantised), losses, stats)

    def prepared(self, z_e: Tensor) -> Tensor:
        """z_e as compared with the codebook; with ``cosine``, both are normalised to the unit sphere."""
        return F.normalize(z_e, dim=1) if self.config.cosine else z_e

    def centroids(self) -> Tensor:
        return F.normalize(self.codebook, dim=1) if self.config.cosine else self.codebook

    def decoder_input(self, z_e: Tensor, quantised: Tensor) -> Tensor:
        """Straight through: the value of ẑ_q; the gradient of the decoder's input is copied to z_e."""
        return straight_through(z_e, quantised.detach())


def encodings_to_start(config: ModelConfig) -> int:
    """The number of encodings for the K-means of ``codebook_init``; 0 without K-means."""
    if config.codebook_init != "kmeans":
        return 0
    least = ENCODINGS_A_CODEWORD * config.K
    if config.arch != "none":
        return least
    return max(least, min(INPUTS_A_CODEWORD * config.K, INPUT_NUMBERS // config.latent_dim))


def kmeans(z: Tensor, K: int, seed: int) -> Tensor:
    """The K-means centres of z (N, d), from one k-means++ start: (K, d). If z has fewer than K rows, some repeat."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows = z.detach().cpu().double().numpy()
    with quiet(ConvergenceWarning):  # fewer distinct rows than K
        centres = KMeans(K, n_init=1, random_state=seed % 2**32).fit(rows).cluster_centers_
    return torch.from_numpy(centres).to(z)
