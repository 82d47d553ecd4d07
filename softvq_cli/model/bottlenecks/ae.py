"""The baseline autoencoder, whose only bottleneck is the latent dimension."""

from __future__ import annotations

from torch import Tensor

from softvq_cli.model.bottlenecks.base import Bottleneck, Output


class AE(Bottleneck):
    """The identity: the decoder receives z_e."""

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        return Output(z_e, {}, {})
