"""Batches, the step, what takes steps, the reports and checkpoints of a run, and the run itself."""

from softvq_cli.training.checkpoint import Checkpoint
from softvq_cli.training.run import TrainedInMemory, TrainRequest, train, train_in_memory, train_together
from softvq_cli.training.run_directory import Run
from softvq_cli.training.session import initial_model

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
