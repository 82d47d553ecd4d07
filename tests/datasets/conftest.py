"""Tiny versions of the published data sets, whose checksums are entered in the tables."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from softvq_cli.datasets.named import NAMED
from tests.helpers import PUBLISHED, Mirror, downloads, md5


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recently written files are read without a delay; the cache identifies small ones by their content."""
    monkeypatch.setattr("softvq_cli.datasets.cache._GRAIN_NS", 0)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """Enter the checksums of the tiny files as the published ones."""
    for name, files in PUBLISHED.items():
        checksums = {file: md5(data) for file, data in files.items()}
        monkeypatch.setitem(NAMED, name, dataclasses.replace(NAMED[name], files=checksums))
    return PUBLISHED


@pytest.fixture
def data_dir(published: dict[str, dict[str, bytes]], tmp_path: Path) -> Path:
    """A data folder with every data set complete."""
    for name, files in published.items():
        folder = tmp_path / "data" / NAMED[name].folder
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    return tmp_path / "data"


@pytest.fixture
def mirror(published: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server with all files, to which torchvision's tables point."""
    from torchvision import datasets

    server = Mirror()
    for name, base in (("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)):
        files = downloads(name)
        server.files |= {f"{name}/{file}": data for file, data in files.items()}
        monkeypatch.setattr(base, "mirrors", [f"{server.url}{name}/"])
        monkeypatch.setattr(base, "resources", [(file, md5(data)) for file, data in files.items()])
    for name in ("svhn", "cifar10"):
        server.files |= {f"{name}/{file}": data for file, data in downloads(name).items()}
    svhn = {
        file.split("_", maxsplit=1)[0]: [f"{server.url}svhn/{file}", file, md5(data)]
        for file, data in downloads("svhn").items()
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", svhn)
    archive = downloads("cifar10")[datasets.CIFAR10.filename]
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server.url}cifar10/{datasets.CIFAR10.filename}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
