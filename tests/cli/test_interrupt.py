"""Ctrl-C and SIGTERM at any time."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import pytest

from softvq_cli.cli.errors import Interrupts, interrupts
from softvq_cli.cli.progress import Terminal
from tests.helpers import start, wait_for


@pytest.fixture
def handler():
    """The signal handler, called directly, because the test runner keeps its own."""
    return Interrupts()


def test_outside_a_training_the_first_signal_raises_and_in_one_the_second(handler):
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
    assert handler.seen
    handler.seen, handler.stop = False, threading.Event()
    handler(signal.SIGTERM, None)
    assert handler.stop.is_set() and not handler.seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGTERM, None)


def test_a_long_step_is_said_to_be_awaited(handler, capfd):
    handler.stop = threading.Event()
    handler(signal.SIGUSR1, None)
    handler(signal.SIGALRM, None)
    assert "second signal" in capfd.readouterr().err
    handler.stop = None  # the step is over
    handler(signal.SIGALRM, None)
    assert capfd.readouterr().err == ""
    signal.setitimer(signal.ITIMER_REAL, 0)


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is where these tests run under nohup
    ENDING.append(signal.SIGHUP)


@pytest.mark.parametrize("number", ENDING)
def test_signals_are_answered_within_a_command_unless_they_are_ignored(number):
    before = signal.getsignal(number)
    with interrupts.installed():
        assert signal.getsignal(number) is interrupts
    assert signal.getsignal(number) is before
    signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        with interrupts.installed():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_signal_during_an_import_is_answered_after_it(softvq, monkeypatch, tmp_path):
    """A C++ extension that is interrupted during its initialisation would abort the process."""
    from softvq_cli import datasets

    (tmp_path / "set_up.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nfinished = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []

    def describe(*_args):
        import set_up

        seen.append(set_up.finished)
        time.sleep(10)

    monkeypatch.setattr(datasets, "describe", describe)
    result = softvq("data")
    assert seen == [True]
    assert (result.code, result.err) == (130, "softvq: interrupted\n")


def test_a_library_that_turns_the_interrupt_into_its_own_error_does_not_hide_it(softvq, monkeypatch):
    from softvq_cli import datasets

    def describe(*_args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("the C extension failed to load") from error

    monkeypatch.setattr(datasets, "describe", describe)
    result = softvq("data")
    assert (result.code, result.err) == (130, "softvq: interrupted\n")


def test_an_interrupt_that_a_finaliser_swallows_ends_the_command_at_its_next_stage():
    with interrupts.installed():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            Terminal().stage("training", stoppable=True)
    Terminal().stage("training")  # the next command begins anew


@pytest.mark.parametrize("number", ENDING)
def test_a_training_that_is_interrupted_leaves_a_checkpoint_and_goes_on(
    number, tmp_path, softvq, zygote, small_networks
):
    run = tmp_path / "run"
    endless = ("--iterations", 100_000, "--log-every", 1, "--device", "cpu")
    fork = zygote.begin("train", "--out", run, *endless, cwd=tmp_path)
    wait_for(run / "metrics.jsonl")
    fork.send(number)
    result = fork.end()
    assert (result.code, result.out) == (130, "")
    assert f": softvq train --out {run} --resume" in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    document = softvq("info", run, "--json").document
    assert document["step"] >= 1
    assert not document["finished"]


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.4, 1.6])
def test_ctrl_c_while_the_program_starts_leaves_no_traceback(delay, tmp_path):
    process = start("train", "--out", tmp_path / "run", "--iterations", 10**6, "--device", "cpu", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "softvq: " in err.splitlines()[-1]
