"""Vector quantisation inside your own network: digits through a small autoencoder with a layer of softvq.

python examples/layers.py [steps]
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from softvq_cli import datasets
from softvq_cli.config import DataConfig
from softvq_cli.layers import SoftVQ


class Network(nn.Module):
    """64 pixels → 32 → 8 numbers → a codeword of 64, or a mean of them → 32 → 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        self.quantise = SoftVQ(8, K=64)
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The reconstruction, the codes, and the layer's loss."""
        z_q, codes, loss = self.quantise(self.encoder(x))
        return self.decoder(z_q), codes, loss


def main(steps: int) -> None:
    """Train and print how well it draws digits that it has not seen, and how many codewords it uses."""
    torch.manual_seed(0)
    train, test = (
        torch.from_numpy(datasets.load(DataConfig(data="digits"), split).images).flatten(1) / 255
        for split in ("train", "test")
    )
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        x = train[torch.randint(len(train), (64,))]
        x_hat, _, loss = network(x)
        optimiser.zero_grad()
        ((x_hat - x).square().mean() / train.var() + loss).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        x_hat, codes, _ = network(test)
    error = (x_hat - test).square().mean() / train.var()
    print(f"nMSE on the test split {error:.3f}, {len(codes.unique())} of 64 codewords in use")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
