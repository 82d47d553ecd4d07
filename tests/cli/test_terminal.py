"""What people see: bars, tables and notes on a real terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import QUICK

pty = pytest.importorskip("pty")


def on_a_terminal(*words: object, cwd: Path, both: bool = True, **environment: str) -> tuple[int, str, str]:
    """(exit code, what the terminal got, standard output where that is a pipe)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "softvq_cli", *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=theirs if both else subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment},
    )
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
    out = "" if process.stdout is None else process.stdout.read().decode()
    return process.wait(timeout=300), seen.decode(), out


def test_a_bar_follows_the_training_and_vanishes(tmp_path):
    code, seen, out = on_a_terminal("train", "-o", "run", *QUICK, cwd=tmp_path, both=False)
    assert code == 0
    assert out == "run/ckpt.pt\n"
    assert re.search(r"training .*6/6", seen)
    assert "loss" in seen
    assert "next: softvq embed run/ckpt.pt" in seen


def test_quiet_shows_no_bar(tmp_path):
    assert on_a_terminal("train", "-o", "run", "--quiet", *QUICK, cwd=tmp_path, both=False)[:2] == (0, "")


def test_people_see_tables_in_per_cent_and_programs_json(tmp_path, trained):
    code, seen, _ = on_a_terminal("probe", trained, cwd=tmp_path)
    assert code == 0
    shown = re.search(r"accuracy +([\d.]+) %", seen)
    assert shown
    _, _, out = on_a_terminal("probe", trained, cwd=tmp_path, both=False)
    assert f"{100 * json.loads(out)['accuracy']:.2f}" == shown[1]
    assert f'"accuracy": {json.loads(out)["accuracy"]}' in on_a_terminal("probe", trained, "--json", cwd=tmp_path)[1]


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("info", "{run}")])
def test_no_color_is_honoured(tmp_path, trained, words):
    words = [word.format(run=trained) for word in words]
    coloured = re.compile(r"\x1b\[[\d;]*3\d[;m]")  # a foreground colour
    if "--help" in words:
        assert coloured.search(on_a_terminal(*words, cwd=tmp_path)[1])
    assert not coloured.search(on_a_terminal(*words, cwd=tmp_path, NO_COLOR="1")[1])
