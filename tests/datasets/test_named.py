"""The named data sets: digits, and small files in the published layouts."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.config import DataConfig
from softvq_cli.datasets import data_folder, describe, load, named, names
from softvq_cli.errors import InputError, SoftVQError, UsageError
from tests.helpers import PUBLISHED, downloads, pixels, write_folder


def get(name: str, split: str, data_dir: Path) -> object:
    return load(DataConfig(data=name, data_dir=str(data_dir)), split)  # type: ignore[arg-type]


def test_digits_are_scikit_learns_scaled_to_bytes() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = load(DataConfig(), "all")
    assert data.name == "digits" and data.images.shape == (1797, 8, 8, 1) and data.images.dtype == np.uint8
    assert np.abs(data.images.reshape(1797, 64) / 255 - images / 16).max() <= 0.5 / 255
    assert np.array_equal(data.labels, labels) and data.class_names == tuple("0123456789")


def test_digits_are_divided_by_seed_and_stratified() -> None:
    splits = [load(DataConfig(split_seed=seed), split) for seed in (0, 0, 1) for split in ("train", "test")]
    assert [len(part) for part in splits[:2]] == [1438, 359]
    assert splits[1].fingerprint == splits[3].fingerprint != splits[5].fingerprint
    share = np.bincount(splits[1].labels) / np.bincount(load(DataConfig(), "all").labels)
    assert np.abs(share - 0.2).max() < 0.005


@pytest.mark.parametrize("name, seed", [("mnist", 0), ("fashion-mnist", 7)])
def test_idx_files_give_images_and_labels(data_dir: Path, name: str, seed: int) -> None:
    train, test, both = (get(name, split, data_dir) for split in ("train", "test", "all"))
    assert np.array_equal(train.images[..., 0], pixels(seed, (8, 28, 28)))
    assert np.array_equal(test.images[..., 0], pixels(seed + 1, (4, 28, 28)))
    assert both.labels.tolist() == [*range(8), *range(4)] and both.labels.dtype == np.int64
    assert len(both.class_names) == 10 and both.image_shape == (28, 28, 1)


def test_svhn_calls_the_digit_ten_zero(data_dir: Path) -> None:
    train, test = (get("svhn", split, data_dir) for split in ("train", "test"))
    assert train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2] and len(test) == 5
    assert np.array_equal(train.images, np.moveaxis(pixels(12, (32, 32, 3, 12)), 3, 0))


def test_cifar_batches_are_joined_in_order(data_dir: Path) -> None:
    train, test = (get("cifar10", split, data_dir) for split in ("train", "test"))
    assert train.labels.tolist() == [label for seed in range(5) for label in (seed, 1, 2)]
    expected = pixels(3, (3, 3072)).reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(train.images[9:12], expected) and test.images.shape == (3, 32, 32, 3)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "svhn", "cifar10"])
def test_our_arrays_are_torchvisions(
    data_dir: Path, name: str, mirror: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[f"data_batch_{i}", None] for i in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": None})
    theirs = {
        "mnist": lambda: datasets.MNIST(data_dir, train=False),
        "fashion-mnist": lambda: datasets.FashionMNIST(data_dir, train=False),
        "svhn": lambda: datasets.SVHN(data_dir, split="test"),
        "cifar10": lambda: datasets.CIFAR10(data_dir, train=False),
    }[name]()
    pairs = [theirs[row] for row in range(len(theirs))]
    ours = get(name, "test", data_dir)
    assert np.array_equal(ours.images, np.stack([np.asarray(image).reshape(ours.image_shape) for image, _ in pairs]))
    assert ours.labels.tolist() == [int(label) for _, label in pairs]


def test_the_table_is_torchvisions() -> None:
    from torchvision import datasets

    for name, theirs in (("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)):
        assert {f"{file}.gz" for file in named.NAMED[name].files} == {file for file, _ in theirs.resources}
        assert named.NAMED[name].folder == f"{theirs.__name__}/raw"
    assert named.NAMED["svhn"].files == {
        file: value for _, file, value in map(datasets.SVHN.split_list.get, ("train", "test"))
    }
    cifar = datasets.CIFAR10
    batches = dict([*cifar.train_list, *cifar.test_list, [cifar.meta["filename"], cifar.meta["md5"]]])
    assert named.NAMED["cifar10"].files == batches
    assert named.NAMED["cifar10"].folder == cifar.base_folder
    assert named.NAMED["fashion-mnist"].class_names == tuple(datasets.FashionMNIST.classes)


DAMAGE = {
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "one bit": lambda data: data[:900] + bytes([data[900] ^ 4]) + data[901:] if len(data) > 900 else data[:-1],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("name, file", [(name, file) for name in PUBLISHED for file in PUBLISHED[name]])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_with_what_to_do(data_dir: Path, name: str, file: str, damage: str) -> None:
    path = data_dir / named.NAMED[name].folder / file
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert (describe(name, data_dir).intact, describe(name, data_dir).problem) == (False, f"{file} is damaged")
    if file != "batches.meta":  # not needed for loading
        with pytest.raises(InputError, match=file):
            get(name, "all", data_dir)


def test_a_batch_with_another_checksum_is_never_unpickled(data_dir: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "sprung",)

    (data_dir / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="test_batch"):
        get("cifar10", "test", data_dir)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_that_are_packed_again_are_known_by_their_content(data_dir: Path, name: str) -> None:
    expected, folder = get(name, "all", data_dir).fingerprint, data_dir / named.NAMED[name].folder
    for file, content in PUBLISHED[name].items():
        (folder / file).unlink()
        (folder / f"{file}.gz").write_bytes(gzip.compress(content, 1, mtime=7))
    assert get(name, "all", data_dir).fingerprint == expected and describe(name, data_dir).intact is True
    path = folder / "t10k-images-idx3-ubyte.gz"
    other = PUBLISHED["mnist" if name == "fashion-mnist" else "fashion-mnist"][path.stem]
    for content in (gzip.compress(other), path.read_bytes()[:-3], b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz"):
            get(name, "test", data_dir)
        assert describe(name, data_dir).intact is False


def test_an_own_file_in_the_place_of_svhn_is_told_how_to_be_used(data_dir: Path) -> None:
    path = data_dir / "test_32x32.mat"
    path.write_bytes((data_dir / "train_32x32.mat").read_bytes())
    with pytest.raises(InputError, match=rf"data {path}"):
        get("svhn", "test", data_dir)
    assert len(load(DataConfig(data=str(path)), "all")) == 12


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["the data folder itself", "Debian's folder"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_files_are_found_without_torchvisions_folder(
    data_dir: Path, tmp_path: Path, name: str, place: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "_SYSTEM_DATA", tmp_path / "system")
    expected = get(name, "all", data_dir)
    folder = tmp_path / "flat" if place == "the data folder itself" else tmp_path / "system" / name
    write_folder(folder, PUBLISHED[name] if not packed or name == "cifar10" else downloads(name))
    data = get(name, "all", tmp_path / "flat")
    assert np.array_equal(data.images, expected.images) and describe(name, tmp_path / "flat").path == folder
    other = {"mnist": "fashion-mnist", "fashion-mnist": "mnist", "cifar10": "svhn"}[name]
    assert not describe(other, tmp_path / "flat").complete


def test_describe_tells_present_complete_and_intact(data_dir: Path, tmp_path: Path) -> None:
    whole = describe("mnist", data_dir)
    assert (whole.present, whole.complete, whole.intact, whole.problem) == (True, True, True, "")
    assert whole.path == data_dir / "MNIST" / "raw" and whole.size == sum(map(len, PUBLISHED["mnist"].values()))
    (data_dir / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    part = describe("mnist", data_dir)
    assert (part.present, part.complete, part.intact) == (True, False, None)
    assert part.problem == "train-labels-idx1-ubyte is missing"
    none = describe("mnist", tmp_path / "nowhere")
    assert (none.present, none.complete, none.intact, none.size) == (False, False, None, 0)
    assert describe("digits").intact is True
    assert not (tmp_path / "nowhere").exists()


def test_the_data_folder_is_the_option_then_the_variable_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOFTVQ_DATA", str(tmp_path / "variable"))
    assert data_folder(str(tmp_path / "option")) == tmp_path / "option"
    assert data_folder(None) == tmp_path / "variable"
    monkeypatch.setenv("SOFTVQ_DATA", "")
    monkeypatch.setenv("SOFTVQ_CACHE", str(tmp_path / "cache"))
    assert data_folder(None) == tmp_path / "cache" / "data"
    monkeypatch.delenv("SOFTVQ_CACHE")
    assert data_folder(None).name == "data" and "softvq" in str(data_folder(None))


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="'fashion-mnist'"):
        load(DataConfig(data="fasion-mnist"), "train")
    with pytest.raises(UsageError, match="'flowers'"):
        describe("flowers")
    assert names() == ("digits", "mnist", "fashion-mnist", "svhn", "cifar10")


LEADS_NOWHERE = ["./flowers", "flowers.zip", "nowhere/flowers", "a\0b/c", "~nobody-here/x"]
ODD_NAMES = ["flowers", "", " ", "a\0b", "x" * 5000]


@pytest.mark.parametrize(
    "name, kind", [*((path, InputError) for path in LEADS_NOWHERE), *((name, UsageError) for name in ODD_NAMES)]
)
def test_what_is_no_data_set_is_refused(name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        load(DataConfig(data=name), "train")


@pytest.mark.parametrize("folder", ["a\0b", "~nobody-here/data"])
def test_odd_data_folders_are_wrong_usage(folder: str) -> None:
    with pytest.raises(UsageError, match="data_dir"):
        load(DataConfig(data="mnist", data_dir=folder), "train")


def test_an_unknown_split_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="'test'"):
        load(DataConfig(), "tets")  # type: ignore[arg-type]


def test_a_file_in_place_of_the_data_folder_is_one_line(tmp_path: Path, published: object) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(SoftVQError, match=str(tmp_path / "data")):
        get("mnist", "train", tmp_path / "data")
