"""The presets as sessions on random images, because the time of a step does not depend on the images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.setting import Setting
from softvq_cli.config import resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.training.batches import ResidentImages
from softvq_cli.training.session import Session
from softvq_cli.training.steppers import stepper

SHAPES = {"mnist": (28, 28, 1), "svhn": (32, 32, 3)}


def session(
    data: str, setting: Setting, *, shape: tuple[int, int, int] | None = None, seed: int = 0, **chosen: object
) -> Session:
    """A session with the preset of ``data`` and the ``chosen`` settings."""
    shape = shape or SHAPES[data]
    n = 200 if setting.quick else min(10_000, 40_000_000 // (shape[0] * shape[1] * shape[2]))
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    dataset = Dataset(data, "train", images, None, ())
    config = resolve(data, shape, {"seed": seed, **chosen})
    return Session(config, dataset, dataset, setting.device)


def training(one: Session) -> Callable[[int], None]:
    """A function that trains the session for a number of steps, without reports."""
    step = stepper(one)

    def take(steps: int) -> None:
        end = one.step + steps
        while one.step < end:
            limit = min(end - one.step, one.config.train.log_every)
            if one.interval.steps + limit > one.config.train.log_every:
                one.interval.clear()
            step.advance(limit)

    return take


def images_as_floats(one: Session) -> torch.Tensor:
    """The whole data set in the form of the network's input."""
    assert isinstance(one.source, ResidentImages)
    return one.model.scale(one.source.pixels).contiguous()
