"""Training: batches, loss, optimiser steps, reports, checkpoints and run folders.

Names are imported on first use, so that the information in a run folder or checkpoint can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint as Checkpoint
    from softvq_cli.training.run import train as train
    from softvq_cli.training.run_directory import Run as Run

_MODULES = {"Checkpoint": "checkpoint", "Run": "run_directory", "train": "run"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
