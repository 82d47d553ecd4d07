"""The named data sets: digits, small files in the published layouts, and the real files if available."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.config import DataConfig
from softvq_cli.datasets import data_folder, describe, load, named, names
from softvq_cli.errors import InputError, UsageError
from tests.helpers import PUBLISHED, downloads, encoded, hub_table, pixels, read, softvq, write_folder


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


# ---- SVHN from files to map, in both layouts that are handed on: .mat files and Hugging Face's tables

LABELS = {"train": (np.arange(40) % 10).tolist(), "test": (np.arange(20) % 10).tolist(), "extra": [3, 1, 4]}


def images(split: str) -> np.ndarray:
    return pixels(len(split), (len(LABELS[split]), 32, 32, 3))


def hugging_face(folder: Path) -> Path:
    """``cropped_digits`` as on Hugging Face: one file per split."""
    for split, labels in LABELS.items():
        files = [encoded(image) for image in images(split)]
        hub_table(folder / f"{split}-00000-of-00001.parquet", files, labels, [*"0123456789"])
    return folder


def test_hugging_faces_tables_give_the_published_splits(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path / "cropped_digits")
    for split in ("train", "test"):
        data = read(folder, split)
        assert np.array_equal(data.images, images(split)) and data.labels.tolist() == LABELS[split]
        assert data.class_names == tuple("0123456789") and any("extra" in note for note in data.notes)


@pytest.mark.parametrize("layout", ["mat", "tables"])
def test_from_data_to_map(tmp_path: Path, layout: str, published: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if layout == "mat":
        for name, content in PUBLISHED["svhn"].items():
            (tmp_path / name).write_bytes(content)
        data = ["--data", "svhn", "--data-dir", tmp_path]
    else:
        data = ["--data", hugging_face(tmp_path / "cropped_digits")]
    quick = ["--iterations", "2", "--batch-size", "4", "--latent-dim", "8", "--device", "cpu"]
    checkpoint = softvq("train", *data, "--K", "32", *quick).done().out.strip()
    config = json.loads((Path(checkpoint).parent / "config.json").read_text())
    assert (config["model"]["arch"], config["model"]["K"], config["model"]["bottleneck"]) == ("cnn", 32, "soft-vq")
    table = softvq("embed", checkpoint, "--split", "train", "-o", "e.npy").done().out.strip()
    labels = np.load(table.replace(".npy", ".labels.npy"))
    expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2] if layout == "mat" else LABELS["train"]
    assert np.load(table).shape == (len(expected), 8) and labels.tolist() == expected
    softvq("tsne", table, "--perplexity", "2", "-o", "map.png").done()
    assert (tmp_path / "map.png").stat().st_size > 1000


# ---- the real files, where they are on this machine


def test_mnist_is_the_published_one(shared_data: Path) -> None:
    config = DataConfig(data="mnist", data_dir=str(shared_data))
    train, test = load(config, "train"), load(config, "test")
    assert train.images.shape == (60_000, 28, 28, 1) and test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert round(float(train.images.mean()) / 255, 4) == 0.1307  # the mean that everybody normalises with
    assert test.fingerprint == "14ce741f169d447672cc038e81dc4341c9e6b991fbfbdfb388695b4a4fab40a6"
    status = describe("mnist", shared_data)
    assert status.complete and status.intact


@pytest.mark.slow
def test_cifar10_as_jpeg_in_a_zip(shared_data: Path) -> None:
    config = DataConfig(data=str(shared_data / "cifar10-jpeg.zip"))
    train, test = load(config, "train"), load(config, "test")
    assert train.name == "cifar10-jpeg" and train.class_names[:3] == ("airplane", "automobile", "bird")
    assert train.images.shape == (50_000, 32, 32, 3) and np.bincount(train.labels).tolist() == [5000] * 10
    assert test.images.shape == (10_000, 32, 32, 3) and np.bincount(test.labels).tolist() == [1000] * 10
    mean = train.images.mean(axis=(0, 1, 2)) / 255
    assert np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.005  # CIFAR-10's own, JPEG or not
