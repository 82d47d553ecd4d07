"""The two encoders of the paper: images to the last hidden layer h. The autoencoder adds the linear layer to z_e."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

MLP_WIDTHS = (500, 500, 2000)
CNN_CHANNELS = (64, 128, 256, 512)
LARGE = 64
"""Images with a longer side, in pixels, get more convolutions than in the paper, none wider than its third."""
SMALL_MAP = 4
"""Maximum height and width of the last feature map for such images."""


class MLPEncoder(nn.Module):
    """D-500-500-2000 with ReLU, for vectors and images of any size; without ``hidden`` layers, the identity."""

    def __init__(self, image_shape: tuple[int, ...], hidden: tuple[int, ...] | None = None) -> None:
        super().__init__()
        widths = (math.prod(image_shape), *(MLP_WIDTHS if hidden is None else hidden))
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.hidden_dim = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, D) → (B, hidden_dim). Pixels are flattened in the order H, W, C, as stored in memory."""
        h: Tensor = self.layers(x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1))
        return h


class CNNEncoder(nn.Module):
    """3x3 convolutions with stride 2 and ReLU; each halves the sides, rounding up. See :func:`cnn_channels`.

    With ``grid`` the last feature map, (B, C, grid, grid), is not flattened.
    """

    def __init__(self, image_shape: tuple[int, ...], grid: int = 0) -> None:
        super().__init__()
        channels = (image_shape[2], *cnn_channels(image_shape, grid))
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(channels):
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        height, width = feature_sizes(image_shape, grid)[-1]
        self.channels, self.grid = channels[-1], grid
        # 2048 for 32x32 images; with a grid, one position and its eight neighbours.
        self.hidden_dim = 9 * channels[-1] if grid else channels[-1] * height * width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, hidden_dim), or the feature map with a grid."""
        h: Tensor = self.layers(x)
        return h if self.grid else h.flatten(1)


def cnn_channels(image_shape: tuple[int, ...], grid: int = 0) -> tuple[int, ...]:
    """Channels of each convolution: the paper's four up to 64x64 pixels, else enough to reach 4x4 or the grid."""
    side = max(image_shape[:2])
    if not grid and side <= LARGE:
        return CNN_CHANNELS
    most = CNN_CHANNELS[2] if side > LARGE else CNN_CHANNELS[-1]
    channels: list[int] = []
    while side > (grid or SMALL_MAP):
        channels.append(min(CNN_CHANNELS[min(len(channels), len(CNN_CHANNELS) - 1)], most))
        side = (side + 1) // 2
    return tuple(channels)


def feature_sizes(image_shape: tuple[int, ...], grid: int = 0) -> list[tuple[int, int]]:
    """(height, width) of the image and after each convolution, for example 32 → 16 → 8 → 4 → 2, 17 → 9 → 5 → 3 → 2."""
    sizes = [(image_shape[0], image_shape[1])]
    for _ in cnn_channels(image_shape, grid):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
