"""Information dropout (Achille and Soatto 2018, arXiv 1611.01353): learned multiplicative log-normal noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Bottleneck, Output

OFFSET = 0.001
"""The published implementation's constant inside the logarithm: bounds the loss as α → 0."""


class InfoDropout(Bottleneck):
    """z = z_e ⊙ exp(α(x) ε), α(x) = α_max · sigmoid(head(h)), ε ~ N(0, I).

    Extra loss ``information``: −log(α/α_max + 0.001), averaged over the batch and the d dimensions; it rewards
    noise, hence a code that carries less information.
    """

    stochastic = True
    term_names = ("information",)

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.alpha_head = nn.Linear(hidden_dim, config.latent_dim)

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        share = torch.sigmoid(self.alpha_head(h))  # (B, d), α/α_max in (0, 1)
        z = z_e if eps is None else z_e * torch.exp(self.config.alpha_max * share * eps)
        return Output(z, {"information": -torch.log(share + OFFSET).mean()}, {})
