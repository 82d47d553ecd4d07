"""Embeddings in memory: one vector per image, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Embedding:
    """One vector per row, and what is known of the rows."""

    path: Path
    z: np.ndarray
    """float32 (N, d), or float64 where the file holds more than float32 can; a read-only memory map where it holds
    either in this machine's order."""
    labels: np.ndarray | None
    """int64 (N,), or None."""
    class_names: tuple[str, ...]
    """One name per class, in the order of the labels; empty where they are not known."""
    info: dict[str, Any]
    """What ``NAME.json`` says; empty where the array is someone else's."""

    def __len__(self) -> int:
        return len(self.z)
