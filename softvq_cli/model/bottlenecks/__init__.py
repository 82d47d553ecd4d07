"""The bottlenecks: one module each, a common interface (:class:`Bottleneck`), a registry (``words.BOTTLENECKS``)."""

from __future__ import annotations

import dataclasses
import importlib

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.base import Bottleneck, Output
from softvq_cli.model.bottlenecks.usage import CodebookUsage
from softvq_cli.words import BOTTLENECKS

__all__ = ["Bottleneck", "CodebookUsage", "Output", "build_bottleneck"]


def build_bottleneck(config: ModelConfig, hidden_dim: int) -> Bottleneck:
    """Build the bottleneck ``config.bottleneck`` for an encoder whose last hidden layer has ``hidden_dim`` units.

    With a grid, it quantises one position, so its ``latent_dim`` is c.
    """
    entry = BOTTLENECKS[config.bottleneck]
    config = dataclasses.replace(config, latent_dim=config.latent_dim // max(1, config.grid) ** 2)
    module = importlib.import_module(entry.module if "." in entry.module else f"{__name__}.{entry.module}")
    bottleneck: Bottleneck = getattr(module, entry.class_name)(config, hidden_dim)
    return bottleneck
