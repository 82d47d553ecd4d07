"""Downloads are complete or absent, verified, and done by one process at a time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import filelock
import pytest

from softvq_cli.config import DataConfig
from softvq_cli.datasets import describe, fetch, load
from softvq_cli.errors import SoftVQError
from softvq_cli.reporter import Reporter
from tests.helpers import PUBLISHED, Listener, Mirror

FORK = "fork" in multiprocessing.get_all_start_methods()


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".softvq.lock"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_data_set_is_fetched_by_load_and_then_left_alone(tmp_path: Path, mirror: Mirror, name: str) -> None:
    listener = Listener()
    config = DataConfig(data=name, data_dir=str(tmp_path))
    data = load(config, "test", reporter=listener)
    status = describe(name, tmp_path)
    assert status.complete and status.intact and len(data) > 0
    assert all(what.startswith("downloading ") and done == total for what, done, total in listener.told)
    assert sum(done for _, done, _ in listener.told) == sum(len(mirror.files[request]) for request in mirror.requests)
    requests = len(mirror.requests)
    assert load(config, "test").fingerprint == data.fingerprint and fetch(name, tmp_path) == status
    assert len(mirror.requests) == requests


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, mirror: Mirror, name: str, cut: int) -> None:
    mirror.cut = cut
    with pytest.raises(SoftVQError, match=str(tmp_path)) as error:
        fetch(name, tmp_path)
    assert "\n" not in str(error.value) and error.value.exit_code == 1
    assert everything_in(tmp_path) == set()
    mirror.cut = None
    assert fetch(name, tmp_path).intact


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_server_with_another_file_is_not_believed(tmp_path: Path, mirror: Mirror, name: str) -> None:
    for file in mirror.files:
        mirror.files[file] = b"<html>Please log in</html>"
    with pytest.raises(SoftVQError, match="MD5"):
        fetch(name, tmp_path)
    assert everything_in(tmp_path) == set()


def test_a_damaged_unpacked_file_is_unpacked_again_without_the_network(tmp_path: Path, mirror: Mirror) -> None:
    fetch("mnist", tmp_path)
    mirror.requests.clear()
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    assert fetch("mnist", tmp_path).intact and mirror.requests == []


def test_the_next_mirror_is_tried(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [f"{mirror.url}gone/", *MNIST.mirrors])
    assert fetch("mnist", tmp_path).intact
    assert mirror.requests[:2] == ["gone/train-images-idx3-ubyte.gz", "mnist/train-images-idx3-ubyte.gz"]


def test_without_network_the_error_says_where_the_files_go(tmp_path: Path, mirror: Mirror) -> None:
    from torchvision.datasets import SVHN

    SVHN.split_list["train"][0] = "http://127.0.0.1:9/train_32x32.mat"  # nobody listens there
    with pytest.raises(SoftVQError, match=str(tmp_path)) as error:
        load(DataConfig(data="svhn", data_dir=str(tmp_path)), "test")
    assert "train_32x32.mat and test_32x32.mat" in str(error.value)
    assert type(error.value) is SoftVQError and everything_in(tmp_path) == set()


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / ".test_32x32.mat.abc.tmp").write_bytes(b"half")
    fetch("svhn", tmp_path)
    assert everything_in(tmp_path) == {"test_32x32.mat", "train_32x32.mat"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "MNIST").write_text("in the way")
    with pytest.raises(SoftVQError, match="MNIST/raw"):
        fetch("mnist", tmp_path)


def test_whoever_waits_is_told_why(tmp_path: Path, mirror: Mirror) -> None:
    lock, notes = filelock.FileLock(tmp_path / ".softvq.lock"), []

    class Waiting(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)
            lock.release()

    with lock:
        assert fetch("svhn", tmp_path, Waiting()).intact
    assert len(notes) == 1 and str(tmp_path) in notes[0]


def _fetch(name: str, folder: Path, results: multiprocessing.Queue[object]) -> None:
    results.put(fetch(name, folder).intact)


@pytest.mark.skipif(not FORK, reason="the children must see the patched tables")
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_processes_that_fetch_at_once_share_one_download(tmp_path: Path, mirror: Mirror, name: str) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[object] = context.Queue()
    processes = [context.Process(target=_fetch, args=(name, tmp_path, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [True] * 4
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(mirror.requests) == len(set(mirror.requests))
