"""Every list of names that a user may type, once. Nothing heavy is imported here, so that help pages are quick.

A new bottleneck is one line in :data:`BOTTLENECKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Arch = Literal["mlp", "cnn"]
SigmaForm = Literal["input", "codeword"]
CodebookInit = Literal["uniform", "kmeans"]
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Split = Literal["train", "test", "all"]
Representation = Literal["z_e", "z_q", "indices", "reconstruction", "pixels"]
Solver = Literal["lbfgs", "adam"]
Init = Literal["k-means++", "random"]
"""How a start of K-means draws its centres."""
ClusterMethod = Literal["kmeans", "gmm", "agglomerative"]
MapInit = Literal["pca", "random"]
Folders = Literal["auto", "classes", "splits"]
"""What the folders at the top of an image folder are."""
Pages = Literal["first", "all"]
"""Which pages of a TIFF or frames of a DICOM file are images."""

LOGGERS = ("tensorboard",)
"""Where else a training can be written to."""

VectorScale = Literal["rms", "columns"]
"""What vectors are divided by: one number, or one for each column."""

DEVICES: tuple[str, ...] = get_args(Device)
SPLITS: tuple[str, ...] = get_args(Split)
TABLE_COLUMNS = ("image", "map", "cluster", "neighbours")
"""What a table of embeddings can have beside the vectors."""
REPRESENTATIONS: tuple[str, ...] = get_args(Representation)
SOLVERS: tuple[str, ...] = get_args(Solver)
INITS: tuple[str, ...] = get_args(Init)
CLUSTER_METHODS: tuple[str, ...] = get_args(ClusterMethod)
MAP_INITS: tuple[str, ...] = get_args(MapInit)

IMAGE_SHAPES: Mapping[str, tuple[int, int, int]] = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion-mnist": (28, 28, 1),
    "svhn": (32, 32, 3),
    "cifar10": (32, 32, 3),
}
"""The data sets that are known by name → (H, W, C) of their images."""


@dataclass(frozen=True)
class Entry:
    """One bottleneck: where its class is, what people call it, and which settings it reads."""

    module: str
    """In ``softvq_cli.model.bottlenecks``."""
    class_name: str
    label: str
    settings: tuple[str, ...] = ()
    """Settings beyond the common ones that change its result."""

    @property
    def has_codebook(self) -> bool:
        """Whether the decoder's input differs from z_e without noise."""
        return "K" in self.settings or "levels" in self.settings


_CODEBOOK = ("K", "codebook_init", "noise_std", "latent_weight", "beta")
_MOVING = ("K", "codebook_init", "latent_weight", "beta", "decay", "revive")
_TEMPERATURE = ("temperature", "temperature_decay", "temperature_min")

BOTTLENECKS: Mapping[str, Entry] = {
    "ae": Entry("ae", "AE", "baseline autoencoder"),
    "vae": Entry("vae", "VAE", "VAE", ("latent_weight", "beta")),
    "beta-vae": Entry("beta_vae", "BetaVAE", "β-VAE", ("latent_weight", "beta")),
    "info-dropout": Entry("info_dropout", "InfoDropout", "information dropout", ("latent_weight", "alpha_max")),
    "vq": Entry("vq", "VQ", "VQ-VAE", _CODEBOOK),
    "soft-vq": Entry("soft_vq", "SoftVQ", "soft VQ-VAE", (*_CODEBOOK, "sigma_form", "sigma_power")),
    "ema-vq": Entry("ema_vq", "EMAVQ", "VQ-VAE, EMA", _MOVING),
    "rotation-vq": Entry("rotation_vq", "RotationVQ", "VQ-VAE, rotation trick", _MOVING),
    "fsq": Entry("fsq", "FSQ", "FSQ", ("levels", "decay")),
    "sq-vae": Entry("sq_vae", "SQVAE", "SQ-VAE", ("K", "codebook_init", "latent_weight", *_TEMPERATURE)),
    "gumbel-vq": Entry("gumbel_vq", "GumbelVQ", "Gumbel-softmax VQ", ("K", "latent_weight", "beta", *_TEMPERATURE)),
}
"""Every bottleneck: the paper's in the order of its tables, then those that came since. One line here and one file."""

CHANCE, RAW, PCA, UNTRAINED = "chance", "raw", "pca", "untrained"
CONTROLS: Mapping[str, str] = {
    RAW: "raw data",
    PCA: "PCA, d components",
    UNTRAINED: "untrained encoder",
    CHANCE: "chance (random vectors)",
}
"""Rows of a comparison that no trained bottleneck is behind → their labels."""
PAPER_STUDIES = ("table1", "table2", "fig4")
"""The comparisons of the paper."""
STUDIES = (*PAPER_STUDIES, "since")
"""And with the quantisers that came after it."""
