"""The bottlenecks as PyTorch layers for any network: ``z_q, codes, loss = layer(z)`` for z of shape (…, dim).

from softvq_cli.layers import SoftVQ

quantise = SoftVQ(64, K=128)
z_q, codes, loss = quantise(encoder(x))
total = reconstruction_error(decoder(z_q), x) + loss
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softvq_cli.config import RunConfig
from softvq_cli.errors import UsageError, unknown_name
from softvq_cli.model.bottlenecks import build_bottleneck
from softvq_cli.words import BOTTLENECKS

__all__ = ["EMAVQ", "FSQ", "RVQ", "SQVAE", "VQ", "GumbelVQ", "Quantised", "RotationVQ", "SimVQ", "SoftVQ"]


_BETA = 0.25
"""Of van den Oord et al. (2017)."""


class Quantised(NamedTuple):
    """The output of a layer for z (…, dim)."""

    z_q: Tensor
    """(…, dim): the input of the decoder; its gradient reaches z."""
    codes: Tensor
    """int64 (…,), or (…, stages) for RVQ: the most probable codeword of each vector."""
    loss: Tensor
    """Scalar: the weighted sum of the layer's loss terms. Add it to the loss of the network."""


class _Layer(nn.Module):
    """A bottleneck for vectors with ``dim`` components.

    In training mode, each call draws noise from PyTorch's global generator and updates the moving averages. In
    evaluation mode, the output depends on z alone.

    Args:
        dim: number of components of a vector, d.
        K: number of codewords, by default 128. ``FSQ`` has ``levels`` instead.
        settings: other settings of this bottleneck by their name in ``softvq train``, as ``sigma_form="codeword"``.
            ``beta`` is 0.25 by default: the weight of the commitment loss, or of the KL divergence for ``GumbelVQ``.

    Raises:
        UsageError: a setting is out of range, or this bottleneck does not have it.
    """

    bottleneck_name = ""

    def __init__(self, dim: int, K: int | None = None, **settings: Any) -> None:
        super().__init__()
        own = BOTTLENECKS[self.bottleneck_name].settings
        settings |= {} if K is None else {"K": K}
        for name in settings:
            if name not in own:
                raise UsageError(unknown_name(f"setting of {type(self).__name__}", name, own))
        plain = {"bottleneck": self.bottleneck_name, "latent_dim": dim, "beta": _BETA}
        config = RunConfig.from_flat({**plain, **settings})
        self.dim, self.config = dim, config.model
        self.bottleneck = build_bottleneck(config.model, hidden_dim=dim)
        self.factors = config.loss.latent_weight, config.loss.beta

    def start(self, z: Tensor, seed: int = 0) -> None:
        """Initialise the codewords by K-means of the network's first outputs z (…, dim), at least K vectors."""
        self.bottleneck.start(z.detach().reshape(-1, self.dim), seed)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise z (…, dim)."""
        rows = z.reshape(-1, self.dim)
        eps = None
        if self.training:
            seed = int(torch.randint(2**31, ()))
            eps = self.bottleneck.noise(len(rows), torch.Generator(z.device).manual_seed(seed))
        output = self.bottleneck(rows, rows, eps)
        weight, beta = self.factors
        factors = self.bottleneck.term_weights(beta)
        loss = weight * sum((factors[name] * term for name, term in output.losses.items()), rows.new_zeros(()))
        with torch.no_grad():
            codes = self.bottleneck.assign(rows, rows)
        assert codes is not None  # every layer here has a codebook
        if self.training:
            self.bottleneck.advance(output.state)
        return Quantised(output.z_q.view_as(z), codes.view((*z.shape[:-1], *codes.shape[1:])), loss)


class SoftVQ(_Layer):
    """Soft VQ: the posterior mean of the centroids. σ_k is predicted from z, or learned per codeword."""

    bottleneck_name = "soft-vq"


class VQ(_Layer):
    """VQ: the nearest centroid; the centroids are learned by gradient descent."""

    bottleneck_name = "vq"


class EMAVQ(_Layer):
    """VQ with a codebook updated by moving averages: the nearest centroid."""

    bottleneck_name = "ema-vq"


class RotationVQ(_Layer):
    """``EMAVQ`` with the gradient of the rotation trick."""

    bottleneck_name = "rotation-vq"


class SimVQ(_Layer):
    """VQ with fixed codewords under a learned linear map: the nearest centroid."""

    bottleneck_name = "simvq"


class RVQ(_Layer):
    """Residual VQ: ``stages`` codebooks; each quantises the residual of the stages before it."""

    bottleneck_name = "rvq"


class FSQ(_Layer):
    """Finite scalar quantisation; ``levels="5,5,5"`` replaces K."""

    bottleneck_name = "fsq"


class SQVAE(_Layer):
    """SQ-VAE: a relaxed sample from the posterior of a Gaussian mixture."""

    bottleneck_name = "sq-vae"


class GumbelVQ(_Layer):
    """Gumbel-softmax: a relaxed sample from a categorical distribution."""

    bottleneck_name = "gumbel-vq"
