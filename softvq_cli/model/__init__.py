"""The autoencoder: encoder, bottleneck, decoder."""

from softvq_cli.model.autoencoder import Autoencoder, Networks, Reconstruction
from softvq_cli.model.represent import codes_shape, decode, represent, representations

__all__ = ["Autoencoder", "Networks", "Reconstruction", "codes_shape", "decode", "represent", "representations"]
