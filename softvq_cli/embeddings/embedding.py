"""Embeddings in memory: one vector per image, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Embedding:
    """One vector per row, and information about the rows."""

    path: Path
    z: np.ndarray
    """float32 (N, d), or float64 if the file has values that float32 cannot represent; a read-only memory map if the
    file has native byte order."""
    labels: np.ndarray | None
    """int64 (N,), or None."""
    class_names: tuple[str, ...]
    """One name per class, in the order of the labels; empty if unknown."""
    info: dict[str, Any]
    """The content of ``NAME.json``; empty for arrays of other programs."""

    def __len__(self) -> int:
        return len(self.z)
