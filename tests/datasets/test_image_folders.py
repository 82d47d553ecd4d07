"""Folders of images: layouts, order, sizes, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.config import DataConfig
from softvq_cli.datasets import load
from softvq_cli.errors import UsageError
from tests.helpers import CATS_AND_DOGS, encoded, grey_files, pixels, read, unusable, write_folder


def test_class_folders_give_labels_in_the_order_of_the_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", grey_files(["zebra/1.png", "ant/b/2.png", "ant/10.png", "ant/9.png"]))
    data = read(tmp_path / "pets")
    assert (data.name, data.split) == ("pets", "all")
    assert data.class_names == ("ant", "zebra")
    assert data.file_names == ("ant/10.png", "ant/9.png", "ant/b/2.png", "zebra/1.png")
    assert data.labels is not None and data.labels.dtype == np.int64 and data.labels.tolist() == [0, 0, 0, 1]
    expected = np.stack([pixels(seed) for seed in (2, 3, 1, 0)])[..., None]
    assert data.images.dtype == np.uint8 and np.array_equal(data.images, expected)


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    data = read(write_folder(tmp_path, grey_files(["b.png", "a.png"])))
    assert data.labels is None and data.class_names == () and data.file_names == ("a.png", "b.png")


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    names = ["test/cat/1.png", "test/dog/2.png", "train/cat/3.png", "train/dog/4.png", "train/dog/5.png"]
    write_folder(tmp_path, grey_files([*names, "val/cat/6.png"]))
    train, test, both = (read(tmp_path, split) for split in ("train", "test", "all"))
    assert train.file_names == tuple(names[2:]) and test.file_names == tuple(names[:2])
    assert both.file_names == train.file_names + test.file_names
    assert both.labels.tolist() == [0, 1, 1, 0, 1] and both.class_names == ("cat", "dog")
    assert np.array_equal(both.images, np.concatenate([train.images, test.images]))


def test_train_and_test_folders_may_hold_images_without_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, grey_files(["train/1.png", "train/2.png", "test/3.png"]))
    assert (len(read(tmp_path, "train")), len(read(tmp_path, "test"))) == (2, 1)
    assert read(tmp_path, "all").labels is None


@pytest.mark.parametrize("outer", ["flowers", "train"])
def test_one_outer_folder_around_the_classes_is_stepped_into(tmp_path: Path, outer: str) -> None:
    write_folder(tmp_path, grey_files([f"{outer}/{name}" for name in CATS_AND_DOGS]))
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog") and data.file_names[0] == f"{outer}/cat/0.png"


def test_metadata_of_desktops_is_ignored(tmp_path: Path) -> None:
    junk = ["Thumbs.db", ".DS_Store", "cat/desktop.ini", "cat/._0.png", "__MACOSX/cat/0.png", ".git/config"]
    write_folder(tmp_path, grey_files(CATS_AND_DOGS) | dict.fromkeys(junk, b"junk"))
    assert len(read(tmp_path)) == 10


def test_grey_and_colour_together_become_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": encoded(pixels(0)), "b.png": encoded(pixels(1, (6, 5, 3)))})
    images = read(tmp_path).images
    assert np.array_equal(images[0], np.repeat(pixels(0)[..., None], 3, axis=2))
    assert np.array_equal(images[1], pixels(1, (6, 5, 3)))


def test_different_sizes_are_refused_with_both_names_and_the_remedy(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": encoded(pixels(0)), "b.png": encoded(pixels(1, (7, 9)))})
    unusable(tmp_path, "a.png", "5x6", "b.png", "9x7", "image_size")


def test_image_size_scales_the_shorter_side_and_crops_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200  # the middle third is what remains
    write_folder(tmp_path, {"a.png": encoded(wide), "b.png": encoded(wide.T.copy())})
    data = read(tmp_path, image_size=4)
    assert data.image_shape == (4, 4, 1)
    assert (np.abs(data.images.astype(int) - 200) <= 40).all()  # bicubic overshoots at the edges
    with_other_size = read(tmp_path, image_size=6)
    assert with_other_size.image_shape == (6, 6, 1)


def test_image_size_is_for_image_files_only(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(0, (3, 4, 4)))
    for data in ("digits", str(tmp_path / "a.npy")):
        with pytest.raises(UsageError, match="image_size"):
            load(DataConfig(data=data, image_size=8), "all")


REFUSED = {
    "no images": ({".hidden": b""}, ""),
    "one class": (grey_files(["cat/1.png"]), "cat"),
    "no image": (grey_files(CATS_AND_DOGS) | {"dog/notes.txt": b"hello"}, "dog/notes.txt"),
    "cut image": (grey_files(CATS_AND_DOGS) | {"dog/9.png": encoded(pixels(0))[:-30]}, "dog/9.png"),
    "image beside classes": (grey_files([*CATS_AND_DOGS, "0.png"]), "0.png"),
    "folder beside splits": (
        grey_files(["train/a/1.png", "test/a/1.png", "train/b/1.png", "test/b/1.png", "x/1.png"]),
        "x train/ test/",
    ),
    "other classes in test": (
        grey_files(["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"]),
        "train/ test/ b",
    ),
    "val and test only": (grey_files(["test/a/1.png", "val/a/1.png"]), "test val train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    files, words = REFUSED[case]
    unusable(write_folder(tmp_path, files), *words.split())


def test_an_empty_class_folder_is_passed_over_with_a_note(tmp_path: Path) -> None:
    write_folder(tmp_path, grey_files(CATS_AND_DOGS))
    (tmp_path / "emu").mkdir()
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert len(data.notes) == 1 and "emu" in data.notes[0]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    unusable(tmp_path, str(tmp_path))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path / "all", grey_files(CATS_AND_DOGS))
    subset = tmp_path / "subset"
    write_folder(subset, grey_files(["dog/0.png"]))
    (subset / "cat").symlink_to(tmp_path / "all" / "cat")
    assert len(read(subset)) == 6
    (subset / "dog" / "loop").symlink_to(subset)
    unusable(subset, "dog/loop")


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, grey_files(CATS_AND_DOGS))
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    unusable(tmp_path, "gone.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    write_folder(tmp_path, grey_files(CATS_AND_DOGS))
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    unusable(tmp_path, "cat/pipe.png")


@pytest.mark.parametrize("name", [b"\xff.png", b"two\nlines.png", b"\x1b[31mred.png"])
def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path, name: bytes) -> None:
    write_folder(tmp_path, grey_files(CATS_AND_DOGS))
    try:
        (tmp_path / "cat" / os.fsdecode(name)).write_bytes(encoded(pixels(0)))
    except OSError:
        pytest.skip("this file system takes other names only")
    unusable(tmp_path, str(tmp_path))


def test_worker_processes_give_the_same_pixels_colours_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softvq_cli.datasets.decode._WORTH_PROCESSES", 1)
    files = grey_files([f"{number:04}.png" for number in range(600)])
    images = read(write_folder(tmp_path, files)).images
    assert np.array_equal(images[..., 0], [pixels(seed) for seed in range(600)])
    write_folder(tmp_path, {"9998.png": encoded(pixels(7, (6, 5, 3)))})  # the first colour comes late
    images = read(tmp_path).images
    assert images.shape == (601, 6, 5, 3) and np.array_equal(images[600], pixels(7, (6, 5, 3)))
    unusable(write_folder(tmp_path, {"9999.png": b"no image"}), "9999.png")


def test_large_files_are_decoded_in_order(tmp_path: Path) -> None:
    files = {f"{number}.png": encoded(pixels(number, (96, 96, 3))) for number in range(8)}
    images = read(write_folder(tmp_path, files)).images
    assert np.array_equal(images, np.stack([pixels(number, (96, 96, 3)) for number in range(8)]))
