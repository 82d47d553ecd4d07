"""A run in memory, below the loop."""

from __future__ import annotations

import copy

import torch

from softvq_cli.config import resolve
from softvq_cli.training.restore import restore
from softvq_cli.training.session import Session
from softvq_cli.training.steppers import EagerStepper
from tests.helpers import blobs


def session() -> Session:
    dataset = blobs(60, shape=(16, 16, 3))
    settings = {"arch": "cnn", "latent_dim": 4, "K": 6, "batch_size": 4}
    return Session(resolve("blobs", dataset.image_shape, settings), dataset, dataset, torch.device("cpu"))


def test_a_state_whose_moments_lie_otherwise_in_memory_goes_on_to_the_same_weights() -> None:
    whole, resumed = session(), session()
    uninterrupted = EagerStepper(whole)
    for _ in range(3):
        uninterrupted.advance()
    state = copy.deepcopy(whole.state_dict())
    moved = 0
    for moments in state["optimiser"]["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            if moments[name].dim() == 4:
                moments[name] = moments[name].contiguous(memory_format=torch.channels_last)
                moved += not moments[name].is_contiguous()
    assert moved
    restore(resumed, 3, copy.deepcopy(whole.model), state)
    again = EagerStepper(resumed)
    for _ in range(3):
        uninterrupted.advance()
        again.advance()
    for x, y in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(x, y)
