"""Batches, the step, the loop, the checkpoint and the log of a run."""

from softvq_cli.training.checkpoint import Checkpoint
from softvq_cli.training.loop import train, train_together
from softvq_cli.training.observer import Observer
from softvq_cli.training.opening import Order
from softvq_cli.training.running import Run

__all__ = ["Checkpoint", "Observer", "Order", "Run", "train", "train_together"]
