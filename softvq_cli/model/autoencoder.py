"""The autoencoder: encoder, bottleneck, decoder, and the scale of its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from softvq_cli.config import BATCH, ModelConfig
from softvq_cli.devices import as_tensor
from softvq_cli.errors import InputError, UsageError
from softvq_cli.model.bottlenecks import CodebookUsage, Output, build_bottleneck
from softvq_cli.model.decoder import CNNDecoder, MLPDecoder
from softvq_cli.model.encoder import CNNEncoder, MLPEncoder
from softvq_cli.presets import CNN_SMALLEST


class Reconstruction(NamedTuple):
    """One batch through the autoencoder."""

    x_hat: Tensor
    """(B, C, H, W), on the scale of the scaled input."""
    z_e: Tensor
    """(B, d), the encoder's output before noise and quantisation."""
    bottleneck: Output


class Autoencoder(nn.Module):
    """x → h → z_e → bottleneck → decoder, for one image shape.

    Weights are Glorot uniform and biases zero, drawn from PyTorch's global generator: seed it first. The bottleneck's
    come last, so that encoder and decoder start alike whatever is between them.

    Args:
        config: network and bottleneck.
        image_shape: (H, W, C), or (D,) of vectors.
        pixel_variance: the variance of the scaled training data, pixels on [0, 1], the denominator of nMSE.

    Raises:
        UsageError: the CNN is asked for vectors, or for images smaller than 16x16.
    """

    pixel_variance: Tensor
    mean: Tensor
    """(D,) of vectors: what is taken off before they are divided by ``spread``."""
    spread: Tensor

    def __init__(self, config: ModelConfig, image_shape: tuple[int, ...], pixel_variance: float = 1.0) -> None:
        super().__init__()
        self.of_vectors = len(image_shape) == 1
        if self.of_vectors and config.arch == "cnn":
            raise UsageError("{arch} cnn is for images, and these are vectors: use {arch} mlp")
        if config.arch == "cnn" and min(image_shape[:2]) < CNN_SMALLEST:
            raise UsageError(
                "{arch} cnn needs images of at least {}x{} pixels and these have {}x{}: use {arch} mlp",
                *(CNN_SMALLEST, CNN_SMALLEST, image_shape[1], image_shape[0]),
            )
        self.config = config
        self.image_shape = image_shape
        # The paper's pixels: [0, 1] for the sigmoid of the MLP, [-0.5, 0.5] for the CNN's linear output.
        self.pixel_shift = 0.0 if config.arch == "mlp" else 0.5
        self.encoder = MLPEncoder(image_shape) if config.arch == "mlp" else CNNEncoder(image_shape)
        self.to_latent = nn.Linear(self.encoder.hidden_dim, config.latent_dim)
        decoder = MLPDecoder if config.arch == "mlp" else CNNDecoder
        self.decoder = decoder(config.latent_dim, image_shape)
        self.apply(_glorot)
        self.bottleneck = build_bottleneck(config, self.encoder.hidden_dim).apply(_glorot)
        self.register_buffer("pixel_variance", torch.tensor(pixel_variance))
        if self.of_vectors:
            self.register_buffer("mean", torch.zeros(image_shape))
            self.register_buffer("spread", torch.ones(image_shape))

    def batches(self, images: np.ndarray, size: int = BATCH) -> Iterator[Tensor]:
        """``images`` (N, H, W, C) or (N, D), perhaps mapped → scaled x (B, C, H, W) or (B, D) on the model's device."""
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size])
            yield self.scale(as_tensor(batch).to(self.pixel_variance.device))

    def evaluate(self, images: np.ndarray) -> dict[str, float]:
        """What the model, in evaluation mode, makes of a split without noise: figures by name.

        ``nmse``, the squared error of the reconstruction over the variance of the training pixels, and what
        :meth:`~softvq_cli.model.bottlenecks.Bottleneck.evaluate` says that its bottleneck carries.

        Args:
            images: uint8 (N, H, W, C), at least one.
        """
        error, n = 0.0, len(images)
        with torch.inference_mode():
            for x in self.batches(images):
                error += self.nmse(x, self(x).x_hat).item() * len(x)
            codes = (self.encode(x) for x in self.batches(images))
            return {"nmse": error / n, **self.bottleneck.evaluate(codes, n)}

    def codebook_usage(self, images: np.ndarray) -> CodebookUsage:
        """How the codewords are used by uint8 ``images`` (N, H, W, C), at least one.

        Raises:
            InputError: the bottleneck has no codebook.
        """
        with torch.inference_mode():
            usage = self.bottleneck.usage(self.encode(x) for x in self.batches(images))
        if usage is None:
            raise InputError(f"a {self.config.bottleneck} model has no codebook")
        return usage

    def scale(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, C) → float32 (B, C, H, W), channels last in memory, in the network's range.

        Floats are as good, black 0 and white 255. Vectors (B, D) stay so, and are standardised.
        """
        if self.of_vectors:
            return (images.float() - self.mean) / self.spread
        return images.permute(0, 3, 1, 2).float() / 255.0 - self.pixel_shift

    def unscale(self, x: Tensor) -> Tensor:
        """The inverse, as float32 (B, H, W, C) clipped to [0, 1]; of vectors (B, D) in their own units."""
        if self.of_vectors:
            return x.float() * self.spread + self.mean
        return (x.float() + self.pixel_shift).clamp(0.0, 1.0).permute(0, 2, 3, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) → z_e (B, d) and the last hidden layer h (B, hidden_dim)."""
        h = self.encoder(x)
        return self.to_latent(h), h

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Reconstruction:
        """Reconstruct x (B, C, H, W); ``eps`` (B, d) is the bottleneck's noise, None outside training."""
        z_e, h = self.encode(x)
        z_e, h = z_e.float(), h.float()
        with torch.autocast(x.device.type, enabled=False):  # distances, KL and entropy need float32
            code = self.bottleneck(z_e, h, eps)
        return Reconstruction(self.decoder(code.z_q), z_e, code)

    def nmse(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Mean squared error over batch and pixels divided by the pixel variance ("normalised MSE"), a scalar."""
        return (x - x_hat.float()).square().mean() / self.pixel_variance


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
