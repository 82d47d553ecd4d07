"""idx files, MNIST's format, by their path."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.errors import InputError
from tests.helpers import PUBLISHED, pixels, read, write_folder
from tests.helpers.published import idx

MNIST = PUBLISHED["mnist"]
PACKED = {f"{name}.gz": gzip.compress(data) for name, data in MNIST.items()}
DOTTED = {name.replace("-idx", ".idx"): data for name, data in MNIST.items()}
DIGITS = idx(pixels(9, (3, 4, 4)))
EMNIST = {
    f"emnist-{kind}-{name.replace('t10k', 'test')}.gz": gzip.compress(
        data if kind == "letters" else idx(pixels(9, (3, 4, 4)))
    )
    for kind in ("letters", "digits")
    for name, data in MNIST.items()
}
PLACES = {
    "a folder": (MNIST, ""),
    "a folder of .gz, with a README": (PACKED | {"README.md": b"hello"}, ""),
    "a folder of both": (MNIST | PACKED, ""),
    "names with dots": (DOTTED, ""),
    "a file": (MNIST, "train-images-idx3-ubyte"),
    "the other split's file": (PACKED, "t10k-images-idx3-ubyte.gz"),
    "one of several sets": (EMNIST, "emnist-letters-test-images-idx3-ubyte.gz"),
}


@pytest.mark.parametrize("place", PLACES)
def test_idx_files_give_both_splits(tmp_path: Path, place: str) -> None:
    files, name = PLACES[place]
    path = write_folder(tmp_path / "data", files) / name
    train, test = read(path, "train"), read(path, "test")
    assert np.array_equal(train.images[..., 0], pixels(0, (8, 28, 28))) and train.labels.tolist() == [*range(8)]
    assert np.array_equal(test.images[..., 0], pixels(1, (4, 28, 28))) and test.labels.tolist() == [*range(4)]


def test_one_split_alone_is_the_whole(tmp_path: Path) -> None:
    write_folder(tmp_path, {name: data for name, data in MNIST.items() if name.startswith("train")})
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte"):
        data = read(path)
        assert data.drawn and len(data) == 8 and data.labels.tolist() == [*range(8)]


@pytest.mark.parametrize("kind, code", [(">i2", 11), (">i4", 12), (">f4", 13), (">f8", 14)])
def test_numbers_of_every_type(tmp_path: Path, kind: str, code: int) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (5, 6, 4)).astype(kind)
    head = bytes([0, 0, code, 3]) + np.array(values.shape, ">u4").tobytes()
    write_folder(tmp_path, {"scans.idx3": head + values.tobytes()})
    data = read(tmp_path / "scans.idx3", pixel_range="0,1000")
    assert np.array_equal(data.images[..., 0], np.rint(values.astype(float) / 1000 * 255)) and data.labels is None


REFUSED = {
    "several sets": (EMNIST, "", "emnist"),
    "labels alone": ({"a-labels-idx1-ubyte": idx(np.arange(3))}, "a-labels-idx1-ubyte", "labels"),
    "cut": ({"a-images-idx3-ubyte": MNIST["t10k-images-idx3-ubyte"][:-1]}, "", "a-images"),
    "too long": ({"a-images-idx3-ubyte": MNIST["t10k-images-idx3-ubyte"] + b"0"}, "", "a-images"),
    "a cut .gz": ({"a.idx3.gz": gzip.compress(MNIST["t10k-images-idx3-ubyte"])[:-9]}, "a.idx3.gz", "a.idx3.gz"),
    "another file": ({"a.idx3": b"P5 3 4 255"}, "a.idx3", "a.idx3"),
    "nothing": ({"a.idx3": b""}, "a.idx3", "a.idx3"),
    "a bomb": (
        {"a.idx3.gz": gzip.compress(bytes([0, 0, 8, 3]) + np.array([9999, 9999, 9999], ">u4").tobytes())},
        "a.idx3.gz",
        "a.idx3.gz",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_named(tmp_path: Path, case: str) -> None:
    files, name, word = REFUSED[case]
    with pytest.raises(InputError, match=word):
        read(write_folder(tmp_path / "data", files) / name)
