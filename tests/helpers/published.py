"""Tiny versions of the published data sets, and a server for them."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import pickle
import tarfile

import numpy as np
import scipy.io

from tests.helpers.images import pixels


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
    """The files on the server: name → bytes."""
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


class Mirror(http.server.ThreadingHTTPServer):
    """Serves files by name; ``cut`` is the number of bytes that it sends before it closes the connection."""

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
