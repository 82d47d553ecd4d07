"""The program starts quickly and imports nothing unnecessary."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from softvq_cli.cli.app import COMMANDS, build
from softvq_cli.version import __version__
from tests.helpers import Result, python

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "numpy", "PIL", "openTSNE")
NAMES = [name for names in COMMANDS.values() for name in names]


def test_a_help_page_imports_no_heavy_library():
    code = f"""
import sys
from softvq_cli.__main__ import main
for words in (["--help"], ["--version"], *([name, "-h"] for name in {NAMES!r})):
    main(words)
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert set(python(code).stderr.splitlines()) == {"[]"}


CALLS = """
import cProfile, pstats, sys
profile = cProfile.Profile()
profile.enable()
import typer, rich
if sys.argv[1:]:
    from softvq_cli.__main__ import main
    try:
        main(sys.argv[1:])
    except SystemExit:
        pass
profile.disable()
print(pstats.Stats(profile, stream=sys.stderr).total_calls, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_a_help_page_calls_little_more_than_importing_what_draws_it(words):
    def calls(*words: str) -> int:
        done = subprocess.run([sys.executable, "-c", CALLS, *words], capture_output=True, check=True, text=True)
        return int(done.stderr.splitlines()[-1])

    # 2.0 and 3.2 times as many; building every command takes 9.6. Counted, since seconds depend on who else works.
    assert calls(*words) < 4 * calls()


def test_the_version_and_what_is_shown_without_a_command(softvq):
    assert softvq("--version") == softvq("-V") == Result(0, f"softvq {__version__}\n", "")
    assert (softvq().code, softvq().out) == (2, softvq("--help").out)


def test_help_is_a_command_too(softvq):
    assert softvq("help") == softvq("--help")
    for name in NAMES:
        assert softvq("help", name) == softvq(name, "--help")
    softvq("help", "trian").refused(2, "'trian'", "'train'")


@pytest.mark.parametrize("name", [None, *NAMES])
def test_every_help_page_ends_with_examples_that_can_be_typed(name, softvq):
    page = softvq("--help").out if name is None else softvq(name, "--help").out
    lines = [line.strip() for line in page.partition("\n  Examples:\n")[2].strip().splitlines()]
    assert 2 <= len(lines) <= 6
    for line in lines:
        words = shlex.split(line.partition("|")[0].replace('"$(softvq train)"', "runs/x"))
        assert words[0] == "softvq"
        assert name is None or words[1] == name
        command = build(words[1])
        command.make_context(words[1], words[2:])  # its options and their values are what the parser takes


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_says_what_it_is(name, softvq):
    command = build(name)
    assert len(command.help.split("\n\n")) >= 2 or len(command.help) > 60
    assert [param.name for param in command.params if not param.help] == []
    result = softvq(name, "--help").done()
    assert result.err == ""
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_help_shows_the_papers_defaults(softvq):
    page = " ".join(softvq("train", "--help").out.split())
    assert "[digits: 32; mnist, fashion-mnist: 128; svhn, cifar10: 32 (others 512)]" in page
    assert "svhn, cifar10: 10000 (others 40000)" in page
    assert "mnist, fashion-mnist: 2.5 (vae, gumbel-vq 1; beta-vae 20; vq, ema-vq, rotation-vq, simvq, rvq 0.25)" in page


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("softvq train --sigma-form ", ["input", "codeword", "fixed"]),
        ("softvq tra", ["train"]),
        ("softvq train --bottleneck v", ["vae", "vq"]),
        ("softvq run --data fash", ["fashion-mnist"]),
        ("softvq embed --device c", ["cpu", "cuda"]),
        ("softvq data fetch sv", ["svhn"]),
        ("softvq help repr", ["reproduce"]),
        ("softvq reproduce table1 --only ae,v", ["ae,vae", "ae,vq"]),
        ("softvq sweep --over lat", ["latent_dim=", "latent_weight="]),
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
