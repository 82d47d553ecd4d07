"""Files are written completely or stay unchanged."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from softvq_cli import files
from softvq_cli.errors import InputError, SoftVQError
from softvq_cli.files import atomic_write, read_json, write_json, write_text


def test_a_failure_in_the_body_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with contextlib.suppress(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trips_and_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"β": [1, None]})
    assert read_json(path) == {"β": [1, None]}
    path.write_text("{" * 100_000)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(path)
    with pytest.raises(SoftVQError, match="/no"):
        write_text(tmp_path / "no" / "a.txt", "x")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    if (child := os.fork()) == 0:
        with files.temporary_folder() as folder:
            (folder / "half").mkdir()
            os._exit(9)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with files.temporary_folder() as mine, files.temporary_folder() as other:
        assert set(tmp_path.iterdir()) == {mine, other}
    assert list(tmp_path.iterdir()) == []
