"""Training: batches, loss, optimiser steps, reports, checkpoints and run folders.

Names are imported on first use, so that the information in a run folder or checkpoint can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint as Checkpoint
    from softvq_cli.training.run import TrainedInMemory as TrainedInMemory
    from softvq_cli.training.run import TrainRequest as TrainRequest
    from softvq_cli.training.run import train as train
    from softvq_cli.training.run import train_in_memory as train_in_memory
    from softvq_cli.training.run import train_together as train_together
    from softvq_cli.training.run_directory import Run as Run
    from softvq_cli.training.session import initial_model as initial_model

_MODULES = {"Checkpoint": "checkpoint", "Run": "run_directory", "initial_model": "session"}
_MODULES |= dict.fromkeys(("TrainRequest", "TrainedInMemory", "train", "train_in_memory", "train_together"), "run")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
