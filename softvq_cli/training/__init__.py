"""Batches, the step, the loop, the checkpoint and the log of a run."""

from softvq_cli.training.checkpoint import Checkpoint
from softvq_cli.training.loop import Run, train
from softvq_cli.training.observer import Observer

__all__ = ["Checkpoint", "Observer", "Run", "train"]
