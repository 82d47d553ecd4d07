"""SimVQ (Zhu et al. 2024, arXiv 2411.02038): a fixed codebook under a learned linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.vq import VQ


class SimVQ(VQ):
    """VQ-VAE with the centroids μ_k = W c_k, where W (d, d) is learned and the c_k stay as they were drawn.

    A step moves all centroids at once, so that none is left behind. W begins as the identity, so that the codebook
    begins as that of VQ-VAE. The loss terms are those of eq. (27).
    """

    by_gradient = False

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.transform = nn.Parameter(torch.eye(config.latent_dim))

    def centroids(self) -> Tensor:
        return self.codebook @ self.transform.T
