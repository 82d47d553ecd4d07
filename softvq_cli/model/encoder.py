"""The two encoders of the paper: images to the last hidden layer h. The linear layer to z_e is the autoencoder's."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

MLP_WIDTHS = (500, 500, 2000)
CNN_CHANNELS = (64, 128, 256, 512)


class MLPEncoder(nn.Module):
    """D-500-500-2000 with ReLU, for images of any size and for vectors."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        widths = (math.prod(image_shape), *MLP_WIDTHS)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.hidden_dim = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, D) → (B, 2000). Pixels are read in the order H, W, C, which is how they lie in memory."""
        h: Tensor = self.layers(x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1))
        return h


class CNNEncoder(nn.Module):
    """Four 3x3 convolutions of stride 2 with ReLU; each halves the sides, rounding up."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = (image_shape[2], *CNN_CHANNELS)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(channels):
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        height, width = feature_sizes(image_shape)[-1]
        self.hidden_dim = CNN_CHANNELS[-1] * height * width  # 2048 for 32x32 images

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, hidden_dim)."""
        h: Tensor = self.layers(x).flatten(1)
        return h


def feature_sizes(image_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(height, width) of the image and after each convolution: 32 → 16 → 8 → 4 → 2; 17 → 9 → 5 → 3 → 2."""
    sizes = [(image_shape[0], image_shape[1])]
    for _ in CNN_CHANNELS:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
