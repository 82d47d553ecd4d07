"""A run that was killed and resumed has exactly the same result as one without interruption."""

from __future__ import annotations

import random
import re
import shlex
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import STEPS, Zygote, installed, state, step_of, temporaries, training, wait_for


@pytest.fixture(scope="module")
def whole(zygote: Zygote, npz: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The uninterrupted run and its duration in seconds."""
    start = time.monotonic()
    whole = zygote.whole(training(npz), tmp_path_factory.mktemp("whole") / "whole")
    return {"seconds": time.monotonic() - start, "state": whole}


def moment_of(run: Path) -> str:
    """The phase in which a run was killed, from its files."""
    left = temporaries(run) if run.exists() else []
    step = step_of(run) if (run / "ckpt.pt").exists() else None
    if any(".ckpt.pt." in name for name in left):
        return "while writing the last checkpoint" if step == STEPS - 1 else "while writing a checkpoint"
    if left:
        return "while writing another file"
    return "before the first checkpoint" if step is None else "after the end" if step == STEPS else "between writes"


def killed_until_done(zygote: Zygote, words: list[str], folder: Path, seconds: float, seed: int) -> Counter[str]:
    """Start and kill a run at random moments until it finishes; returns when it was killed."""
    moments: Counter[str] = Counter()
    chance = random.Random(seed)
    folder.mkdir()
    for number in range(200):
        longest = seconds * (0.7 + number / 20)  # this machine may have become slower
        ended = zygote.run(*words, "--resume", cwd=folder, after=chance.uniform(0, longest))
        if ended.code != -signal.SIGKILL:
            ended.done()
            assert not temporaries(folder)
            return moments
        moments[moment_of(folder / "run")] += 1
    raise AssertionError("it never got to its end")


def test_killed_at_random_moments(zygote: Zygote, npz: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    moments, number = Counter[str](), 0
    while moments.total() < 20:
        run = tmp_path / str(number)
        moments += killed_until_done(zygote, training(npz), run, whole["seconds"], seed=number)
        assert state(run / "run") == whole["state"]
        number += 1


@pytest.mark.parametrize("bottleneck", ["soft-vq", pytest.param("vae", marks=pytest.mark.slow)])
def test_killed_at_every_single_step_of_writing(bottleneck: str, zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    """Kill it before each creation, flush, renaming and removal of a file, over a whole run."""
    words = training(npz, bottleneck=bottleneck, iterations=3, log_every=2)
    whole = zygote.whole(words, tmp_path / "whole")
    moment, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        folder = tmp_path / str(moment)
        folder.mkdir()
        code = zygote.run(*words, cwd=folder, die_at=moment).code
        if (folder / "run" / "ckpt.pt").exists():
            assert step_of(folder / "run") <= 3
        zygote.run(*words, "--resume", cwd=folder).done()
        assert state(folder / "run") == whole, moment
        assert not temporaries(folder)
        moment += 1
    assert code == 0 and moment > 20
    print(f"\n{moment - 1} kills")


@pytest.mark.slow
def test_a_killed_overwrite_leaves_the_old_run_or_none(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    """Its files can also be overwritten by a new run."""
    for moment in range(12):
        folder = tmp_path / str(moment)
        folder.mkdir()
        zygote.run(*training(npz), cwd=folder).done()
        other = training(npz, seed=1)
        assert zygote.run(*other, "--overwrite", cwd=folder, die_at=moment).code == -signal.SIGKILL
        zygote.run(*other, "--overwrite", cwd=folder).done()
        assert state(folder / "run")["checkpoint"]["config"]["train"]["seed"] == 1


# ---- the installed command, with the network of the paper


def test_the_installed_command_killed_once(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    words, run = training(npz, iterations=6), tmp_path / "run"
    whole = zygote.whole(words, tmp_path / "whole", small=False)
    process = installed(*words, cwd=tmp_path)
    wait_for(run / "metrics.jsonl", process)
    process.kill()
    process.communicate()
    zygote.run(*words, "--resume", cwd=tmp_path, small=False).done()
    assert state(run) == whole
    assert not temporaries(run)


# ---- signals that request a stop


def command_shown(err: str) -> str:
    """The command at the end of the last line."""
    return re.search("softvq (train .*)$", err.rstrip())[0]  # type: ignore[index]


@pytest.mark.parametrize(("number", "out"), [(signal.SIGINT, "my run's"), (signal.SIGTERM, "run")])
def test_the_command_shown_after_an_interrupt_works_as_printed(
    number: int, out: str, zygote: Zygote, npz: Path, tmp_path: Path
) -> None:
    words = training(npz, out, iterations=4000, log_every=1, checkpoint_every=10_000)
    fork = zygote.begin(*words, cwd=tmp_path)
    wait_for(tmp_path / out / "metrics.jsonl")
    fork.send(number)
    ended = fork.end()
    assert (ended.code, ended.out) == (130, ""), ended
    step = step_of(tmp_path / out)
    assert 1 <= step < 4000 and f"step {step} of 4000" in ended.err.splitlines()[-1]
    printed = command_shown(ended.err)
    assert shlex.split(printed) == ["softvq", "train", "--out", out, "--resume", "--device", "cpu"]
    log = tmp_path / out / "metrics.jsonl"
    size = log.stat().st_size
    fork = zygote.begin(*shlex.split(printed)[1:], cwd=tmp_path)  # it is interrupted again
    wait_for(log, larger_than=size)
    fork.send(number)
    ended = fork.end()
    assert ended.code == 130 and printed in ended.err
