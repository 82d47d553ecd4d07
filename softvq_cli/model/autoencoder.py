"""The autoencoder: encoder, bottleneck, decoder, and the scaling of images."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softvq_cli.config import BATCH, ModelConfig
from softvq_cli.devices import as_tensor, inference
from softvq_cli.errors import InputError, Message, UsageError, one_line
from softvq_cli.model.bottlenecks import CodebookUsage, Output, build_bottleneck
from softvq_cli.model.decoder import CNNDecoder, MLPDecoder
from softvq_cli.model.encoder import CNN_CHANNELS, CNNEncoder, MLPEncoder, feature_sizes
from softvq_cli.presets import CNN_SMALLEST

MEMORY = 512 << 20
"""Memory limit of a batch outside training, in bytes; :data:`BATCH` images of up to 64x64 pixels fit."""

Networks = tuple[nn.Module, nn.Module]
"""A custom encoder and decoder."""


class Reconstruction(NamedTuple):
    """The output of the autoencoder for one batch."""

    x_hat: Tensor
    """(B, C, H, W), in the units of the scaled input."""
    z_e: Tensor
    """(B, d), or (B·P, c) with a grid: the encoder's output before noise and quantisation."""
    bottleneck: Output


class Autoencoder(nn.Module):
    """x → h → z_e → bottleneck → decoder, for images of one shape (H, W, C), or for vectors (D,).

    Weights are Glorot uniform and biases zero, drawn from PyTorch's global generator, which the caller seeds. The
    bottleneck is initialised last, so that encoder and decoder have the same initial weights with every bottleneck.
    ``pixel_variance``, the denominator of the nMSE, is the variance of the scaled training data.

    With ``config.grid`` = G, a 3x3 convolution produces z_e as a grid of P = G·G positions with c = d/P numbers each. A
    bottleneck receives rows (B·P, c), and as h the 3x3 neighbourhood of each position, so that a linear head of h is
    also a convolution. :meth:`flat` joins the rows of an image.

    With ``config.arch`` "none", z_e is x and the decoder is the identity; with ``rvq`` initialised by residual K-means,
    this is RQ-KMeans. With "own", copies of ``networks`` are used, with a linear layer between the encoder and z_e: an
    encoder from x (B, C, H, W) with pixels in [0, 1], or vectors (B, D), to h (B, any width), and a decoder from (B, d)
    to the shape of x.

    UsageError: the network does not fit the data or the grid, or ``networks`` are missing or not used by ``arch``.
    """

    pixel_variance: Tensor
    mean: Tensor
    """(D,), for vectors: subtracted before the division by ``spread``."""
    spread: Tensor

    def __init__(
        self,
        config: ModelConfig,
        image_shape: tuple[int, ...],
        pixel_variance: float = 1.0,
        networks: Networks | None = None,
    ) -> None:
        super().__init__()
        self.config, self.image_shape = config, image_shape
        self.of_vectors = len(image_shape) == 1
        # As in the paper: [0, 1] for the sigmoid output of the MLP, [-0.5, 0.5] for the linear output of the CNN.
        self.pixel_shift = 0.5 if config.arch == "cnn" else 0.0
        self.positions = max(1, config.grid) ** 2
        """P, positions per image."""
        _check_shape(config, image_shape)
        self.encoder: nn.Module
        self.to_latent: nn.Module
        self.decoder: nn.Module
        if (config.arch == "own") != (networks is not None):
            raise UsageError(Message("{arch} own needs modules for encoder and decoder, from Python, and they need it"))
        if networks is not None:
            self.hidden_dim = _check_networks(networks, image_shape, config.latent_dim)
            self.encoder, self.decoder = copy.deepcopy(networks)
            self.to_latent = nn.Linear(self.hidden_dim, config.latent_dim).apply(_glorot)
        else:
            self._build(config, image_shape)
            self.apply(_glorot)
        self.bottleneck = build_bottleneck(config, self.hidden_dim).apply(_glorot)
        self.register_buffer("pixel_variance", torch.tensor(pixel_variance))
        if self.of_vectors:
            self.register_buffer("mean", torch.zeros(image_shape))
            self.register_buffer("spread", torch.ones(image_shape))

    def _build(self, config: ModelConfig, image_shape: tuple[int, ...]) -> None:
        """Build the built-in networks, in the order in which their weights are drawn."""
        d = config.latent_dim
        if config.arch == "cnn":
            encoder = CNNEncoder(image_shape, config.grid)
            self.encoder, self.hidden_dim = encoder, encoder.hidden_dim
            if config.grid:
                self.to_latent = nn.Conv2d(encoder.channels, d // self.positions, 3, padding=1)
            else:
                self.to_latent = nn.Linear(self.hidden_dim, d)
            self.decoder = CNNDecoder(d, image_shape, config.grid)
            return
        hidden = () if config.arch == "none" else None
        self.encoder = MLPEncoder(image_shape, hidden)
        self.hidden_dim = self.encoder.hidden_dim
        if config.arch == "none" and d != self.hidden_dim:
            raise UsageError("{arch} none has {latent_dim} {}, the numbers of an input, not {}", self.hidden_dim, d)
        self.to_latent = nn.Identity() if config.arch == "none" else nn.Linear(self.hidden_dim, d)
        self.decoder = MLPDecoder(d, image_shape, hidden)

    @property
    def batch_size(self) -> int:
        """Images per batch outside training: :data:`BATCH`, or fewer if they would need more than MEMORY."""
        first = 0
        if self.config.arch == "cnn":
            first = CNN_CHANNELS[0] * ((self.image_shape[0] + 1) // 2) * ((self.image_shape[1] + 1) // 2)
        hidden = self.positions * self.hidden_dim if self.config.grid else 0
        return max(1, min(BATCH, MEMORY // (16 * max(math.prod(self.image_shape), first, hidden))))

    def batches(self, images: np.ndarray, size: int = BATCH) -> Iterator[Tensor]:
        """Yield scaled batches of ``images``, (N, H, W, C) or (N, D): (B, C, H, W) or (B, D) on the model's device.

        A batch has at most ``size`` and at most :attr:`batch_size` images. ``images`` may be memory-mapped.
        """
        size = min(size, self.batch_size)
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size])
            yield self.scale(as_tensor(batch).to(self.pixel_variance.device))

    def evaluate(self, images: np.ndarray) -> dict[str, float]:
        """Evaluate a split, uint8 (N, H, W, C), without noise: ``nmse``, and the information in the bottleneck
        (:meth:`~softvq_cli.model.bottlenecks.Bottleneck.evaluate`), by name. The model must be in evaluation mode.
        """
        error, n = 0.0, len(images)
        with inference(self.pixel_variance.device):
            for x in self.batches(images):
                error += self.nmse(x, self(x).x_hat).item() * len(x)
            codes = (self.encode(x) for x in self.batches(images))
            return {"nmse": error / n, **self.bottleneck.evaluate(codes, n)}

    def codebook_usage(self, images: np.ndarray) -> CodebookUsage:
        """How uint8 ``images`` (N, H, W, C) use the codewords (InputError: the bottleneck has no codebook)."""
        with inference(self.pixel_variance.device):
            usage = self.bottleneck.usage(self.encode(x) for x in self.batches(images))
        if usage is None:
            raise InputError(f"the bottleneck {self.config.bottleneck} has no codebook")
        return usage

    def scale(self, images: Tensor) -> Tensor:
        """Convert uint8 (B, H, W, C) to float32 (B, C, H, W), channels last in memory, in the network's value range.

        Floats from 0 (black) to 255 (white) are accepted too. Vectors (B, D) keep their shape and are standardised.
        """
        if self.of_vectors:
            return (images.float() - self.mean) / self.spread
        return images.permute(0, 3, 1, 2).float() / 255.0 - self.pixel_shift

    def unscale(self, x: Tensor) -> Tensor:
        """The inverse of ``scale``: float32 (B, H, W, C) clipped to [0, 1]; vectors (B, D) in their original units."""
        if self.of_vectors:
            return x.float() * self.spread + self.mean
        return (x.float() + self.pixel_shift).clamp(0.0, 1.0).permute(0, 2, 3, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, C, H, W) to z_e (B, d) and the last hidden layer h (B, hidden_dim); with a grid, B·P rows each."""
        h: Tensor = self.encoder(x)
        z_e: Tensor = self.to_latent(h)
        if not self.config.grid:
            return z_e, h
        around = F.unfold(h, 3, padding=1)  # (B, 9 C, P)
        return z_e.permute(0, 2, 3, 1).flatten(0, 2), around.transpose(1, 2).flatten(0, 1)

    def flat(self, rows: Tensor) -> Tensor:
        """Join the positions of each image: (B·P, …), one row per position, to (B, …)."""
        return rows.reshape(-1, self.positions * rows.shape[1:].numel()) if self.positions > 1 else rows

    def codes(self, z_e: Tensor, h: Tensor) -> Tensor | None:
        """All codes of each image, position by position: int64 (B, number of codes); None without a codebook."""
        assigned = self.bottleneck.assign(z_e, h)
        if assigned is None:
            return None
        return self.flat(assigned if assigned.dim() > 1 else assigned[:, None])  # len() would make N constant in ONNX

    def decode_codewords(self, codewords: Tensor) -> Tensor:
        """Decode codewords (S, c) to images (S, C, H, W) in which every position has the same codeword."""
        x: Tensor = self.decoder(codewords.repeat_interleave(self.positions, 0))
        return x

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Reconstruction:
        """Reconstruct x (B, C, H, W); ``eps`` is the bottleneck's noise, None outside training."""
        z_e, h = self.encode(x)
        z_e, h = z_e.float(), h.float()
        with torch.autocast(x.device.type, enabled=False):  # distances, KL and entropy need float32
            code = self.bottleneck(z_e, h, eps)
        return Reconstruction(self.decoder(code.z_q), z_e, code)

    def nmse(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Normalised MSE: the mean squared error over batch and pixels divided by the pixel variance, a scalar."""
        return (x - x_hat.float()).square().mean() / self.pixel_variance


def _check_shape(config: ModelConfig, image_shape: tuple[int, ...]) -> None:
    """Raise UsageError if the CNN or the grid cannot be used with these data."""
    if config.arch == "cnn" and len(image_shape) == 1:
        raise UsageError(Message("{arch} cnn is for images, but these are vectors: use {arch} mlp"))
    if config.arch == "cnn" and min(image_shape[:2]) < CNN_SMALLEST:
        raise UsageError(
            "{arch} cnn needs images of at least {}x{} pixels, but these have {}x{}: use {arch} mlp",
            *(CNN_SMALLEST, CNN_SMALLEST, image_shape[1], image_shape[0]),
        )
    if not config.grid:
        return
    if config.arch != "cnn":
        raise UsageError("{grid} needs {arch} cnn, not {}", config.arch)
    height, width = feature_sizes(image_shape, config.grid)[-1]
    if (height, width) != (config.grid, config.grid):
        raise UsageError(
            "{grid} {} is not possible for images of {}x{}, whose sides are halved repeatedly: the next "
            "possible one is {}x{}",
            *(config.grid, image_shape[1], image_shape[0], width, height),
        )
    if config.latent_dim % config.grid**2:
        raise UsageError(
            "{latent_dim} {} is not a multiple of the {} positions of {grid} {}",
            *(config.latent_dim, config.grid**2, config.grid),
        )


def _check_networks(networks: Networks, image_shape: tuple[int, ...], d: int) -> int:
    """The width of h; UsageError: the networks do not fit the data or ``latent_dim``."""
    x = torch.zeros(1, *(image_shape if len(image_shape) == 1 else (image_shape[2], *image_shape[:2])))
    shapes, modes = [], [module.training for module in networks]
    try:
        with torch.no_grad():
            for module, given in zip(networks, (x, torch.zeros(1, d)), strict=True):
                device = next((weight.device for weight in module.parameters()), given.device)
                shapes.append(tuple(module.eval()(given.to(device)).shape))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        name = ("encoder", "decoder")[len(shapes)]
        raise UsageError("the {} cannot be used: {}", name, one_line(error)) from error
    finally:
        for module, mode in zip(networks, modes, strict=True):
            module.train(mode)
    if len(shapes[0]) != 2:
        raise UsageError("the encoder makes {} of an input {}: flatten it to (N, width)", shapes[0], tuple(x.shape))
    if shapes[1] != tuple(x.shape):
        raise UsageError("the decoder makes {} of {latent_dim} {}: the data are {}", shapes[1], d, tuple(x.shape))
    return int(shapes[0][1])


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
