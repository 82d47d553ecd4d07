"""A training in a batch job's log: lines without a terminal, at growing intervals."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from softvq_cli.cli.output import Terminal
from softvq_cli.cli.watch import Watcher
from softvq_cli.config import resolve


@pytest.fixture
def log() -> Callable[..., list[str]]:
    """What a training of so many steps, each of so many seconds, writes to a standard error that is a file."""

    def run(steps: int, seconds: float, *, quiet: bool = False, first: int = 0) -> list[str]:
        now = 1000.0
        config = resolve("digits", (8, 8, 1), {"iterations": steps})
        with contextlib.redirect_stderr(io.StringIO()) as err:
            terminal = Terminal(quiet=quiet)
            with terminal.bars() as bars:
                watcher = Watcher(terminal, bars, threading.Event(), clock=lambda: now)
                now += 500  # the data were fetched before
                watcher.started(config, Path("run"), first)
                for step in range(first + 1, steps + 1):
                    now += seconds
                    watcher.stepped(step)
                    if step % 10 == 0:
                        watcher.reported({"step": step, "loss": 1 / step})
        return err.getvalue().splitlines()

    return run


def test_a_log_shows_life_at_growing_intervals(log):
    first, *lines = log(300, 1.0)
    assert first == "training in run"
    steps = [int(re.match(r"step (\d+) of 300, 1 steps/s, ", line)[1]) for line in lines]
    assert steps == [5, 15, 35, 75, 135, 195, 255]
    assert lines[0] == "step 5 of 300, 1 steps/s, 0:04:55 left"
    assert lines[1] == "step 15 of 300, 1 steps/s, loss 0.1, 0:04:45 left"


def test_the_rate_of_a_resumed_run_is_its_own(log):
    first, line = log(1010, 0.5, first=995)
    assert first == "training in run, from step 995"
    assert line == "step 1005 of 1010, 2 steps/s, loss 0.001, 0:00:02 left"


@pytest.mark.parametrize(("steps", "seconds"), [(400, 0.01), (1, 100.0)])
def test_a_short_training_has_its_first_line_alone(log, steps, seconds):
    assert log(steps, seconds) == ["training in run"]


def test_quiet_has_none(log):
    assert log(300, 1.0, quiet=True) == []
