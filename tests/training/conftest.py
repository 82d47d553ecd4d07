"""A configuration that trains in a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from softvq_cli.errors import Interrupted
from softvq_cli.reporter import Reporter
from softvq_cli.training import train
from tests.helpers import shrunk_networks


@pytest.fixture(scope="module", autouse=True)
def small_by_default() -> Iterator[None]:
    """Networks are small."""
    with shrunk_networks():
        yield


@pytest.fixture
def small(npz: Path) -> dict[str, Any]:
    """Settings of a run of 30 iterations."""
    return {"data": str(npz), "latent_dim": 4, "K": 6, "iterations": 30, "batch_size": 16, "log_every": 10, "lr": 1e-3}


class StopAt(Reporter):
    """Asks the run to stop after a step."""

    def __init__(self, step: int, stop: threading.Event) -> None:
        self.at, self.stop = step, stop

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        if (name, done) == ("training", self.at):
            self.stop.set()


def stopped(settings: dict[str, Any], out: Path, step: int, **more: Any) -> None:
    """Train up to a step, and check what is said of how to go on."""
    stop = threading.Event()
    with pytest.raises(Interrupted, match=f"stopped at step {step} ") as interruption:
        train(settings, out=out, stop=stop, reporter=StopAt(step, stop), **more)
    logs = {"log": list(more["logs"])} if "logs" in more else {}
    assert interruption.value.again == {"out": out, "resume": True, "device": more.get("device"), **logs}
