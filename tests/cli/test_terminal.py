"""What people see: bars, tables and notes on a real terminal."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.helpers import QUICK

pty = pytest.importorskip("pty")


@pytest.fixture
def on_a_terminal(zygote, tmp_path):
    """Run a command with standard error, or both streams, on a terminal.

    It returns the exit code, what the terminal got, and standard output where that is a pipe.
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
