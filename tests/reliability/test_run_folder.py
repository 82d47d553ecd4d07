"""Run folders: two processes at once, other data than before, and what was lost or edited by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.training import checkpoint
from tests.helpers import Zygote, save_blobs, softvq, state, temporaries, tiny, training, wait_for

pytestmark = pytest.mark.usefixtures("small_networks")


def test_of_two_processes_in_one_folder_the_second_is_refused(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    words = training(npz, iterations=3000, log_every=1, checkpoint_every=10_000)
    fork = zygote.begin(*words, cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    before = (tmp_path / "run" / "config.json").read_bytes()
    for more in ([], ["--resume"], ["--overwrite"]):
        softvq(*words[:2], tmp_path / "run", *words[3:], *more, "-q").refused(
            4, "another softvq is working in", "--out"
        )
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
    """A run whose data file was replaced by another one of the same form."""
    data = save_blobs(tmp_path / "mine.npz")
    assert softvq("train", *tiny(data, iterations=2), "-o", tmp_path / "run", "-q").code == 0
    with np.load(data) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    images[:, 0, 0, 0] ^= 1
    np.savez(data, images=images, labels=labels)
    return tmp_path / "run"


@pytest.mark.parametrize("command", [["embed", "--split", "test"], ["embed", "--split", "train"], ["probe"]])
def test_a_checkpoint_that_meets_other_data_warns(command: list[str], changed_data: Path, tmp_path: Path) -> None:
    more = ["-o", tmp_path / "z.npy"] if command[0] == "embed" else []
    ended = softvq(command[0], changed_data, *command[1:], *more, "--quiet")  # which silences notes, not warnings
    assert ended.code == 0
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1, ended
    assert "its fingerprint differs: as many images and the same classes, but other content" in warnings[0]


@pytest.mark.parametrize("command", [["embed"], ["probe"]])
def test_the_same_data_give_no_warning(command: list[str], npz: Path, tmp_path: Path) -> None:
    assert softvq("train", *tiny(npz, iterations=2), "-o", tmp_path / "run", "-q").code == 0
    more = ["-o", tmp_path / "z.npy"] if command[0] == "embed" else []
    assert "warning" not in softvq(*command, tmp_path / "run", *more).err


def test_the_warning_says_what_is_known_to_differ(tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "mine.npz")
    assert softvq("train", *tiny(data, iterations=2), "-o", tmp_path / "run", "-q").code == 0
    with np.load(data) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(data, images=np.concatenate([images, images[:50]]), labels=np.concatenate([labels, labels[:50] + 7]))
    [warning] = [line for line in softvq("probe", tmp_path / "run").err.splitlines() if "fingerprint" in line]
    assert warning.startswith("warning: ")
    assert warning.endswith("its fingerprint differs: 62 training images instead of 31; new classes: 7, 8, 9")


def test_a_run_is_not_resumed_on_other_data(changed_data: Path) -> None:
    content, _ = checkpoint.archive.read(changed_data / "ckpt.pt")
    checkpoint.archive.write(changed_data / "ckpt.pt", {**content, "step": 1, "finished": False})
    softvq("train", "-o", changed_data, "--resume", "-q").refused(3, "its fingerprint differs")


# ---- what was lost or edited


@pytest.fixture
def halves(zygote: Zygote, npz: Path, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A run that was killed half way, and what it has to become."""
    words = training(npz)
    (tmp_path / "whole").mkdir()
    assert zygote.run(*words, cwd=tmp_path / "whole").code == 0
    assert zygote.run(*words, cwd=tmp_path, die_at=45).code < 0
    assert softvq("info", tmp_path / "run", "--json").document["step"] >= 5
    return tmp_path / "run", state(tmp_path / "whole" / "run")


def test_a_lost_config_comes_back_from_the_checkpoint(halves: tuple[Path, dict[str, object]]) -> None:
    run, whole = halves
    (run / "config.json").unlink()
    assert softvq("train", "-o", run, "--resume", "-q", "--device", "cpu").code == 0
    assert state(run) == whole


@pytest.mark.parametrize(("old", "new"), [('"lr": 0.0003', '"lr": 0.03'), ('"iterations": 12', '"iterations": 11')])
def test_a_config_edited_by_hand_is_not_resumed_silently(
    old: str, new: str, halves: tuple[Path, dict[str, object]]
) -> None:
    run, _ = halves
    text = (run / "config.json").read_text()
    assert old in text
    (run / "config.json").write_text(text.replace(old, new))
    softvq("train", "-o", run, "--resume", "-q").refused(3, "was trained with --", "config.json")


def test_lines_that_the_log_has_lost_are_told(halves: tuple[Path, dict[str, object]]) -> None:
    run, _ = halves
    (run / "metrics.jsonl").write_text("not a line\n")
    ended = softvq("train", "-o", run, "--resume", "--device", "cpu")
    assert ended.code == 0
    assert f"{run}/metrics.jsonl was damaged: the lines from there to step " in ended.err


def test_a_name_that_is_no_text_goes_through_all_commands(tmp_path: Path) -> None:
    """Linux has file names that are not valid UTF-8; they come as lone surrogates."""
    data = save_blobs(tmp_path / "caf\udce9.npz")
    run = tmp_path / "run\udcff"
    assert softvq("train", *tiny(data, iterations=2), "-o", run, "-q").code == 0
    assert json.loads((run / "config.json").read_bytes())["data"]["data"] == str(data)
    for command in (["info", run], ["info", run, "--json"], ["embed", run, "-q", "-o", run / "z.npy"]):
        assert softvq(*command).code == 0
    assert softvq("train", "-o", run, "--resume").code == 0
