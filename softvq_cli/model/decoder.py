"""The two decoders of the paper, which mirror the encoders: the bottleneck's output to images."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from softvq_cli.model.encoder import MLP_WIDTHS, cnn_channels, feature_sizes


class MLPDecoder(nn.Module):
    """d-2000-500-500-D with ReLU between layers, and a final sigmoid for pixels in [0, 1] (not for vectors).

    Without ``hidden`` layers it is the identity.
    """

    def __init__(self, latent_dim: int, image_shape: tuple[int, ...], hidden: tuple[int, ...] | None = None) -> None:
        super().__init__()
        hidden = MLP_WIDTHS if hidden is None else hidden
        widths = (latent_dim, *reversed(hidden), math.prod(image_shape)) if hidden else ()
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        layers[-1:] = [nn.Sigmoid()] if hidden and len(image_shape) == 3 else []
        self.layers = nn.Sequential(*layers)
        self.image_shape = image_shape

    def forward(self, z: Tensor) -> Tensor:
        """(B, d) → (B, C, H, W) or (B, D)."""
        x: Tensor = self.layers(z)
        return x if len(self.image_shape) == 1 else x.view(-1, *self.image_shape).permute(0, 3, 1, 2)


class CNNDecoder(nn.Module):
    """A linear layer with ReLU to the encoder's last feature map, then as many 3x3 transposed convolutions as it has.

    The last one is linear. With ``grid`` there is no linear layer: the input is the grid of latents.
    """

    def __init__(self, latent_dim: int, image_shape: tuple[int, ...], grid: int = 0) -> None:
        super().__init__()
        sizes = feature_sizes(image_shape, grid)[::-1]
        channels = [*reversed(cnn_channels(image_shape, grid)), image_shape[2]]
        self.grid = grid
        if grid:
            channels[0] = latent_dim // grid**2
        else:
            self.linear = nn.Sequential(nn.Linear(latent_dim, channels[0] * sizes[0][0] * sizes[0][1]), nn.ReLU())
        self.feature_shape = (channels[0], *sizes[0])
        layers: list[nn.Module] = []
        for i in range(len(channels) - 1):
            # A stride-2 convolution maps both 2n and 2n - 1 pixels to n; output_padding restores the original size.
            (height, width), (larger_height, larger_width) = sizes[i], sizes[i + 1]
            extra = (larger_height - (2 * height - 1), larger_width - (2 * width - 1))
            layers += [
                nn.ConvTranspose2d(channels[i], channels[i + 1], 3, stride=2, padding=1, output_padding=extra),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """(B, d), or (B·P, c) with a grid → (B, C, H, W)."""
        if self.grid:
            features = z.reshape(-1, self.grid, self.grid, self.feature_shape[0]).permute(0, 3, 1, 2)
        else:
            features = self.linear(z).view(-1, *self.feature_shape)
        pixels: Tensor = self.layers(features)
        return pixels
