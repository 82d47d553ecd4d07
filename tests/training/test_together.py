"""Several runs trained side by side, against the same ones trained alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.errors import Interrupted, SoftVQError, UsageError
from softvq_cli.training import Run, checkpoint, train
from softvq_cli.training.run import TrainRequest, train_together
from tests.helpers import StopAt, blobs, outcome

RUNS: list[dict[str, Any]] = [
    {"bottleneck": "soft-vq", "seed": 0, "noise_std": 0.1},
    {"bottleneck": "soft-vq", "seed": 1, "noise_std": 0.1},
    {"bottleneck": "vae", "iterations": 7},
    {"bottleneck": "ae", "iterations": 25, "log_every": 4},
]


@pytest.fixture
def requests(tmp_path: Path) -> list[TrainRequest]:
    dataset = blobs(120)
    np.savez(tmp_path / "blobs.npz", images=dataset.images, labels=dataset.labels)
    small = {"latent_dim": 4, "K": 6, "batch_size": 16, "iterations": 20, "log_every": 10, "checkpoint_every": 6}
    common = {"data": str(tmp_path / "blobs.npz"), **small}
    return [TrainRequest({**common, **chosen}, tmp_path / str(number)) for number, chosen in enumerate(RUNS)]


def assert_as_if_alone(request: TrainRequest, run: Run | SoftVQError, alone: Path) -> None:
    assert isinstance(run, Run)
    train(request.chosen, out=alone, device="cpu")
    assert outcome(run.folder) == outcome(alone)


def test_each_run_ends_as_if_it_had_been_trained_alone(requests: list[TrainRequest], tmp_path: Path) -> None:
    for number, run in enumerate(train_together(requests, device="cpu")):
        assert_as_if_alone(requests[number], run, tmp_path / f"alone-{number}")


def test_one_that_fails_stops_no_other(requests: list[TrainRequest], tmp_path: Path) -> None:
    wrong = TrainRequest({**requests[0].chosen, "lr": 1e30}, tmp_path / "diverges")
    refused = TrainRequest({**requests[0].chosen, "batch_size": 10_000}, tmp_path / "refused")
    diverged, ended, other = train_together([wrong, refused, requests[2]], device="cpu")
    assert isinstance(diverged, SoftVQError) and "lr" in diverged.settings
    assert isinstance(ended, UsageError)
    assert isinstance(other, Run)


def test_a_stop_saves_all_of_them_and_each_goes_on(requests: list[TrainRequest], tmp_path: Path) -> None:
    stop = threading.Event()

    first = TrainRequest(requests[0].chosen, requests[0].out, reporter=StopAt(3, stop))
    found = train_together([first, requests[1]], device="cpu", stop=stop)
    assert all(isinstance(one, Interrupted) for one in found)
    assert [checkpoint.load(tmp_path / str(number) / "ckpt.pt").step for number in (0, 1)] == [3, 0]
    resumed = train_together([TrainRequest(one.chosen, one.out, resume=True) for one in requests[:2]], device="cpu")
    for number, run in enumerate(resumed):
        assert_as_if_alone(requests[number], run, tmp_path / f"alone-{number}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_runs_side_by_side_end_as_if_alone(requests: list[TrainRequest], tmp_path: Path) -> None:
    longer = [
        TrainRequest({**one.chosen, "iterations": 200, "log_every": 100, "checkpoint_every": 100}, one.out)
        for one in requests
    ]
    for number, run in enumerate(train_together(longer, device="cuda")):
        assert isinstance(run, Run)
        alone = train(longer[number].chosen, out=tmp_path / f"alone-{number}", device="cuda")
        assert run.metrics["step"] == alone.metrics["step"] == 200
        assert run.metrics["nmse"] == pytest.approx(alone.metrics["nmse"], rel=1e-2)
