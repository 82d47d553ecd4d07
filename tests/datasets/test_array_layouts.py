"""Arrays as people have them: names, axes, types and labels; what may be two things is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from softvq_cli.errors import InputError
from tests.helpers import pixels, read

IMAGES, LABELS = pixels(0, (10, 4, 5)), np.arange(10) % 2


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


NAMES = [
    ("images", "label"),
    ("images", "y"),
    ("images", "targets"),
    ("X", "y"),
    ("data", "target"),
    ("data", "targets"),
]
NAMES += [("arr_0", "arr_1"), ("data", "labels"), ("image", "label")]


@pytest.mark.parametrize("names", NAMES)
def test_images_and_labels_under_any_of_their_names(tmp_path: Path, names: tuple[str, str]) -> None:
    data = read(npz(tmp_path, **dict(zip(names, (IMAGES, LABELS), strict=True))))
    assert np.array_equal(data.images[..., 0], IMAGES) and np.array_equal(data.labels, LABELS) and data.notes == ()


DIVIDED = ["x_{}, y_{}", "X_{}, y_{}", "{}_images, {}_labels", "images_{}, labels_{}", "X{}, y{}", "{}_x, {}_y"]


@pytest.mark.parametrize("names", DIVIDED)
def test_splits_under_any_of_their_names(tmp_path: Path, names: str) -> None:
    x, y = names.split(", ")
    arrays = {x.format("train", "train"): IMAGES[:6], y.format("train", "train"): LABELS[:6]}
    arrays |= {x.format("test", "test"): IMAGES[6:], y.format("test", "test"): LABELS[6:]}
    path = npz(tmp_path, **arrays)
    train, test = read(path, "train"), read(path, "test")
    assert np.array_equal(train.images[..., 0], IMAGES[:6]) and np.array_equal(test.labels, LABELS[6:])


def test_medmnist(tmp_path: Path) -> None:
    arrays = {}
    for name, rows in (("train", slice(0, 5)), ("val", slice(5, 7)), ("test", slice(7, 10))):
        arrays |= {f"{name}_images": IMAGES[rows], f"{name}_labels": LABELS[rows, None].astype(np.uint8)}
    data = read(npz(tmp_path, **arrays), "test")
    assert np.array_equal(data.images[..., 0], IMAGES[7:]) and data.labels.tolist() == [1, 0, 1]
    assert data.notes == ("arrays of a.npz that are not used: val_images, val_labels",)


@pytest.mark.parametrize(
    "arrays, unused",
    [
        ({"images": IMAGES, "labels": LABELS, "more": LABELS}, "more"),
        ({"x_train": IMAGES, "x_test": IMAGES[:4], "labels": LABELS}, "labels"),
        ({"images": IMAGES, "x": IMAGES, "classes": LABELS}, "classes, x"),
    ],
)
def test_an_array_that_is_not_used_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], unused: str) -> None:
    assert read(npz(tmp_path, **arrays)).notes == (f"arrays of a.npz that are not used: {unused}",)


KINDS = {
    "whole-number floats": (LABELS.astype(np.float32), ("0", "1")),
    "one column": (LABELS[:, None], ("0", "1")),
    "one row": (LABELS[None], ("0", "1")),
    "one-hot": (np.eye(2)[LABELS], ("0", "1")),
    "bytes": (np.array([b"ant", b"bee"])[LABELS], ("ant", "bee")),
    "text": (np.array(["ant", "bee"])[LABELS], ("ant", "bee")),
    "true and false": (LABELS.astype(bool), ("False", "True")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind(tmp_path: Path, kind: str) -> None:
    labels, names = KINDS[kind]
    data = read(npz(tmp_path, images=IMAGES, labels=labels))
    assert np.array_equal(data.labels, LABELS) and data.labels.dtype == np.int64 and data.class_names == names


def test_one_hot_labels_are_said_to_be_so(tmp_path: Path) -> None:
    (note,) = read(npz(tmp_path, images=IMAGES, y=np.eye(2, dtype=np.uint8)[LABELS])).notes
    assert note.endswith("a.npz: y is one-hot: the place of the 1 is the label")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first(tmp_path: Path, channels: int) -> None:
    colour = pixels(1, (6, channels, 8, 9))
    data = read(npz(tmp_path, images=colour))
    assert np.array_equal(data.images, colour.transpose(0, 2, 3, 1))
    assert data.notes[0].endswith("images are taken as (N, C, H, W)")


UNCLEAR = {
    "one colour image or 64 grey ones": ((64, 64, 3), r"64 images of 64x3x1 \(64,3,1\) or one image of 64x64x3"),
    "three images or one with channels first": ((3, 3, 20), r"3 images of 3x20x1 \(3,20,1\) or one image of 3x20x3"),
    "channels at either end": ((6, 3, 9, 3), r"6 images of 3x9x3 .* or 6 images of 9x3x3"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_a_shape_that_may_be_two_things_is_refused_with_both(tmp_path: Path, case: str) -> None:
    shape, message = UNCLEAR[case]
    with pytest.raises(InputError, match=rf"which may be {message}.*say which with image_shape"):
        read(npz(tmp_path, images=pixels(0, shape)))


def test_image_shape_or_the_labels_decide(tmp_path: Path) -> None:
    array = pixels(0, (64, 64, 3))
    path = npz(tmp_path, images=array)
    assert np.array_equal(read(path, image_shape="64,64,3").images, array[None])
    assert np.array_equal(read(path, image_shape="64,3").images, array[..., None])
    assert read(npz(tmp_path, images=array, labels=np.arange(64) % 3)).image_shape == (64, 3, 1)
    first = pixels(0, (3, 9, 9))
    assert np.array_equal(read(npz(tmp_path, x=first), image_shape="3,9,9").images[0], first.transpose(1, 2, 0))


def test_rows_are_images_of_the_shape_that_is_given(tmp_path: Path) -> None:
    path = npz(tmp_path, X=IMAGES.reshape(10, 20), y=LABELS)
    assert np.array_equal(read(path, image_shape="4,5").images[..., 0], IMAGES)
    assert np.array_equal(read(path, image_shape="4,5,1").images[..., 0], IMAGES)
    colour = pixels(1, (10, 3, 8, 9))
    path = npz(tmp_path, X=colour.reshape(10, -1), y=LABELS)
    assert np.array_equal(read(path, image_shape="3,8,9").images, colour.transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match=r"shape \(10, 216\), which does not fit image_shape 8,8,3"):
        read(path, image_shape="8,8,3")


@pytest.mark.parametrize("columns, hint", [(784, "28,28,1"), (3072, "32,32,3, or 3,32,32"), (20, "say which")])
def test_rows_without_a_shape_are_refused_with_what_they_may_be(tmp_path: Path, columns: int, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        read(npz(tmp_path, X=np.zeros((4, columns), np.uint8)))


def test_a_mat_in_the_layout_of_svhn(tmp_path: Path) -> None:
    images = pixels(0, (32, 32, 3, 12))
    scipy.io.savemat(tmp_path / "own.mat", {"X": images, "y": (np.arange(12) % 10 + 1)[:, None]})
    data = read(tmp_path / "own.mat")
    assert np.array_equal(data.images, images.transpose(3, 0, 1, 2))
    assert data.class_names == tuple("0123456789") and data.labels.tolist() == [*range(1, 10), 0, 1, 2]
    assert "label 10 is read as the digit 0, as in SVHN" in data.notes


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"no matrix"])
def test_a_damaged_mat_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat") as error:
        read(tmp_path / "a.mat")
    assert "\n" not in str(error.value)
