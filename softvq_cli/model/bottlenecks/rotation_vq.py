"""The rotation trick (Fifty et al. 2024, arXiv 2410.06424) in place of VQ-VAE's straight-through gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.model.bottlenecks.codebook import straight_through
from softvq_cli.model.bottlenecks.ema_vq import EMAVQ

SMALLEST = 1e-6
"""Below this a norm is taken for this: a code at the origin has no direction to rotate."""


class RotationVQ(EMAVQ):
    """VQ-VAE whose decoder receives q̃ = sg(‖q‖/‖z‖ · R) z: z rotated and stretched onto its centroid q.

    The codebook is that of :class:`~softvq_cli.model.bottlenecks.ema_vq.EMAVQ`, as in the authors' program.

    Its value is q. Its gradient keeps the angle that it has with q as one with z, instead of being copied (section 4
    there). With unit vectors ẑ and q̂ of z and q, and r the unit vector of ẑ + q̂, the rotation by which ẑ becomes q̂ in
    their plane is R = I − 2 r rᵀ + 2 q̂ ẑᵀ (section 4.2).
    """

    def decoder_input(self, z_e: Tensor, quantised: Tensor) -> Tensor:
        return rotated(z_e, quantised)


def rotated(z: Tensor, q: Tensor) -> Tensor:
    """q (B, d), with the gradient of ‖q‖/‖z‖ R z, where R and the factor are fixed, for z (B, d)."""
    with torch.no_grad():
        z_norm, q_norm = (x.norm(dim=1, keepdim=True).clamp_min(SMALLEST) for x in (z, q))
        from_, to = z / z_norm, q / q_norm  # ẑ, q̂
        middle = F.normalize(from_ + to, dim=1)  # r
    turned = z - 2 * (z * middle).sum(1, keepdim=True) * middle + 2 * (z * from_).sum(1, keepdim=True) * to
    return straight_through(q_norm / z_norm * turned, q)  # the value is q for z = 0 as well
