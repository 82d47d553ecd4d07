"""One training by two processes, compared with a single process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli import datasets
from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import UsageError, param
from softvq_cli.training import checkpoint, ranks, run, run_directory, train
from softvq_cli.training.run import TrainRequest, train_together
from softvq_cli.training.session import Session
from softvq_cli.training.steppers import EagerStepper
from softvq_cli.words import BOTTLENECKS
from tests.helpers import shrunk_networks, softvq

SETTINGS: dict[str, Any] = {"latent_dim": 4, "K": 6, "batch_size": 15, "lr": 1e-3}  # 15: one rank has an image more
MORE: dict[str, dict[str, Any]] = {
    "vq": {"noise_std": 0.1},
    "soft-vq": {"noise_std": 0.1},
    "ema-vq": {"codebook_init": "kmeans", "revive": 1.0},
    "rvq": {"stages": 2, "revive": 1.0},
    "fsq": {"levels": "3,5", "decay": 0.9},
}
PROGRAM = """
import os, sys, torch
from softvq_cli.__main__ import main
from tests.helpers import shrunk_networks, softvq
from tests.training.test_ranks import trained_in_float64
data, out, bottlenecks, *words = sys.argv[1:]
torch.save(trained_in_float64(data, bottlenecks.split(",")), f"{out}-{os.environ['RANK']}.pt")
with shrunk_networks():
    sys.exit(main(words))
"""


def trained_in_float64(data: str, bottlenecks: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each bottleneck after 20 steps, and the losses of the steps."""
    result = {}
    with pytest.MonkeyPatch.context() as patch, shrunk_networks():
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        dataset = datasets.load(DataConfig(data=data), "train")
        for bottleneck in bottlenecks:
            config = RunConfig.from_flat({"bottleneck": bottleneck, **SETTINGS, **MORE.get(bottleneck, {})})
            device = torch.device("cpu")
            session = Session(config, dataset, dataset, device, ranks=ranks.joined(device))
            for _ in range(20):
                EagerStepper(session).advance()
            result[bottleneck] = {**session.model.state_dict(), "losses": session.interval.rows[:20]}
        torch.set_default_dtype(torch.float32)
    return result


def by_two(*words: str | Path) -> list[tuple[int, str, str]]:
    """Run two processes as torchrun starts them: exit code, output and errors of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    shared = {**os.environ, **address, "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env={**shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    answers = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *answer) for process, answer in zip(processes, answers, strict=True)]


@pytest.mark.parametrize(
    "bottlenecks", [("ema-vq", "fsq", "sq-vae"), pytest.param(tuple(BOTTLENECKS), marks=pytest.mark.slow)]
)
def test_two_processes_train_as_one_does(bottlenecks: tuple[str, ...], npz: Path, tmp_path: Path) -> None:
    """In float64 in memory; and a run of the command, which a single process finishes."""
    words = ("train", "--data", npz, "--latent-dim", 4, "--iterations", 12, "--batch-size", 15, "--log-every", 5)
    first, second = by_two("-c", PROGRAM, npz, tmp_path / "w", ",".join(bottlenecks), *words, "-o", tmp_path / "two")
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert first[1].strip() == str(tmp_path / "two" / "ckpt.pt") and second[1] == second[2] == ""
    weights = [torch.load(tmp_path / f"w-{rank}.pt") for rank in range(2)]
    for bottleneck, expected in trained_in_float64(str(npz), bottlenecks).items():
        for name, value in expected.items():
            of_ranks = [each[bottleneck][name] for each in weights]
            assert torch.equal(*of_ranks), (bottleneck, name)
            np.testing.assert_allclose(of_ranks[0], value, rtol=0, atol=1e-8, err_msg=f"{bottleneck}, {name}")
    settings = {"data": str(npz), "latent_dim": 4, "iterations": 20, "batch_size": 15, "log_every": 5}
    with shrunk_networks():
        whole = train(settings, out=tmp_path / "one")
        resumed = train({"iterations": 20}, out=tmp_path / "two", resume=True)
    assert [line["step"] for line in run_directory.read_metrics(resumed.folder)] == [5, 10, 12, 15, 20]
    assert resumed.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)
    for path in (resumed.path, tmp_path / "two" / "ckpt-12.pt"):
        assert checkpoint.load(path).dataset == checkpoint.load(whole.path).dataset


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"compile": True}, "compile"), ({"batch_size": 1}, "batch_size")],
)
def test_a_setting_that_several_processes_cannot_have_is_refused(
    settings: dict[str, Any], name: str, npz: Path
) -> None:
    dataset, device = datasets.load(DataConfig(data=str(npz)), "train"), torch.device("cpu")
    with pytest.raises(UsageError, match=param(name)):
        Session(RunConfig.from_flat(settings), dataset, dataset, device, ranks=ranks.Ranks(0, 2, device))


def test_torchrun_is_for_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "joined", lambda device: ranks.Ranks(0, 2, device))
    with pytest.raises(UsageError):
        train_together([TrainRequest({}), TrainRequest({"seed": 1})], device="cpu")
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    softvq("sweep", "--help")
    softvq("cluster", "z.npy").refused(2, "torchrun")
