"""Every list of names that a user may type. It imports nothing heavy, so that help pages are fast.

A new bottleneck is one line in ``BOTTLENECKS``, or an entry point of another package.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Arch = Literal["mlp", "cnn", "none", "own"]
SigmaForm = Literal["input", "codeword", "fixed"]
SoftGradient = Literal["copied", "attention"]
CodebookInit = Literal["uniform", "kmeans", "notebook"]
SoftWeights = Literal["posterior", "notebook"]
Recipe = Literal["paper", "notebook", "tuned"]
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Split = Literal["train", "test", "all"]
Representation = Literal["z_e", "z_q", "codes", "reconstruction", "pixels"]
Solver = Literal["lbfgs", "adam"]
Init = Literal["k-means++", "random"]
"""How K-means chooses its initial centres."""
ClusterMethod = Literal["kmeans", "gmm", "agglomerative"]
MapInit = Literal["pca", "random"]
Folders = Literal["auto", "classes", "splits"]
"""Whether the top-level folders of an image folder are classes or splits."""
Pages = Literal["first", "all"]
"""Which pages of a TIFF file or frames of a DICOM file are read."""


def _plugins() -> dict[str, dict[str, Any]]:
    """Group → name → entry point, for all installed packages.

    The metadata files are searched first, because importing ``importlib.metadata`` would slow down the help pages.
    """
    groups: dict[str, dict[str, Any]] = {"softvq.bottlenecks": {}, "softvq.loggers": {}}
    for path in (file for folder in sys.path for file in Path(folder).glob("*-info/entry_points.txt")):
        with contextlib.suppress(OSError):
            if b"[softvq." in path.read_bytes():
                break
    else:
        return groups
    from importlib.metadata import entry_points

    return {group: {point.name: point for point in entry_points(group=group)} for group in groups}


_PLUGINS = _plugins()
LOGGER_PLUGINS: Mapping[str, Any] = _PLUGINS["softvq.loggers"]
"""Name → entry point of a class like ``softvq_cli.training.tensorboard.TensorBoard``."""
LOGGERS = ("tensorboard", *LOGGER_PLUGINS)
"""The available loggers of a training."""
BROKEN: dict[str, str] = {}
"""Name of each bottleneck from another package that cannot be used → the reason."""

VectorScale = Literal["rms", "columns"]
"""The divisor of vectors: one number for all columns, or one per column."""

DEVICES: tuple[str, ...] = get_args(Device)
SPLITS: tuple[str, ...] = get_args(Split)
TABLE_COLUMNS = ("image", "map", "cluster", "neighbours")
"""The optional columns of a table of embeddings, in addition to the vectors."""
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
"""Name of each named data set → (H, W, C) of its images."""


@dataclass(frozen=True)
class Entry:
    """One bottleneck: the module of its class, its display names, and the settings that it reads."""

    module: str
    """In ``softvq_cli.model.bottlenecks``; for another package the full name, ``their_package.noise``."""
    class_name: str
    label: str
    settings: tuple[str, ...] = ()
    """Settings, beyond the common ones, that change its result."""

    @property
    def has_codebook(self) -> bool:
        """Whether the decoder's input differs from z_e in evaluation."""
        return "K" in self.settings or "levels" in self.settings


_CODEBOOK = ("K", "codebook_init", "noise_std", "latent_weight", "beta")
_MOVING = ("K", "codebook_init", "latent_weight", "beta", "decay", "revive")
_SOFT = ("sigma_form", "sigma_power", "soft_weights", "soft_gradient")
_TEMPERATURE = ("temperature", "temperature_decay", "temperature_min")

BOTTLENECKS: Mapping[str, Entry] = {
    "ae": Entry("ae", "AE", "baseline autoencoder"),
    "vae": Entry("vae", "VAE", "VAE", ("latent_weight", "beta")),
    "beta-vae": Entry("vae", "VAE", "β-VAE", ("latent_weight", "beta")),
    "info-dropout": Entry("info_dropout", "InfoDropout", "information dropout", ("latent_weight", "alpha_max")),
    "vq": Entry("vq", "VQ", "VQ-VAE", (*_CODEBOOK, "cosine")),
    "soft-vq": Entry("soft_vq", "SoftVQ", "soft VQ-VAE", (*_CODEBOOK, "cosine", *_SOFT)),
    "ema-vq": Entry("ema_vq", "EMAVQ", "VQ-VAE, EMA", (*_MOVING, "cosine")),
    "rotation-vq": Entry("rotation_vq", "RotationVQ", "VQ-VAE, rotation trick", (*_MOVING, "cosine")),
    "fsq": Entry("fsq", "FSQ", "FSQ", ("levels", "decay")),
    "sq-vae": Entry("sq_vae", "SQVAE", "SQ-VAE", ("K", "codebook_init", "latent_weight", *_TEMPERATURE)),
    "gumbel-vq": Entry(
        "gumbel_vq",
        "GumbelVQ",
        "Gumbel-softmax VQ",
        ("K", "latent_weight", "beta", "kl_start", "kl_decay", *_TEMPERATURE),
    ),
    "simvq": Entry("simvq", "SimVQ", "SimVQ", ("K", "codebook_init", "latent_weight", "beta")),
    "rvq": Entry("rvq", "RVQ", "residual VQ", (*_MOVING, "stages")),
}
"""All bottlenecks: those of the paper in the order of its tables, then later ones. One line here and one file each; the
β-VAE is a VAE with other defaults."""


def _registered(known: Mapping[str, Entry]) -> Mapping[str, Entry]:
    """``known`` and the bottlenecks of other packages (entry points to an ``Entry``); known names take precedence."""
    bottlenecks = dict(known)
    for name, point in _PLUGINS["softvq.bottlenecks"].items():
        try:
            entry = point.load()
        except Exception as error:  # an error in one package must not disable the others
            BROKEN[name] = f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
            continue
        if isinstance(entry, Entry) and name not in bottlenecks:
            bottlenecks[name] = entry
        elif name not in bottlenecks:
            BROKEN[name] = f"{point.value} is not a softvq_cli.words.Entry"
    return bottlenecks


BOTTLENECKS = _registered(BOTTLENECKS)
CHANCE, RAW, PCA, UNTRAINED = "chance", "raw", "pca", "untrained"
CONTROLS: Mapping[str, str] = {
    RAW: "raw data",
    PCA: "PCA, d components",
    UNTRAINED: "untrained encoder",
    CHANCE: "chance (random vectors)",
}
"""Rows of a comparison without a trained bottleneck → their labels."""
PAPER_STUDIES = ("table1", "table2", "fig4")
"""The comparisons of the paper."""
STUDIES = (*PAPER_STUDIES, "since", "ablation")
"""All studies: also the comparison with later quantisers, and the ablation of soft VQ-VAE."""
