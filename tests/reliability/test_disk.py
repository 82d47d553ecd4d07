"""Disks that are full or fail: the old checkpoint or the new one, one line of error, no incomplete files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from softvq_cli import files
from softvq_cli.errors import SoftVQError
from softvq_cli.training import archive, run_directory
from tests.helpers import Zygote, softvq, state, step_of, temporaries, tiny

TOO_LARGE, FULL, READ_ONLY = map(os.strerror, (errno.EFBIG, errno.ENOSPC, errno.EROFS))


# ---- writing fails after any number of bytes


class FailingFile:
    """A file on a disk with room for ``room`` more bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")[: self._room]
        self._room -= len(data)
        written: int = self._file.write(data)
        if not self._room:
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Limit the size of the next file that is written atomically."""

    def limit(size: int) -> None:
        monkeypatch.setattr(files, "open", lambda *args: FailingFile(open(*args), size), raising=False)  # noqa: SIM115

    return limit


def test_a_write_that_fails_at_any_byte_leaves_the_old_file(room: Any, tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    old, new = {"step": 1, "weights": torch.zeros(3)}, {"step": 2, "weights": torch.ones(3)}
    archive.write(path, old)
    before = path.read_bytes()
    for offset in range(len(before)):
        room(offset)
        with pytest.raises(SoftVQError, match=f"{path}: {FULL}"):
            archive.write(path, new)
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == ["ckpt.pt"]
    room(1 << 20)
    archive.write(path, new)
    assert archive.read(path)[0]["step"] == 2


def test_a_line_of_the_log_that_does_not_fit_is_not_there_in_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_directory.append_metrics(tmp_path, {"step": 1, "loss": 0.5})
    before = (tmp_path / run_directory.METRICS).read_bytes()
    real = Path.open
    for size in range(1, 30):

        def failing(path: Path, *args: Any, size: int = size, **more: Any) -> Any:
            return FailingFile(real(path, *args, **more), size)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", failing)
            with pytest.raises(SoftVQError, match=FULL):
                run_directory.append_metrics(tmp_path, {"step": 2, "loss": 0.123456789012345})
        assert (tmp_path / run_directory.METRICS).read_bytes() == before


# ---- a limit on the size of files, set by the system


@pytest.fixture(scope="module")
def begun(zygote: Zygote, npz: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with a run that was killed, and the words that started it."""
    words = ["train", "--quiet", "--out", "run", *tiny(npz, iterations=4, log_every=2, checkpoint_every=1)]
    for moment in range(10, 80, 3):  # how many files come before the checkpoint depends on what the cache has
        folder = tmp_path_factory.mktemp("begun")
        assert zygote.run(*words, cwd=folder, die_at=moment).code < 0
        if (folder / "run/ckpt.pt").exists():
            break
    assert 1 <= step_of(folder / "run") < 4
    return folder, words


