"""All ways in which a command ends: one line, the documented exit code, no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from softvq_cli import datasets
from softvq_cli.errors import InputError, Interrupted, RefusedError, SoftVQError, UsageError
from tests.helpers import installed
from tests.helpers.commands import UNFORESEEN


@pytest.fixture
def failing_with(softvq, monkeypatch):
    """Run a command whose call to the core raises ``error``."""

    def run(error: BaseException, *words: str):
        def fail(*_args, **_more):
            raise error

        monkeypatch.setattr(datasets, "describe", fail)
        return softvq("data", *words)

    return run


@pytest.mark.parametrize(("kind", "code"), [(SoftVQError, 1), (UsageError, 2), (InputError, 3), (RefusedError, 4)])
def test_our_errors_are_one_line_and_their_exit_code(failing_with, kind, code):
    failing_with(kind("the disk is full")).refused(code, "the disk is full")


@pytest.mark.parametrize("error", [Interrupted("stopped at step 3", {"out": "run"}), KeyboardInterrupt()])
def test_an_interruption_is_130_without_a_traceback(failing_with, error):
    result = failing_with(error)
    assert result.code == 130 and len(result.err.splitlines()) == 1 and result.err.startswith("softvq: ")
    assert ("softvq data --out run" in result.err) == isinstance(error, Interrupted)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ("memory", "--batch-size")),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), ("memory", "--batch-size")),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ("memory", "--batch-size")),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ("memory", "--batch-size")),
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), ("x.npy", "No space left on device")),
        (ZeroDivisionError("division\nby zero"), ("ZeroDivisionError: division by zero", UNFORESEEN[0], "--debug")),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(failing_with, error, words):
    failing_with(error).refused(1, *words)


def test_debug_shows_the_traceback(failing_with):
    *_, traceback, last = failing_with(ZeroDivisionError("division by zero"), "--debug").err.splitlines()
    assert traceback.startswith("ZeroDivisionError") and last.startswith("softvq: error: ")


def test_a_message_cannot_break_the_line_or_colour_the_terminal(failing_with):
    failing_with(InputError("no \x1b[31mfile\r\n 'a\nb\udcff'")).refused(3, "no \\x1b[31mfile 'a b\\udcff'")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], ["'trian'", "'train'", "softvq --help"]),
        (["train", "--latnt-dim", "3"], ["'--latnt-dim'", "'--latent-dim'"]),
        (["cluster", "z.npy", "--k", "3"], ["'--k'", "'-k'"]),
        (["train", "--K", "9" * 5000], ["--K", "'999", " … ", "999'"]),
        (["train", "--keep", "9," * 500 + "x"], ["--keep", " … "]),
        (["train", "--qqqqqqqq"], ["'--qqqqqqqq'", "softvq train --help"]),
        (["train", "--K"], ["'--K'"]),
        (["train", "digits"], ["digits"]),
        (["embed"], ["'CHECKPOINT'", "softvq embed --help"]),
        (["tsne", "x.npy"], ["--out"]),
        (["cluster", "x.npy", "--n-init", "ten"], ["--n-init"]),
        (["embed", "x.pt", "--batch-size", "0"], ["--batch-size"]),
        (["train", "--device", "gpu"], ["--device", "'gpu'", "cuda"]),
        (["train", "--data", "mnits"], ["'mnits'", "'mnist'"]),
        (["train", "--bottleneck", "soft_vq"], ["'soft_vq'", "'soft-vq'"]),
        (["data", "fetch"], ["mnist"]),
        (["data", "fetc"], ["'fetc'", "'fetch'"]),
        (["data", "list", "mnits"], ["'mnits'", "'mnist'"]),
        (["probe", "a.npy", "b.npy", "--data", "mnist"], ["--data"]),
    ],
)
def test_wrong_usage_is_one_line_that_helps(softvq, words, expected, tmp_path):
    softvq(*words).refused(2, *expected)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_ends_the_command_quietly():
    read, write = os.pipe()
    os.close(read)
    process = installed("data", stdout=write)
    os.close(write)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_an_error():
    with open("/dev/full", "w") as full:
        process = installed("data", "--quiet", stdout=full)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert err == "softvq: error: cannot write the result: No space left on device\n"
