"""Where output goes, and where it does not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.files import atomic_write
from tests.helpers import QUICK


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("place", ["", " ", "s3://bucket/run", "gs://bucket/run", "s3:/bucket/run"])
@pytest.mark.parametrize(
    "words",
    [("train", *QUICK), ("cluster", "z.npy", "-k", "2", "--assignments"), ("embed", "run"), ("sweep", "--over", "K=2")],
    ids=lambda words: words[0],
)
def test_a_path_is_one_on_this_machine(softvq, rows, words, place):
    before = sorted(rows.iterdir())
    words = words if words[-1] == "--assignments" else (*words, "--out")
    assert softvq(*words, place).code == 2
    assert sorted(rows.iterdir()) == before


@pytest.mark.parametrize(
    "words", [("cluster", "s3://b/z.npy"), ("embed", "gs://b/run"), ("train", "--data", "s3://b/i")]
)
def test_input_is_on_this_machine_too(softvq, words):
    softvq(*words).refused(2, "address", words[-1])


def test_the_home_is_meant_where_the_shell_leaves_it(softvq, rows, monkeypatch):
    monkeypatch.setenv("HOME", str(rows / "home"))
    (rows / "home").mkdir()
    assert softvq("cluster", "z.npy", "-k", "2", "--assignments=~/a.npy").code == 0
    assert (rows / "home" / "a.npy").is_file()
    assert not (rows / "~").exists()


def test_a_symbolic_link_is_written_through(softvq, rows):
    (rows / "there").mkdir()
    os.symlink(rows / "there" / "a.npy", rows / "a.npy")
    for _ in range(2):
        assert softvq("cluster", "z.npy", "-k", "2", "--assignments", "a.npy", "--overwrite").code == 0
        assert (rows / "a.npy").is_symlink()
        assert len(np.load(rows / "there" / "a.npy")) == 30
    assert [path.name for path in (rows / "there").iterdir()] == ["a.npy"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no devices")
def test_a_device_stays_one(softvq, rows):
    os.mkfifo(rows / "pipe")
    reader = os.open(rows / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(rows / "pipe") as file:
        file.write(b"all of it")
    assert os.read(reader, 100) == b"all of it"
    os.close(reader)
    assert softvq("cluster", "z.npy", "-k", "2", "--assignments", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
