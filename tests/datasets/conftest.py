"""Tiny versions of the published data sets, with their own checksums put into the tables."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from softvq_cli.datasets.named import NAMED
from tests.datasets.samples import pixels


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def idx_files(seed: int) -> dict[str, bytes]:
    """Eight training and four test images of 28x28."""
    return {
        "train-images-idx3-ubyte": idx(pixels(seed, (8, 28, 28))),
        "train-labels-idx1-ubyte": idx(np.arange(8)),
        "t10k-images-idx3-ubyte": idx(pixels(seed + 1, (4, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(np.arange(4)),
    }


def svhn_files() -> dict[str, bytes]:
    """The published layout: X is 32x32x3xN, y is Nx1 with 10 for the digit 0."""
    files = {}
    for name, count in (("train_32x32.mat", 12), ("test_32x32.mat", 5)):
        file = io.BytesIO()
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        scipy.io.savemat(file, {"X": pixels(count, (32, 32, 3, count)), "y": labels})
        files[name] = file.getvalue()
    return files


def cifar_files() -> dict[str, bytes]:
    """Batches of three images."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {
        name: pickle.dumps({"data": pixels(seed, (3, 3072)), "labels": [seed, 1, 2]}) for seed, name in enumerate(names)
    }
    return files | {"batches.meta": pickle.dumps({"label_names": ["airplane"]})}


PUBLISHED = {"mnist": idx_files(0), "fashion-mnist": idx_files(7), "svhn": svhn_files(), "cifar10": cifar_files()}


def downloads(name: str) -> dict[str, bytes]:
    """What the server has: file name → bytes."""
    files = PUBLISHED[name]
    if name == "svhn":
        return files
    if name != "cifar10":
        return {f"{file}.gz": gzip.compress(data, mtime=0) for file, data in files.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return {"cifar-10-python.tar.gz": gzip.compress(packed.getvalue(), mtime=0)}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """The tiny files are the published ones, as far as the table of checksums is concerned."""
    for name, files in PUBLISHED.items():
        own = {file: None if name == "fashion-mnist" else md5(data) for file, data in files.items()}
        packed = None
        if name in ("mnist", "fashion-mnist"):
            packed = {file.removesuffix(".gz"): md5(data) for file, data in downloads(name).items()}
        monkeypatch.setitem(NAMED, name, dataclasses.replace(NAMED[name], files=own, packed=packed))
    return PUBLISHED


@pytest.fixture
def data_dir(published: dict[str, dict[str, bytes]], tmp_path: Path) -> Path:
    """A data folder in which every data set lies complete."""
    for name, files in published.items():
        folder = tmp_path / "data" / NAMED[name].folder
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    return tmp_path / "data"


class Mirror(http.server.ThreadingHTTPServer):
    """Serves files by name; ``cut`` is how many bytes it sends of each before it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        data = self.server.files.get(name)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(published: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server that has all the files, and torchvision's tables pointing at it."""
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
