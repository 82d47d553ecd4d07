"""Run folders: two processes at once, changed data, and files that are missing or edited."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.training import checkpoint
from tests.helpers import Zygote, save_blobs, softvq, state, temporaries, train, training, unfinish, wait_for

pytestmark = pytest.mark.usefixtures("small_networks")


def test_of_two_processes_in_one_folder_the_second_is_refused(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    words = training(npz, iterations=3000, log_every=1, checkpoint_every=10_000)
    fork = zygote.begin(*words, cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    before = (tmp_path / "run" / "config.json").read_bytes()
    for more in ([], ["--resume"], ["--overwrite"]):
        softvq(*words[:2], tmp_path / "run", *words[3:], *more, "-q").refused(4, f"{tmp_path}/run", "--out")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    fork.send(15)
    assert fork.end().code == 130
    assert not temporaries(tmp_path)


def test_of_two_commands_started_together_one_trains(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    words = training(npz, iterations=30, log_every=1, checkpoint_every=100)
    forks = [zygote.begin(*words, cwd=tmp_path) for _ in range(2)]
    ended = sorted((fork.end() for fork in forks), key=lambda one: one.code)
    assert [one.code for one in ended] == [0, 4], ended
    assert ended[1].err.startswith("softvq: error: ")
    assert checkpoint.archive.read(tmp_path / "run" / "ckpt.pt")[0]["finished"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))


# ---- other data


@pytest.fixture
def changed_data(tmp_path: Path) -> Path:
    """A run whose data file was replaced by one with the same shape."""
    data = save_blobs(tmp_path / "mine.npz")
    run = train(data, tmp_path / "run", iterations=2)
    with np.load(data) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    images[:, 0, 0, 0] ^= 1
    np.savez(data, images=images, labels=labels)
    return run


def warnings_of(*words: object) -> list[str]:
    ended = softvq(*words, *(["-o", Path(str(words[1])) / "z.npy"] if words[0] == "embed" else []), "--quiet").done()
    return [line for line in ended.err.splitlines() if line.startswith("warning: ")]  # --quiet silences notes only


COMMANDS = [["embed", "--split", "test"], ["embed", "--split", "train"], ["probe"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_that_meets_other_data_warns(command: list[str], changed_data: Path) -> None:
    [warning] = warnings_of(command[0], changed_data, *command[1:])
    assert "fingerprint" in warning


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_data_give_no_warning(command: list[str], npz: Path, tmp_path: Path) -> None:
    assert not warnings_of(command[0], train(npz, tmp_path / "run", iterations=2), *command[1:])


def test_the_warning_says_what_is_known_to_differ(tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "mine.npz")
    run = train(data, tmp_path / "run", iterations=2)
    with np.load(data) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(data, images=np.concatenate([images, images[:50]]), labels=np.concatenate([labels, labels[:50] + 7]))
    [warning] = [line for line in warnings_of("probe", run) if "fingerprint" in line]
    assert "62 training images" in warning and "31" in warning and "7, 8, 9" in warning


def test_a_run_is_not_resumed_on_other_data(changed_data: Path) -> None:
    unfinish(changed_data)
    softvq("train", "-o", changed_data, "--resume", "-q").refused(3, "fingerprint")


# ---- missing or edited files


@pytest.fixture
def halves(zygote: Zygote, npz: Path, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A run that was killed halfway, and the expected result."""
    words = training(npz)
    whole = zygote.whole(words, tmp_path / "whole")
    assert zygote.run(*words, cwd=tmp_path, die_at=45).code < 0
    assert softvq("info", tmp_path / "run", "--json").document["step"] >= 5
    return tmp_path / "run", whole


def test_a_lost_config_comes_back_from_the_checkpoint(halves: tuple[Path, dict[str, object]]) -> None:
    run, whole = halves
    (run / "config.json").unlink()
    softvq("train", "-o", run, "--resume", "-q", "--device", "cpu").done()
    assert state(run) == whole


@pytest.mark.parametrize(("name", "old", "new"), [("lr", "0.0003", "0.03"), ("iterations", "12", "11")])
def test_a_config_edited_by_hand_is_not_resumed_silently(
    name: str, old: str, new: str, halves: tuple[Path, dict[str, object]]
) -> None:
    run, _ = halves
    text = (run / "config.json").read_text()
    assert f'"{name}": {old}' in text
    (run / "config.json").write_text(text.replace(f'"{name}": {old}', f'"{name}": {new}'))
    softvq("train", "-o", run, "--resume", "-q").refused(3, f"--{name}", "config.json")


def test_lines_that_the_log_has_lost_are_told(halves: tuple[Path, dict[str, object]]) -> None:
    run, _ = halves
    (run / "metrics.jsonl").write_text("not a line\n")
    assert f"{run}/metrics.jsonl" in softvq("train", "-o", run, "--resume", "--device", "cpu").done().err


def test_a_name_that_is_no_text_goes_through_all_commands(tmp_path: Path) -> None:
    """Linux has file names that are not valid UTF-8; they come as lone surrogates."""
    data = save_blobs(tmp_path / "caf\udce9.npz")
    run = train(data, tmp_path / "run\udcff", iterations=2)
    assert json.loads((run / "config.json").read_bytes())["data"]["data"] == str(data)
    for command in (["info", run], ["info", run, "--json"], ["embed", run, "-q", "-o", run / "z.npy"]):
        softvq(*command).done()
    softvq("train", "-o", run, "--resume").done()
