"""Alternatives to softvq, with the same model, loss and images."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.models import images_as_floats
from softvq_cli.training.objective import objective
from softvq_cli.training.session import Session


class Loss(nn.Module):
    """The model of a session and the loss of a batch of its images."""

    def __init__(self, one: Session) -> None:
        super().__init__()
        self.model = copy.deepcopy(one.model)
        self.weights = one.config.loss
        self.noise = torch.Generator(one.device)

    def forward(self, x: Tensor) -> Tensor:
        eps = self.model.bottleneck.noise(len(x), self.noise)
        return objective(self.model, x, eps, self.weights).loss


def eager(one: Session, steps: int, *, fused: bool) -> Callable[[], None]:
    """A plain loop: float images in memory, slices of a permutation, torch.optim.Adam."""
    loss, images, batch = Loss(one), images_as_floats(one), one.config.train.batch_size
    optimiser = torch.optim.Adam(loss.parameters(), lr=one.config.train.lr, fused=fused)

    def run() -> None:
        order = torch.cat([torch.randperm(len(images)) for _ in range(1 + steps * batch // len(images))])
        for rows in order.to(images.device).split(batch)[:steps]:
            optimiser.zero_grad()
            loss(images[rows]).backward()
            optimiser.step()

    return run


def data_loader(one: Session, steps: int) -> Callable[[], None]:
    """The loop of tutorials: DataLoader, Adam with defaults, and a sum of the loss as a Python number."""
    loss, batch = Loss(one), one.config.train.batch_size
    loader = DataLoader(TensorDataset(images_as_floats(one).cpu()), batch_size=batch, shuffle=True, drop_last=True)
    optimiser = torch.optim.Adam(loss.parameters(), lr=one.config.train.lr)

    def endless() -> Iterator[Tensor]:
        while True:
            for (x,) in loader:
                yield x.to(one.device)

    batches, total = endless(), 0.0

    def run() -> None:
        nonlocal total
        for _ in range(steps):
            value = loss(next(batches))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            total += value.item()

    return run


def pythae(one: Session, steps: int) -> Callable[[], None] | None:
    """One epoch of pythae's BaseTrainer with defaults, on enough images for ``steps``; None without pythae."""
    try:
        from pythae.data.datasets import BaseDataset
        from pythae.models.base.base_utils import ModelOutput
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
    except ImportError:
        return None
    logging.disable(logging.WARNING)

    class Model(Loss):
        model_name, model_config = "Same", None

        def forward(self, inputs: Any, **_: Any) -> Any:
            return ModelOutput(loss=super().forward(inputs["data"]))

        def update(self) -> None:
            """Called after each step."""

    batch = one.config.train.batch_size
    images = images_as_floats(one).cpu()
    images = images.repeat(1 + steps * batch // len(images), 1, 1, 1)[: steps * batch]
    settings = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=batch,
        learning_rate=one.config.train.lr,
        no_cuda=one.device.type != "cuda",
    )
    trainer = BaseTrainer(Model(one), BaseDataset(images, torch.zeros(len(images))), training_config=settings)
    trainer.prepare_training()
    trainer.callback_handler.callbacks.clear()  # progress bars
    return lambda: trainer.train_step(1)
