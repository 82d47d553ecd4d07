"""A training in a batch job's log: lines without a terminal, at growing intervals."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from softvq_cli.cli.progress import Terminal


def log(steps: int, seconds: float, *, quiet: bool = False, first: int = 0) -> list[str]:
    """What a training of so many steps, each of so many seconds, writes to a standard error that is a file."""
    now = 1000.0
    with contextlib.redirect_stderr(io.StringIO()) as err:
        terminal = Terminal(quiet=quiet, clock=lambda: now)
        now += 500  # the data were fetched before
        terminal.stage("training", stoppable=True)
        terminal.progress("training", first, steps)
        for step in range(first + 1, steps + 1):
            now += seconds
            terminal.progress("training", step, steps)
            if step % 10 == 0:
                terminal.step({"step": step, "loss": 1 / step})
        terminal.close()
    return err.getvalue().splitlines()


def test_a_log_shows_life_at_growing_intervals():
    lines = log(300, 1.0)
    steps = [int(re.match(r"step (\d+) of 300, 1 steps/s, ", line)[1]) for line in lines]
    assert steps == [5, 15, 35, 75, 135, 195, 255]
    assert lines[:2] == ["step 5 of 300, 1 steps/s, 0:04:55 left", "step 15 of 300, 1 steps/s, loss 0.1, 0:04:45 left"]


def test_the_rate_of_a_resumed_run_is_its_own():
    assert log(1010, 0.5, first=995) == ["step 1005 of 1010, 2 steps/s, loss 0.001, 0:00:02 left"]


@pytest.mark.parametrize(("steps", "seconds", "quiet"), [(400, 0.01, False), (1, 100.0, False), (300, 1.0, True)])
def test_a_short_training_and_a_quiet_one_have_none(steps, seconds, quiet):
    assert log(steps, seconds, quiet=quiet) == []