@pytest.fixture(scope="module")
def finished(zygote: Zygote, begun: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return zygote.whole(begun[1], tmp_path_factory.mktemp("finished") / "whole")


@pytest.mark.parametrize("offsets", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_a_limit_at_any_offset(
    offsets: int, zygote: Zygote, begun: tuple[Path, list[str]], finished: dict[str, Any], tmp_path: Path
) -> None:
    source, words = begun
    size = (source / "run" / "ckpt.pt").stat().st_size
    for number in range(offsets):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        step = step_of(folder / "run")
        ended = zygote.run(*words, "--resume", cwd=folder, FSIZE=300 + (size - 300) * number // offsets)
        ended.refused(1, "run/", TOO_LARGE)
        assert step_of(folder / "run") == step
        assert not temporaries(folder)
        zygote.run(*words, "--resume", cwd=folder).done()
        assert state(folder / "run") == finished
        shutil.rmtree(folder)


@pytest.mark.parametrize("limit", [0, 300, 20_000])
def test_a_new_run_without_room_says_so_and_can_be_begun_again(
    limit: int, zygote: Zygote, begun: tuple[Path, list[str]], finished: dict[str, Any], tmp_path: Path
) -> None:
    ended = zygote.run(*begun[1], cwd=tmp_path, FSIZE=limit)
    assert ended.code == 1
    if limit:  # with none there is no room for the message either
        ended.refused(1, "run/", TOO_LARGE)
    assert not temporaries(tmp_path)
    zygote.run(*begun[1], "--resume", cwd=tmp_path).done()
    assert state(tmp_path / "run") == finished


EMBED = ["embed", "run", "--split", "all", "-o", "z.npy", "--quiet"]
EXPORT = ["export", "run", "--safetensors", "-o", "m.safetensors", "--quiet"]


@pytest.mark.parametrize(("command", "limits"), [(EMBED, [350, 450, 700]), (EXPORT, [350, 2000, 9000])])
def test_embeddings_and_exports_without_room_leave_what_was_there(
    command: list[str], limits: list[int], zygote: Zygote, npz: Path, tmp_path: Path
) -> None:
    zygote.run("train", "--out", "run", *tiny(npz, iterations=1), cwd=tmp_path).done()
    zygote.run(*command, cwd=tmp_path).done()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for limit in limits:
        ended = zygote.run(*command, "--overwrite", cwd=tmp_path, FSIZE=limit)
        ended.refused(1, TOO_LARGE)
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


# ---- real file systems


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory; the test is skipped where mounting is not permitted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


needs_mount = pytest.mark.skipif(shutil.which("mount") is None or os.name != "posix", reason="needs mount")


@needs_mount
def test_a_disk_that_fills_up(
    zygote: Zygote, begun: tuple[Path, list[str]], finished: dict[str, Any], tmp_path: Path
) -> None:
    source, words = begun
    size = (source / "run" / "ckpt.pt").stat().st_size
    with mounted(tmp_path / "disk", f"size={3 * size}") as disk:
        shutil.copytree(source / "run", disk / "run")
        step = step_of(disk / "run")
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        zygote.run(*words, "--resume", cwd=disk).refused(1, "run/", FULL)
        assert step_of(disk / "run") == step
        assert not temporaries(disk)
        filler.unlink()
        zygote.run(*words, "--resume", cwd=disk).done()
        assert state(disk / "run") == finished


@needs_mount
def test_a_disk_that_is_read_only(zygote: Zygote, begun: tuple[Path, list[str]], tmp_path: Path) -> None:
    source, words = begun
    with mounted(tmp_path / "disk", "size=1m") as disk:
        shutil.copytree(source / "run", disk / "run")
        step = step_of(disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for more in (["--resume"], ["--overwrite"], ["--out", "new"]):
            zygote.run(*words, *more, cwd=disk).refused(1, READ_ONLY)
        assert zygote.run("info", "run/ckpt.pt", "--json", "-q", cwd=disk).document["step"] == step
        for command in (["embed", "run", "-o", "z.npy"], ["export", "run", "--safetensors"]):
            zygote.run(*command, "--quiet", cwd=disk).refused(1, READ_ONLY)
        assert step_of(disk / "run") == step


def test_a_file_where_the_folder_should_be(npz: Path, tmp_path: Path, small_networks: None) -> None:
    (tmp_path / "file").write_text("mine")
    words = ["train", *tiny(npz, iterations=1), "--out", tmp_path / "file" / "run"]
    softvq(*words).refused(1, "file/run")
    softvq(*words, "--resume").refused(1, "file/run")
    assert (tmp_path / "file").read_text() == "mine"


# ---- files left by SIGKILL


def test_resuming_removes_what_a_killed_run_was_writing_and_nothing_else(
    npz: Path, tmp_path: Path, small_networks: None
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    left = [".ckpt.pt.k3f9_x2a.tmp", ".metrics.jsonl.abcd1234.tmp", ".config.json.abcd1234.tmp"]
    kept = [".z.npy.abcd1234.tmp", "ckpt.pt.tmp", ".ckpt.pt.tmp~", "mine.tmp"]
    for name in left + kept:
        (run / name).write_bytes(b"half")
    softvq("train", *tiny(npz, iterations=1), "--out", run, "--resume", "-q").done()
    assert {path.name for path in run.iterdir()} == {*kept, ".lock", "ckpt.pt", "config.json", "metrics.jsonl"}
