"""Several sessions trained side by side, against the same ones trained alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from softvq_cli.config import resolve
from softvq_cli.training.session import Session
from softvq_cli.training.together import train_together
from tests.conftest import blobs

CELLS: list[dict[str, Any]] = [
    {"bottleneck": "soft-vq", "seed": 0, "noise_std": 0.1},
    {"bottleneck": "soft-vq", "seed": 1, "noise_std": 0.1},
    {"bottleneck": "vae", "iterations": 7},
    {"bottleneck": "ae", "iterations": 25, "log_every": 4},
]


def session(chosen: dict[str, Any], device: str) -> Session:
    dataset = blobs(120)
    small = {"latent_dim": 4, "K": 6, "batch_size": 16, "iterations": 20, "log_every": 10}
    return Session(resolve("blobs", dataset.image_shape, {**small, **chosen}), dataset, dataset, torch.device(device))


def lines(sessions: list[Session]) -> list[list[dict[str, float]]]:
    found: list[list[dict[str, float]]] = [[] for _ in sessions]
    train_together(sessions, lambda number, metrics: found[number].append(metrics))
    return found


def test_each_session_ends_as_if_it_had_been_trained_alone() -> None:
    together = [session(chosen, "cpu") for chosen in CELLS]
    found = lines(together)
    assert [[line["step"] for line in one] for one in found] == [[10, 20], [10, 20], [7], [4, 8, 12, 16, 20, 24, 25]]
    for chosen, one, expected in zip(CELLS, together, found, strict=True):
        alone = session(chosen, "cpu")
        assert lines([alone]) == [expected]
        assert alone.step == one.step
        for x, y in zip(alone.model.state_dict().values(), one.model.state_dict().values(), strict=True):
            assert torch.equal(x, y)


def test_a_session_goes_on_from_the_middle_of_an_interval() -> None:
    whole, resumed = session(CELLS[0], "cpu"), session(CELLS[0], "cpu")
    for _ in range(13):
        resumed.advance()
        if resumed.step == 10:
            resumed.report()
    assert lines([resumed]) == [lines([whole])[0][1:]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_sessions_side_by_side_end_as_if_alone() -> None:
    cells = [{**chosen, "iterations": 200, "log_every": 100} for chosen in CELLS]
    for chosen, found in zip(cells, lines([session(chosen, "cuda") for chosen in cells]), strict=True):
        [alone] = lines([session(chosen, "cuda")])
        assert alone[-1]["step"] == found[-1]["step"] == 200
        assert alone[-1]["nmse"] == pytest.approx(found[-1]["nmse"], rel=1e-2)
