"""Paths in reports and exported files do not reveal private folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from softvq_cli.config import RunConfig
from softvq_cli.sharing import shared_command, shared_path, shared_text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/bob/photos", "photos"),
        ("/home/bob/photos/", "photos"),
        ("/home/bob/my photos.zip", "my photos.zip"),
        ("~bob/photos", "photos"),
        ("../../bob/photos", "photos"),
        ("data/../../bob/photos", "photos"),
        ("/home/bob/mnist", "./mnist"),
        ("/home/bob/train-{000..009}.tar", "train-{000..009}.tar"),
        ("/", "/"),
        ("photos", "photos"),
        ("data/photos.zip", "data/photos.zip"),
        ("./photos", "./photos"),
        ("..photos", "..photos"),
        ("mnist", "mnist"),
    ],
)
def test_of_a_path_to_elsewhere_the_last_part_is_shared(path: str, expected: str) -> None:
    assert shared_path(path) == expected


def test_a_command_keeps_its_words_but_for_such_paths() -> None:
    command = "softvq reproduce table2 --data 'cifar10=/home/bob/my images.zip' --K 8 --data-dir ~/sets -o /home/bob/r"
    assert (
        shared_command(command) == "softvq reproduce table2 --data 'cifar10=my images.zip' --K 8 --data-dir sets -o r"
    )


def test_a_message_names_files_from_where_the_work_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "bob"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    text = f"{home}/photos/cat/1.png, {home}/out/runs/ae and {home}/.cache/x, not {tmp_path}/sets/y"
    shared = shared_text(text, [home / "photos", f"{home}/out", Path("sets"), "~/none"])
    assert shared == "photos/cat/1.png, out/runs/ae and ~/.cache/x, not sets/y"


def test_a_configuration_names_data_by_the_last_part_of_their_path() -> None:
    config = RunConfig.from_flat({"data": "/home/bob/photos", "data_dir": "/home/bob/sets", "K": 7})
    shared = config.shared().flat()
    assert (shared["data"], shared["data_dir"], shared["K"]) == ("photos", None, 7)
    assert RunConfig().shared() == RunConfig()
