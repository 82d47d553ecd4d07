"""The rotation trick (Fifty et al. 2024, arXiv 2410.06424) in place of VQ-VAE's straight-through gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.model.bottlenecks.codebook import straight_through
from softvq_cli.model.bottlenecks.ema_vq import EMAVQ

SMALLEST = 1e-6
"""Minimum of a norm: a latent at the origin has no direction to rotate."""


class RotationVQ(EMAVQ):
    """VQ-VAE whose decoder receives q̃ = sg(‖q‖/‖z‖ · R) z: z rotated and scaled to its centroid q.

    The codebook is that of :class:`~softvq_cli.model.bottlenecks.ema_vq.EMAVQ`, as in the authors' code.

    The value of q̃ is q. The gradient is rotated back rather than copied: its angle to z equals the angle of the
    gradient at q̃ to q (section 4 there). With ẑ = z/‖z‖, q̂ = q/‖q‖ and r the unit vector of ẑ + q̂, the rotation from
    ẑ to q̂ in the plane of both is R = I − 2 r rᵀ + 2 q̂ ẑᵀ (section 4.2).
    """

    def decoder_input(self, z_e: Tensor, quantised: Tensor) -> Tensor:
        return rotated(z_e, quantised)


def rotated(z: Tensor, q: Tensor) -> Tensor:
    """q (B, d), with the gradient of ‖q‖/‖z‖ R z for z (B, d), where R and the factor are constants."""
    with torch.no_grad():
        z_norm, q_norm = (x.norm(dim=1, keepdim=True).clamp_min(SMALLEST) for x in (z, q))
        from_, to = z / z_norm, q / q_norm  # ẑ, q̂
        middle = F.normalize(from_ + to, dim=1)  # r
    turned = z - 2 * (z * middle).sum(1, keepdim=True) * middle + 2 * (z * from_).sum(1, keepdim=True) * to
    return straight_through(q_norm / z_norm * turned, q)  # the value is q even if z = 0
