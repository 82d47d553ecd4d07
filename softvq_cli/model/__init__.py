"""The autoencoder: encoder, bottleneck, decoder."""

from softvq_cli.model.autoencoder import Autoencoder, Reconstruction
from softvq_cli.model.represent import REPRESENTATIONS, represent

__all__ = ["REPRESENTATIONS", "Autoencoder", "Reconstruction", "represent"]
