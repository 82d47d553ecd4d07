"""The autoencoder: encoder, bottleneck, decoder."""

from softvq_cli.model.autoencoder import Autoencoder, Reconstruction
from softvq_cli.model.represent import codes_shape, decode, represent, representations

__all__ = ["Autoencoder", "Reconstruction", "codes_shape", "decode", "represent", "representations"]
