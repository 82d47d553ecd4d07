"""Images in .npy and .npz files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.errors import InputError
from tests.helpers import pixels, read

IMAGES, LABELS = pixels(0, (10, 4, 5)), np.arange(10) % 2


class Trap:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y")])
def test_npz_with_labels(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "toy.npz", **dict(zip(names, (IMAGES, LABELS * 3 - 1), strict=True)))
    data = read(tmp_path / "toy.npz")
    assert data.name == "toy" and np.array_equal(data.images, IMAGES[..., None])
    assert np.array_equal(data.labels, LABELS) and data.labels.dtype == np.int64
    assert data.class_names == ("-1", "2") and data.file_names is None


def test_npz_as_keras_has_it_keeps_its_split(tmp_path: Path) -> None:
    colour = pixels(1, (6, 4, 4, 3))
    arrays = {"x_train": colour[:4], "x_test": colour[4:], "y_train": np.array([[0], [1], [2], [0]])}
    np.savez_compressed(tmp_path / "k.npz", **arrays, y_test=np.array([[2], [1]], np.uint8))
    train, test, both = (read(tmp_path / "k.npz", split) for split in ("train", "test", "all"))
    assert np.array_equal(train.images, colour[:4]) and np.array_equal(test.images, colour[4:])
    assert train.labels.tolist() == [0, 1, 2, 0] and test.labels.tolist() == [2, 1]
    assert both.labels.tolist() == [0, 1, 2, 0, 2, 1] and both.class_names == ("0", "1", "2")


def test_labels_may_be_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:3], labels=np.array(["dog", "cat", "dog"]))
    data = read(tmp_path / "a.npz")
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [1, 0, 1]


def test_npy_is_mapped_and_finds_its_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    assert read(tmp_path / "a.npy").labels is None
    np.save(tmp_path / "a.labels.npy", LABELS)
    data = read(tmp_path / "a.npy")
    assert isinstance(data.images, np.memmap) and not data.images.flags.writeable
    assert np.array_equal(data.images[..., 0], IMAGES) and np.array_equal(data.labels, LABELS)


def test_an_array_in_fortran_order_gives_the_same_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(IMAGES))
    np.savez(tmp_path / "b.npz", images=np.asfortranarray(IMAGES))
    np.save(tmp_path / "c.npy", IMAGES)
    assert len({read(tmp_path / name).fingerprint for name in ("a.npy", "b.npz", "c.npy")}) == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f8"])
def test_floats_in_the_unit_range_are_rounded_to_bytes(tmp_path: Path, kind: object) -> None:
    np.save(tmp_path / "a.npy", (IMAGES / 255).astype(kind))
    assert np.abs(read(tmp_path / "a.npy").images[..., 0].astype(int) - IMAGES).max() <= (kind is np.float16)


def test_true_and_false_are_white_and_black(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES > 99)
    assert np.array_equal(read(tmp_path / "a.npy").images[..., 0], np.where(IMAGES > 99, 255, 0))


def test_what_is_larger_than_memory_may_be_is_converted_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softvq_cli.datasets.arrays._IN_MEMORY", 100)
    monkeypatch.setattr("softvq_cli.datasets.splits._IN_MEMORY", 100)
    np.save(tmp_path / "a.npy", IMAGES / 255)
    whole, test = read(tmp_path / "a.npy"), read(tmp_path / "a.npy", "test", test_fraction=0.8)
    assert isinstance(whole.images, np.memmap) and isinstance(test.images, np.memmap)
    assert np.array_equal(whole.images[..., 0], IMAGES) and len(test) == 8
    assert all((image[..., 0] == IMAGES).all(axis=(1, 2)).any() for image in test.images)


NAN = np.full((2, 4, 4), 0.5)
NAN[1, 2, 2] = np.nan
BAD_IMAGES = {
    "a NaN": (NAN, "holds NaN"),
    "vectors": (IMAGES.reshape(10, 20), r"shape \(10, 20\)"),
    "four channels": (pixels(0, (10, 8, 8, 4)), r"shape \(10, 8, 8, 4\)"),
    "no rows": (IMAGES[:0], "holds no images"),
    "no pixels": (np.zeros((3, 0, 4), np.uint8), "holds no images"),
    "a number": (np.array(3, np.uint8), "shape"),
    "complex numbers": (np.zeros((2, 4, 4), complex), "complex128"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, case: str, suffix: str) -> None:
    array, message = BAD_IMAGES[case]
    path = tmp_path / f"a{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, images=array)
    with pytest.raises(InputError, match=message):
        read(path)


BAD_LABELS = {
    "too few": (LABELS[:9], r"10 images need \(10,\)"),
    "several a row": (np.ones((10, 3), int), "images need"),
    "fractions": (LABELS / 3, "whole numbers or text"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, case: str, suffix: str) -> None:
    labels, message = BAD_LABELS[case]
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", IMAGES)
        np.save(tmp_path / "a.labels.npy", labels)
    else:
        np.savez(tmp_path / "a.npz", images=IMAGES, labels=labels)
    with pytest.raises(InputError, match=message):
        read(tmp_path / f"a{suffix}")


BAD_KEYS = {
    "other names": ({"pictures": IMAGES}, "it holds pictures"),
    "nothing": ({}, "it holds nothing"),
    "labels by a name that is not known": (
        {"x_train": IMAGES, "x_test": IMAGES, "y_test": LABELS, "train_y2": LABELS},
        "y_test but no labels of x_train; call them so if they are one of train_y2",
    ),
    "other sizes in test": ({"x_train": IMAGES, "x_test": IMAGES[:, 1:]}, "x_train has images of"),
    "labels of the other split": (
        {"x_train": IMAGES, "x_test": IMAGES[:4], "y_train": LABELS[:4], "y_test": LABELS},
        "y_train has the shape",
    ),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_an_npz_with_other_contents_is_refused(tmp_path: Path, case: str) -> None:
    arrays, message = BAD_KEYS[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.npz")


def test_a_pickle_in_an_array_is_refused_and_never_runs(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=trap)
    np.savez(tmp_path / "c.npz", images=IMAGES[:1], labels=trap)
    np.save(tmp_path / "d.npy", IMAGES[:1])
    np.save(tmp_path / "d.labels.npy", trap, allow_pickle=True)
    (tmp_path / "e.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy", "e.npy"):
        with pytest.raises(InputError, match=r"Python objects|no \.npy"):
            read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


HEADERS = {
    "more than there is": "(1000000000000, 32, 32)",
    "numbers beyond 64 bits": f"({10**30}, 32, 32)",
    "a product that wraps round": f"({2**32}, {2**32}, 1)",
    "a negative length": "(-1, -100, 1)",
    "no tuple": "9",
    "code": "__import__('os').getpid()",
    "deep nesting": "(" * 200 + ")" * 200,
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path: Path, case: str) -> None:
    content = header(HEADERS[case]) + bytes(100)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path / name)


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = header("(1048576, 64, 64)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content + bytes(1000))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    position = data.index(b"PK\x01\x02")  # the directory says what the header says: 4 GiB less a byte
    data[position + 24 : position + 28] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match="unpacks to at least"):
        read(tmp_path / "a.npz")


def test_a_mostly_black_npz_is_no_bomb(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((2000, 64, 64), np.uint8))
    assert len(read(tmp_path / "a.npz")) == 2000


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_file_that_is_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, IMAGES) if suffix == ".npy" else np.savez_compressed(path, images=IMAGES)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            read(path)
