"""Batches, the step, what takes steps, the reports and checkpoints of a run, and the run itself.

Names are imported when first used: what a run folder or a checkpoint says of itself is read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint
    from softvq_cli.training.run import TrainedInMemory, TrainRequest, train, train_in_memory, train_together
    from softvq_cli.training.run_directory import Run
    from softvq_cli.training.session import initial_model

_MODULES = {
    "Checkpoint": "checkpoint",
    "Run": "run_directory",
    "TrainRequest": "run",
    "TrainedInMemory": "run",
    "initial_model": "session",
    "train": "run",
    "train_in_memory": "run",
    "train_together": "run",
}
__all__ = [
    "Checkpoint",
    "Run",
    "TrainRequest",
    "TrainedInMemory",
    "initial_model",
    "train",
    "train_in_memory",
    "train_together",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
