"""How the program starts: quickly, and with nothing that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from softvq_cli.cli.app import COMMANDS, build
from softvq_cli.version import __version__
from tests.helpers import python

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "numpy", "PIL", "openTSNE")
NAMES = [name for names in COMMANDS.values() for name in names]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["run", "--help"], ["probe", "-h"]])
def test_a_help_page_imports_no_heavy_library(words):
    code = f"""
import sys
from softvq_cli.__main__ import main
main({words!r})
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert python(code).stderr.splitlines()[-1] == "[]"


def test_help_answers_at_once():
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "softvq_cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 1.0  # 0.2 s where nothing else runs; importing torch takes longer


def test_version(softvq):
    result = softvq("--version")
    assert (result.code, result.out) == (0, f"softvq {__version__}\n")


def test_without_a_command_the_help_is_shown_and_scripts_see_an_error(softvq):
    result = softvq()
    assert result.code == 2
    assert "Usage: softvq COMMAND" in result.out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_says_what_it_is(name, softvq):
    command = build(name)
    assert len(command.help.split("\n\n")) >= 2 or len(command.help) > 60
    assert [param.name for param in command.params if not param.help] == []
    result = softvq(name, "--help")
    assert result.code == 0
    assert result.err == ""
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_help_shows_the_papers_defaults(softvq):
    page = " ".join(softvq("train", "--help").out.split())
    assert "[digits: 32; mnist, fashion-mnist: 128; svhn, cifar10: 32 (others 512)]" in page
    assert "svhn, cifar10: 10000 (others 40000)" in page
    assert "mnist, fashion-mnist: 2.5 (vae 1; beta-vae 20; vq 0.25)" in page


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("softvq tra", ["train"]),
        ("softvq train --bottleneck v", ["vae", "vq"]),
        ("softvq run --data fash", ["fashion-mnist"]),
        ("softvq embed --device c", ["cpu", "cuda"]),
        ("softvq data fetch sv", ["svhn"]),
    ],
)
def test_the_shell_completes_names(line, expected):
    done = subprocess.run(
        [sys.executable, "-c", "from softvq_cli.__main__ import main; main()"],
        env={**os.environ, "_SOFTVQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == expected
