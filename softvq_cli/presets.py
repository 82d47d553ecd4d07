"""The settings of the papers, as data. No torch here.

Sources: Wu and Flierl (AAAI 2020) for networks, iterations, d, K and the beta of beta-VAE; the authors' published
notebooks for the weights of the loss terms. Later bottlenecks use the values of their own papers (see their files)
for their own settings, and the common values for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from softvq_cli.errors import UsageError
from softvq_cli.words import BOTTLENECKS

_OPTIONAL = frozenset(name for entry in BOTTLENECKS.values() for name in entry.settings)


def unused_settings(bottleneck: str, names: Mapping[str, Any]) -> list[str]:
    """The settings in ``names`` that this bottleneck does not use."""
    return [name for name in names if name in _OPTIONAL and name not in BOTTLENECKS[bottleneck].settings]


# Later bottlenecks with a learned codebook; it has as many codes as that of VQ-VAE in the same family.
_SINCE: dict[str, dict[str, Any]] = {
    "ema-vq": {"latent_weight": 1.0, "beta": 0.25},
    "rotation-vq": {"latent_weight": 1.0, "beta": 0.25},
    "sq-vae": {"latent_weight": 1.0, "temperature_decay": 1e-5, "temperature_min": 1e-3},
    "gumbel-vq": {"latent_weight": 1.0, "beta": 1.0},
    "simvq": {"latent_weight": 1.0, "beta": 0.25},
    "rvq": {"latent_weight": 1.0, "beta": 0.25, "codebook_init": "kmeans"},
}
# The two families of the paper. "*" applies to every bottleneck; a bottleneck's own entry takes precedence.
_MNIST: dict[str, dict[str, Any]] = {
    "*": {"arch": "mlp", "latent_dim": 64, "K": 128, "iterations": 40_000},
    "vae": {"beta": 1.0},
    "beta-vae": {"beta": 20.0},
    "info-dropout": {"latent_weight": 0.5},
    # From van den Oord et al. The notebook's 3.0 and 2.5 collapse z_e to a few centroids.
    "vq": {"latent_weight": 1.0, "beta": 0.25},
    "soft-vq": {"latent_weight": 3.0, "beta": 2.5},
    **_SINCE,
    "fsq": {"levels": "5,5,5"},
}
_SVHN: dict[str, dict[str, Any]] = {
    "*": {"arch": "cnn", "latent_dim": 256, "K": 32, "iterations": 40_000},
    "vae": {"beta": 1.0},
    "beta-vae": {"beta": 100.0},
    "info-dropout": {"latent_weight": 0.5},
    "vq": {"K": 512, "latent_weight": 2.0, "beta": 7.5},
    # Early stopping: only this entry of the paper's tables was trained for 10 000 iterations.
    "soft-vq": {"iterations": 10_000, "latent_weight": 2.0, "beta": 7.5},
    **{name: {"K": 512, **settings} for name, settings in _SINCE.items()},
    "fsq": {"levels": "8,8,8"},
}
# Our settings for scikit-learn's 8x8 digits: 1 797 small images need smaller models.
_DIGITS: dict[str, dict[str, Any]] = {
    **_MNIST,
    "*": {"arch": "mlp", "latent_dim": 16, "K": 32, "iterations": 2_000, "batch_size": 64},
    "fsq": {"levels": "8,4"},
}
# rvq on vectors: with these, all codes of every stage are used (docs/bottlenecks.md).
_RVQ_OF_VECTORS: dict[str, Any] = {"latent_dim": 32, "batch_size": 256, "lr": 1e-3, "iterations": 5_000}
# The exact settings of the authors' notebooks, where they differ from _MNIST and _SVHN.
_OF_THE_PAPER: dict[str, dict[str, Any]] = {
    name: {} for name in ("ae", "vae", "beta-vae", "info-dropout", "vq", "soft-vq")
}
_MNIST_NOTEBOOK: dict[str, dict[str, Any]] = {
    **_OF_THE_PAPER,
    "*": {"batch_size": 64},
    "beta-vae": {"reconstruction_scale": 784.0},
    "vq": {"latent_weight": 3.0, "beta": 2.5},
}
_GRID = {"grid": 2, "reconstruction_scale": 1024.0}
_SVHN_NOTEBOOK: dict[str, dict[str, Any]] = {
    **_OF_THE_PAPER,
    "*": {"batch_size": 64, "codebook_init": "notebook"},
    # The notebooks sum the KL of a 2x2x64 latent over one axis of length 2 and average over the others.
    "vae": {**_GRID, "beta": 1 / 128},
    "beta-vae": {**_GRID, "beta": 100 / 128},
    "info-dropout": _GRID,
    "vq": {"grid": 2},
    "soft-vq": {"soft_weights": "notebook", "sigma_power": "0"},
}
# The best of eight settings of each bottleneck on held-out training images (docs/studies/since.md).
_MNIST_TUNED: dict[str, dict[str, Any]] = {
    "beta-vae": {"lr": 1e-3, "beta": 5.0, "reconstruction_scale": 784.0},
    "vq": {"lr": 1e-3},
    "soft-vq": {"lr": 1e-3, "latent_weight": 1.0},
    "ema-vq": {"beta": 1.0},
    "rotation-vq": {"beta": 1.0, "decay": 0.8, "cosine": True},
    "fsq": {"lr": 1e-3, "levels": "4,4,8"},
    "sq-vae": {"temperature_decay": 1e-3, "temperature_min": 0.5},
    "gumbel-vq": {"lr": 1e-3, "beta": 0.1, "kl_start": 100.0},
    "simvq": {"lr": 1e-3, "beta": 1.0},
    "rvq": {"beta": 1.0},
}
_RECIPES = {
    "notebook": {"mnist": _MNIST_NOTEBOOK, "svhn": _SVHN_NOTEBOOK, "cifar10": _SVHN_NOTEBOOK},
    "tuned": {"mnist": _MNIST_TUNED},
}
_FAMILIES = {"mnist": _MNIST, "fashion-mnist": _MNIST, "svhn": _SVHN, "cifar10": _SVHN, "digits": _DIGITS}

# For these, the reconstruction weight is a multiple of the number of pixel positions (784, 1024; once in the
# notebooks), to replace the sum over the image in their likelihood. beta-VAE has twice that number, because with
# once, the paper's beta of 20 leaves five nats in z and little to cluster (docs/studies/sweep-beta.md).
_RECONSTRUCTION_PER_PIXEL: Mapping[str, float] = {"vae": 1, "beta-vae": 2, "info-dropout": 1, "gumbel-vq": 1}
# For these, it is a multiple of D, the number of values of an image: (D/2) log nMSE.
_RECONSTRUCTION_PER_VALUE: Mapping[str, float] = {"sq-vae": 0.5}

_FOLLOWED = ("ema-vq", "rotation-vq", "rvq")
"""Codebooks of moving averages: without a network, K-means has already placed them at their final values."""


def no_network(image_shape: tuple[int, ...], bottleneck: str) -> dict[str, Any]:
    """The settings of a model without a network, whose z_e is its input: K-means or residual K-means, no training."""
    settings: dict[str, Any] = {"arch": "none", "latent_dim": math.prod(image_shape), "codebook_init": "kmeans"}
    return settings | ({"iterations": 1, "decay": 1.0, "revive": 0.0} if bottleneck in _FOLLOWED else {})


CNN_SMALLEST = 16
"""Minimum side in pixels for four stride-2 convolutions."""


def threads(arch: str, batch_size: int) -> int:
    """Number of threads of a training step; the same on all machines, so that results are identical.

    Measured on two cores (docs/PERFORMANCE.md): one thread has nine tenths of the speed of two for the MLP at batch 32,
    and at most three quarters for the CNN or at batch 128.
    """
    return 2 if arch == "cnn" or batch_size >= 128 else 1


def preset(data: str, image_shape: tuple[int, ...], bottleneck: str, recipe: str = "paper") -> dict[str, Any]:
    """The settings for a data set and a bottleneck that replace the defaults of the config.

    A known name gets the family of its paper. Other images of at least 16x16 pixels get the CNN and weights of the
    SVHN family, smaller ones the MLP and settings of ``digits``. Vectors (D,) get the MLP, with the settings of MNIST
    from 256 numbers, else of ``digits``. UsageError: the recipe does not have this data set or bottleneck.
    """
    height, width, channels = image_shape if len(image_shape) == 3 else (*image_shape, 1, 1)
    own = _SVHN if min(height, width) >= CNN_SMALLEST else _DIGITS
    if len(image_shape) == 1 and height >= CNN_SMALLEST**2:
        own = _MNIST
    family = _FAMILIES.get(data, own)
    settings = {**family["*"], **family.get(bottleneck, {})}
    if bottleneck == "rvq" and len(image_shape) == 1:
        settings |= _RVQ_OF_VECTORS
    if bottleneck in _RECONSTRUCTION_PER_PIXEL:
        settings["reconstruction_scale"] = float(_RECONSTRUCTION_PER_PIXEL[bottleneck] * height * width)
    if bottleneck in _RECONSTRUCTION_PER_VALUE:
        settings["reconstruction_scale"] = float(_RECONSTRUCTION_PER_VALUE[bottleneck] * height * width * channels)
    if recipe != "paper":
        recipes = _RECIPES[recipe]
        special = recipes.get(data, {})
        if bottleneck not in special:
            rows = ", ".join(sorted({*next(iter(recipes.values()))} - {"*"}))
            text = "{recipe} {} has the settings of {} for {}, not of {} for {}"
            raise UsageError(text, recipe, rows, ", ".join(recipes), bottleneck, data)
        settings |= special.get("*", {}) | special[bottleneck]
    settings["threads"] = threads(settings["arch"], settings.get("batch_size", 0))
    return settings
