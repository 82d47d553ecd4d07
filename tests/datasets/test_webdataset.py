"""WebDataset: samples by base name in one or several .tar files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.webdataset import expand
from softvq_cli.errors import InputError
from tests.helpers import encoded, make_tar, notes, pixels, read, unusable

LABELS = [number % 3 for number in range(12)]


def samples(numbers: range, kind: str = "cls", image: str = "png") -> dict[str, bytes]:
    files = {}
    for number in numbers:
        label = LABELS[number]
        text = {"cls": str(label), "txt": "abc"[label], "json": json.dumps({"label": label, "name": "xyz"[label]})}[
            kind
        ]
        files[f"{number:04}.{image}"] = encoded(pixels(number))
        files[f"{number:04}.{kind}"] = text.encode()
    return files


def shards(folder: Path, kind: str = "cls") -> Path:
    folder.mkdir()
    for name, numbers in (("train-000000", range(4)), ("train-000001", range(4, 8)), ("test-000000", range(8, 12))):
        make_tar(folder / f"{name}.tar", samples(numbers, kind))
    return folder


@pytest.mark.parametrize("kind, names", [("cls", "012"), ("txt", "abc"), ("json", "012")])
def test_one_tar(tmp_path: Path, kind: str, names: str) -> None:
    data = read(make_tar(tmp_path / "own.tar", samples(range(12), kind)))
    assert np.array_equal(data.images[..., 0], np.stack([pixels(number) for number in range(12)]))
    assert data.labels.tolist() == LABELS and data.class_names == tuple(names) and data.notes == ()


@pytest.mark.parametrize("suffix, mode", [(".tar", "w"), (".tar.gz", "w:gz")])
def test_a_packed_tar_gives_the_same(tmp_path: Path, suffix: str, mode: str) -> None:
    data = read(make_tar(tmp_path / f"own{suffix}", samples(range(12)), mode))
    assert data.labels.tolist() == LABELS and data.file_names[0] == "0000.png"


def test_a_folder_of_shards_has_its_splits_in_their_names(tmp_path: Path) -> None:
    folder = shards(tmp_path / "own")
    train, test = read(folder, "train"), read(folder, "test")
    assert np.array_equal(train.images[..., 0], np.stack([pixels(number) for number in range(8)]))
    assert test.labels.tolist() == LABELS[8:] and test.file_names[0] == "test-000000.tar/0008.png"


def test_a_pattern_of_shards(tmp_path: Path) -> None:
    folder = shards(tmp_path / "own")
    data = read(folder / "train-{000000..000001}.tar")
    assert data.name == "train" and len(data) == 8 and data.labels.tolist() == LABELS[:8]
    assert len(read(folder / "{train-000000,test-000000}.tar", "test")) == 4
    unusable(folder / "train-{000000..000002}.tar", "train-000002.tar")


def test_patterns() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    for pattern in ("{5..1}.tar", "{0..99999999}.tar"):
        with pytest.raises(InputError, match="100000"):
            expand(pattern)


def test_the_label_by_option(tmp_path: Path) -> None:
    files = samples(range(12), "json") | {f"{number:04}.cls": b"7" if number % 2 else b"8" for number in range(12)}
    path = make_tar(tmp_path / "own.tar", files)
    assert read(path).class_names == ("7", "8") and notes(read(path))[0].endswith(": json")
    assert read(path, label_column="name").class_names == ("x", "y", "z")
    unusable(path, "0000.json", "colour", "label_column", "label, name", label_column="colour")


ODD = {
    "two images": ({**samples(range(3)), "0001.jpg": b""}, "0001.jpg, 0001.png"),
    "no JSON": ({**samples(range(3), "json"), "0001.json": b"{"}, "0001.json"),
    "a list for a label": ({**samples(range(2), "json"), "0001.json": b'{"label": [1]}'}, "0001.json"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_samples_are_named(tmp_path: Path, case: str) -> None:
    files, words = ODD[case]
    unusable(make_tar(tmp_path / "own.tar", files), *words.split())


def test_a_sample_without_a_label_is_left_out(tmp_path: Path) -> None:
    data = read(make_tar(tmp_path / "own.tar", {**samples(range(3)), "0009.png": encoded(pixels(9))}))
    assert len(data) == 3 and "1 of 4" in data.notes[0] and "0009.png" in data.notes[0]
