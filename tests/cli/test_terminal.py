"""The output for people: bars, tables and notes on a real terminal, and lines in the log of a batch job."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re

import pytest

from softvq_cli.cli.progress import Terminal
from tests.helpers import QUICK

pty = pytest.importorskip("pty")


@pytest.fixture
def on_a_terminal(zygote, tmp_path):
    """Run a command with standard error, or both streams, on a terminal.

    It returns the exit code, the output to the terminal, and standard output if it is a pipe.
    """

    def run(*words: object, both: bool = True, **environment: str) -> tuple[int, str, str]:
        ours, theirs = pty.openpty()
        shown = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment}
        fork = zygote.begin(*words, cwd=tmp_path, out=theirs if both else None, err=theirs, environment=shown)
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
        result = fork.end()
        return result.code, seen.decode(), result.out

    return run


def test_a_bar_follows_the_training_and_vanishes(on_a_terminal):
    code, seen, out = on_a_terminal("train", "-o", "run", *QUICK, both=False)
    assert code == 0, seen
    assert out == "run/ckpt.pt\n"
    assert re.search(r"training .*6/6", seen)
    assert "loss" in seen
    assert "next: softvq embed run/ckpt.pt" in seen


def test_quiet_shows_no_bar(on_a_terminal):
    assert on_a_terminal("train", "-o", "run", "--quiet", *QUICK, both=False)[:2] == (0, "")


def test_people_see_tables_in_per_cent_and_programs_json(on_a_terminal, trained):
    code, seen, _ = on_a_terminal("probe", trained)
    assert code == 0, seen
    shown = re.search(r"accuracy +([\d.]+) %", seen)
    assert shown
    _, _, out = on_a_terminal("probe", trained, both=False)
    assert f"{100 * json.loads(out)['probe_accuracy']:.2f}" == shown[1]
    assert f'"probe_accuracy": {json.loads(out)["probe_accuracy"]}' in on_a_terminal("probe", trained, "--json")[1]


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("info", "{run}")])
def test_no_color_is_honoured(on_a_terminal, trained, words):
    words = [word.format(run=trained) for word in words]
    coloured = re.compile(r"\x1b\[[\d;]*3\d[;m]")  # a foreground colour
    if "--help" in words:
        assert coloured.search(on_a_terminal(*words)[1])
    assert not coloured.search(on_a_terminal(*words, NO_COLOR="1")[1])


def log(steps: int, seconds: float, *, quiet: bool = False, first: int = 0) -> list[str]:
    """The log on a standard error that is a file, for a training with this number of steps and seconds per step."""
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
