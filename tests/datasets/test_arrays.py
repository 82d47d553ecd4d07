"""Arrays in .npy, .npz, .mat and idx files: names, axes, types and labels; ambiguous files are refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from softvq_cli.datasets import matlab
from softvq_cli.datasets.dataset import Rows
from softvq_cli.errors import InputError
from tests.helpers import PUBLISHED, mutations, pixels, read, unusable, write_folder
from tests.helpers.published import idx

IMAGES, LABELS = pixels(0, (10, 4, 5)), np.arange(10) % 2
COLOUR = pixels(1, (6, 3, 8, 9))


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def saved(folder: Path, suffix: str, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """The same arrays as .npy files or as a .npz."""
    if suffix == ".npz":
        return npz(folder, images=images, **({} if labels is None else {"labels": labels}))
    np.save(folder / "a.npy", images)
    if labels is not None:
        np.save(folder / "a.labels.npy", labels)
    return folder / "a.npy"


# ---- names

NAMES = ["images labels", "images label", "images y", "images targets", "X y", "x y", "data target", "data targets"]
NAMES += ["arr_0 arr_1", "data labels", "image label"]


@pytest.mark.parametrize("names", NAMES)
def test_images_and_labels_under_any_of_their_names(tmp_path: Path, names: str) -> None:
    data = read(npz(tmp_path, **dict(zip(names.split(), (IMAGES, LABELS * 3 + 2), strict=True))))
    assert np.array_equal(data.images[..., 0], IMAGES) and np.array_equal(data.labels, LABELS) and data.notes == ()
    assert (data.name, data.class_names, data.file_names) == ("a", ("2", "5"), None) and data.labels.dtype == np.int64


@pytest.mark.parametrize(
    "names", ["x_{}, y_{}", "X_{}, y_{}", "{}_images, {}_labels", "images_{}, labels_{}", "X{}, y{}", "{}_x, {}_y"]
)
def test_splits_under_any_of_their_names(tmp_path: Path, names: str) -> None:
    x, y = names.split(", ")
    arrays = {x.format("train", "train"): IMAGES[:6], y.format("train", "train"): LABELS[:6, None]}
    arrays |= {x.format("test", "test"): IMAGES[6:], y.format("test", "test"): LABELS[6:].astype(np.uint8)}
    path = npz(tmp_path, **arrays)
    train, test, both = (read(path, split) for split in ("train", "test", "all"))
    assert np.array_equal(train.images[..., 0], IMAGES[:6]) and np.array_equal(test.images[..., 0], IMAGES[6:])
    assert both.labels.tolist() == [*train.labels.tolist(), *test.labels.tolist()] == LABELS.tolist()


UNUSED = {
    "more": {"images": IMAGES, "labels": LABELS, "more": LABELS},
    "labels": {"x_train": IMAGES, "x_test": IMAGES[:4], "labels": LABELS},
    "classes, x": {"images": IMAGES, "x": IMAGES, "classes": LABELS},
}


@pytest.mark.parametrize("unused", UNUSED)
def test_an_array_that_is_not_used_is_named(tmp_path: Path, unused: str) -> None:
    (note,) = read(npz(tmp_path, **UNUSED[unused])).notes
    assert "a.npz" in note and note.endswith(f" {unused}")


BAD_NAMES = {
    "other names": ({"pictures": IMAGES}, "pictures"),
    "nothing": ({}, "a.npz"),
    "labels by a name that is not known": (
        {"x_train": IMAGES, "x_test": IMAGES, "y_test": LABELS, "train_y2": LABELS},
        "train_y2",
    ),
    "other sizes in test": ({"x_train": IMAGES, "x_test": IMAGES[:, 1:]}, "train"),
    "labels of the other split": (
        {"x_train": IMAGES, "x_test": IMAGES[:4], "y_train": LABELS[:4], "y_test": LABELS},
        "y_train",
    ),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_an_npz_with_other_contents_is_refused(tmp_path: Path, case: str) -> None:
    arrays, name = BAD_NAMES[case]
    unusable(npz(tmp_path, **arrays), name)


# ---- axes


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first(tmp_path: Path, channels: int) -> None:
    data = read(npz(tmp_path, images=COLOUR[:, :channels]))
    assert np.array_equal(data.images, COLOUR[:, :channels].transpose(0, 2, 3, 1)) and len(data.notes) == 1


UNCLEAR = {
    (64, 64, 3): ["64 images of 64x3x1", "64,3,1", "one image of 64x64x3"],
    (3, 3, 20): ["3 images of 3x20x1", "3,20,1", "one image of 3x20x3"],
    (6, 3, 9, 3): ["6 images of 3x9x3", "6 images of 9x3x3"],
}


@pytest.mark.parametrize("shape", UNCLEAR)
def test_a_shape_that_can_be_two_things_is_refused_with_both(tmp_path: Path, shape: tuple[int, ...]) -> None:
    unusable(npz(tmp_path, images=pixels(0, shape)), "image_shape", *UNCLEAR[shape])


SQUARE, FIRST = pixels(0, (64, 64, 3)), pixels(0, (3, 9, 9))
SHAPES = {
    "one colour image": ("64,64,3", SQUARE, SQUARE[None]),
    "64 grey images": ("64,3", SQUARE, SQUARE[..., None]),
    "one image, channels first": ("3,9,9", FIRST, FIRST.transpose(1, 2, 0)[None]),
    "rows of grey": ("4,5", IMAGES.reshape(10, 20), IMAGES[..., None]),
    "rows of grey with a channel": ("4,5,1", IMAGES.reshape(10, 20), IMAGES[..., None]),
    "rows of colour, channels first": ("3,8,9", COLOUR.reshape(6, -1), COLOUR.transpose(0, 2, 3, 1)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_image_shape_decides(tmp_path: Path, case: str) -> None:
    setting, array, images = SHAPES[case]
    assert np.array_equal(read(npz(tmp_path, X=array), image_shape=setting).images, images)


@pytest.mark.parametrize(
    "columns, setting, hint",
    [(784, None, "28,28,1"), (3072, None, "32,32,3"), (20, None, "image_shape"), (216, "8,8,3", "image_shape 8,8,3")],
)
def test_rows_that_fit_no_shape_are_refused(tmp_path: Path, columns: int, setting: str | None, hint: str) -> None:
    unusable(npz(tmp_path, X=np.zeros((4, columns), np.uint8)), hint, image_shape=setting)


# ---- types

LABEL_KINDS = {
    "whole-number floats": (LABELS.astype(np.float32), ("0", "1"), 0),
    "one column": (LABELS[:, None], ("0", "1"), 0),
    "one row": (LABELS[None], ("0", "1"), 0),
    "one-hot": (np.eye(2, dtype=np.uint8)[LABELS], ("0", "1"), 1),
    "bytes": (np.array([b"ant", b"bee"])[LABELS], ("ant", "bee"), 0),
    "text": (np.array(["ant", "bee"])[LABELS], ("ant", "bee"), 0),
    "true and false": (LABELS.astype(bool), ("False", "True"), 0),
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_labels_of_any_kind(tmp_path: Path, kind: str) -> None:
    labels, names, notes = LABEL_KINDS[kind]
    data = read(npz(tmp_path, images=IMAGES, labels=labels))
    assert np.array_equal(data.labels, LABELS) and data.labels.dtype == np.int64 and data.class_names == names
    assert len(data.notes) == notes


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("labels", [LABELS[:9], np.ones((10, 3), int), LABELS / 3])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: np.ndarray, suffix: str) -> None:
    unusable(saved(tmp_path, suffix, IMAGES, labels), "labels")


def test_npy_is_mapped_and_finds_its_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    assert read(tmp_path / "a.npy").labels is None
    data = read(saved(tmp_path, ".npy", IMAGES, LABELS))
    assert isinstance(data.images, np.memmap) and not data.images.flags.writeable
    assert np.array_equal(data.images[..., 0], IMAGES) and np.array_equal(data.labels, LABELS)


@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f8", bool])
def test_floats_in_the_unit_range_and_truth_values_become_bytes(tmp_path: Path, kind: object) -> None:
    images = IMAGES if kind is not bool else np.where(IMAGES > 99, 255, 0)
    data = read(saved(tmp_path, ".npy", (images / 255).astype(kind)))
    assert np.abs(data.images[..., 0].astype(int) - images).max() <= (kind is np.float16)


def test_a_large_array_is_converted_on_disk_and_a_split_is_an_index_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", IMAGES / 255)
    copied = [read(tmp_path / "a.npy", split, test_fraction=0.8) for split in ("train", "test")]
    monkeypatch.setattr("softvq_cli.datasets.arrays._IN_MEMORY", 100)
    monkeypatch.setattr("softvq_cli.datasets.dataset._COPIED", 10)
    whole = read(tmp_path / "a.npy")
    assert isinstance(whole.images, np.memmap) and np.array_equal(whole.images[..., 0], IMAGES)
    for split in copied:
        rows = read(tmp_path / "a.npy", split.split, test_fraction=0.8)
        images = rows.images
        assert isinstance(images, Rows) and isinstance(images.images, np.memmap)
        kind = len(images), images.shape, images.dtype, images.nbytes
        assert kind == (len(split), split.images.shape, np.uint8, split.images.nbytes)
        assert rows.fingerprint == split.fingerprint and np.array_equal(np.asarray(images), split.images)
        assert np.array_equal(np.stack([*images]), split.images) and np.array_equal(images[-1], split.images[-1])
        for key in (slice(1, None), np.array([1, 0, 1]), (slice(None, None, 2), ..., 0)):
            assert np.array_equal(images[key], split.images[key])


NAN = np.full((2, 4, 4), 0.5)
NAN[1, 2, 2] = np.nan
BAD_IMAGES = {
    "a NaN": (NAN, "NaN"),
    "rows": (IMAGES.reshape(10, 20), "(10, 20)"),
    "four channels": (pixels(0, (10, 8, 8, 4)), "(10, 8, 8, 4)"),
    "no rows": (IMAGES[:0], "(0, 4, 5)"),
    "no pixels": (np.zeros((3, 0, 4), np.uint8), "(3, 0, 4)"),
    "a number": (np.array(3, np.uint8), "()"),
    "complex numbers": (np.zeros((2, 4, 4), complex), "complex128"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, case: str, suffix: str) -> None:
    array, value = BAD_IMAGES[case]
    unusable(saved(tmp_path, suffix, array), value)


def test_a_mat_in_the_layout_of_svhn(tmp_path: Path) -> None:
    images = pixels(0, (32, 32, 3, 12))
    scipy.io.savemat(tmp_path / "own.mat", {"X": images, "y": (np.arange(12) % 10 + 1)[:, None]})
    data = read(tmp_path / "own.mat")
    assert np.array_equal(data.images, images.transpose(3, 0, 1, 2))
    assert data.class_names == tuple("0123456789") and data.labels.tolist() == [*range(1, 10), 0, 1, 2]
    assert any("10" in note and "0" in note for note in data.notes)


# ---- malicious and damaged files


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_pickle_in_an_array_is_refused_and_never_runs(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=trap)
    np.savez(tmp_path / "c.npz", images=IMAGES[:1], labels=trap)
    np.save(tmp_path / "d.npy", IMAGES[:1])
    np.save(tmp_path / "d.labels.npy", trap, allow_pickle=True)
    (tmp_path / "e.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy", "e.npy"):
        unusable(tmp_path / name, name[0])
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
        unusable(tmp_path / name, name)


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = header("(1048576, 64, 64)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content + bytes(1000))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    position = data.index(b"PK\x01\x02")  # the directory says what the header says: 4 GiB less a byte
    data[position + 24 : position + 28] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(data)
    unusable(tmp_path / "a.npz", str(2**32 - 2))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_file_that_is_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, suffix, IMAGES)
    whole = path.read_bytes()
    for end in range(0, len(whole), 1 if suffix == ".npy" else 2):
        path.write_bytes(whole[:end])
        unusable(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_matlab_are_those_that_scipy_reads(compressed: bool) -> None:
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    given = {kind: (pixels(0, (3, 4, 2)) // 2).astype(kind) for kind in kinds} | {"flat": np.arange(3.0)}
    file = io.BytesIO()
    scipy.io.savemat(file, {**given, "text": "hello", "complex": np.array([1j])}, do_compression=compressed)
    arrays, expected = matlab.read(Path("a.mat"), file.getvalue()), scipy.io.loadmat(file)
    assert arrays["text"] is arrays["complex"] is None
    for name in given:
        assert arrays[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(arrays[name], expected[name])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_matlab_file_is_one_line_or_read(tmp_path: Path, compressed: bool) -> None:
    """Some of these crash the process in SciPy's reader."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": pixels(0, (12, 8, 8)), "y": np.arange(12)}, do_compression=compressed)
    for damaged in mutations(file.getvalue(), 200, seed=1):
        with contextlib.suppress(InputError, struct.error, zlib.error, ValueError, KeyError):
            matlab.read(tmp_path / "a.mat", damaged)
    for end in range(0, len(file.getvalue()), 53):
        (tmp_path / "a.mat").write_bytes(file.getvalue()[:end])
        unusable(tmp_path / "a.mat", "a.mat")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.labels.npy", "a.mat", "a-images-idx3-ubyte", "a.idx.gz"])
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a pointer", "a broken link"])
def test_every_file_is_a_regular_one_that_was_downloaded(tmp_path: Path, name: str, kind: str) -> None:
    odd, path = tmp_path / name, tmp_path / name.replace(".labels", "")
    np.save(tmp_path / "a.npy", IMAGES)
    odd.unlink(missing_ok=True)
    if kind == "a pointer":
        odd.write_bytes(POINTER)
    elif kind == "a pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero" if kind == "a device" else "nowhere")
    unusable(path, str(odd), "git lfs pull" if kind == "a pointer" else "")


# ---- idx files, MNIST's format, by their path

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
    "folders of the other names": (DOTTED | {f"{name}/{name}": data for name, data in MNIST.items()}, ""),
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
    "a part twice": (MNIST | DOTTED, "train-images.idx3-ubyte", "train-labels-idx1-ubyte"),
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
    unusable(write_folder(tmp_path / "data", files) / name, word)
