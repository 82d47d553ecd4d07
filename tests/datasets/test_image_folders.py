"""Folders of images: layouts, order, sizes, names of folders, and files that are ignored or refused."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.naming import role_of
from softvq_cli.errors import UsageError
from tests.helpers import CATS_AND_DOGS, encoded, grey_files, pixels, read, seen, unusable, write_folder


def test_class_folders_give_labels_in_the_order_of_the_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", grey_files(["zebra/1.png", "ant/b/2.png", "ant/10.png", "ant/9.png"]))
    data = read(tmp_path / "pets")
    assert (data.name, data.split) == ("pets", "all")
    assert data.file_names == ("ant/10.png", "ant/9.png", "ant/b/2.png", "zebra/1.png")
    assert data.labels.dtype == np.int64 and data.images.dtype == np.uint8 and data.images.shape == (4, 6, 5, 1)
    assert seen(data) == ([2, 3, 1, 0], [0, 0, 0, 1], ("ant", "zebra"))


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    names = ["test/cat/1.png", "test/dog/2.png", "train/cat/3.png", "train/dog/4.png", "train/dog/5.png"]
    write_folder(tmp_path, grey_files([*names, "val/cat/6.png"]))
    train, test, both = (read(tmp_path, split) for split in ("train", "test", "all"))
    assert train.file_names == tuple(names[2:]) and test.file_names == tuple(names[:2])
    assert both.file_names == train.file_names + test.file_names
    assert both.labels.tolist() == [0, 1, 1, 0, 1] and both.class_names == ("cat", "dog")
    assert np.array_equal(both.images, np.concatenate([train.images, test.images]))


@pytest.mark.parametrize("outer", ["flowers", "train"])
def test_one_outer_folder_around_the_classes_is_stepped_into(tmp_path: Path, outer: str) -> None:
    write_folder(tmp_path, grey_files([f"{outer}/{name}" for name in CATS_AND_DOGS]))
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog") and data.file_names[0] == f"{outer}/cat/0.png"


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
    assert read(tmp_path, image_size=6).image_shape == (6, 6, 1)


def test_image_size_is_for_image_files_only(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(0, (3, 4, 4)))
    for data in ("digits", tmp_path / "a.npy"):
        unusable(data, "image_size", kind=UsageError, image_size=8)


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
    "masks in each split": (
        grey_files([f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("images", "masks")]),
        "images/ masks/",
    ),
    "val and test only": (grey_files(["test/a/1.png", "val/a/1.png"]), "test val train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    files, words = REFUSED[case]
    unusable(write_folder(tmp_path, files), *words.split())


NOTED = {
    "documents": (
        grey_files(["ant/1.png", "ant/2.png", "bee/1.png"])
        | dict.fromkeys(["README.md", "LICENSE", "md5sums.txt", "CITATION.bib"], b"text"),
        "CITATION.bib, LICENSE, README.md and 1 more",
    ),
    "labels that say nothing": (grey_files([f"{name}/1.png" for name in "abcde"]), "5"),
    "a split among five classes": (
        grey_files([f"{kind}/{n}.png" for kind in ("bus", "car", "plane", "ship", "train") for n in "12"]),
        "train 5",
    ),
    "an empty folder": (grey_files(CATS_AND_DOGS), "emu"),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_is_passed_over_or_doubtful_is_said(tmp_path: Path, case: str) -> None:
    files, words = NOTED[case]
    write_folder(tmp_path, files)
    if case == "an empty folder":
        (tmp_path / "emu").mkdir()
    data = read(tmp_path)
    assert data.class_names == tuple(sorted({name.split("/")[0] for name in files if "/" in name}))
    assert len(data.notes) == 1 and all(word in data.notes[0] for word in words.split())


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path / "all", grey_files(CATS_AND_DOGS))
    subset = tmp_path / "subset"
    write_folder(subset, grey_files(["dog/0.png"]))
    (subset / "cat").symlink_to(tmp_path / "all" / "cat")
    assert len(read(subset)) == 6
    (subset / "dog" / "loop").symlink_to(subset)
    unusable(subset, "dog/loop")


@pytest.mark.parametrize("kind", ["a broken link", "a named pipe"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    odd = write_folder(tmp_path, grey_files(CATS_AND_DOGS)) / "cat" / "odd.png"
    odd.symlink_to(tmp_path / "nowhere") if kind == "a broken link" else os.mkfifo(odd)
    unusable(tmp_path, "cat/odd.png")


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


# ---- split, class or neither

CLASSES = ["ant/1.png", "bee/2.png"]


def divided(*folders: str) -> dict[str, bytes]:
    return grey_files([f"{folder}/{name}" for folder in folders for name in CLASSES])


ROLES = {
    "train": "train,Training,TRAIN,train1,seg_train,train_set,trn,trainset",
    "test": "test,testing,test2,test-images,tst,testdata,Test_Data",
    "validation": "val,valid,validation,dev,eval,val2017,validation-split",
    None: "cat,test_tube,train_station,devil,evaluate me,train_test,1,",
}


def test_names_of_splits() -> None:
    for role, names in ROLES.items():
        assert {name: role_of(name) for name in names.split(",")} == dict.fromkeys(names.split(","), role)


PAIRS = "train test,training testing,train1 test1,seg_train seg_test,train_set test_set,trn tst,Train Test,train test2"


@pytest.mark.parametrize("pair", [*PAIRS.split(","), "pets-train pets-test", "petsTrain petsTest"])
def test_folders_that_are_named_like_splits_are_splits(tmp_path: Path, pair: str) -> None:
    train, test = pair.split()
    write_folder(tmp_path, divided(train, test))
    parts = [read(tmp_path, split) for split in ("train", "test")]
    assert [part.file_names for part in parts] == [(f"{name}/ant/1.png", f"{name}/bee/2.png") for name in (train, test)]
    assert parts[0].class_names == ("ant", "bee")
    assert len(parts[0].notes) == ((train, test) != ("train", "test"))
    assert all(train in note and test in note for note in parts[0].notes)


@pytest.mark.parametrize("name", ["valid", "eval", "val2017"])
def test_without_a_test_split_the_validation_split_is_used_and_said(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, divided("train", name))
    data = read(tmp_path, "test")
    assert data.file_names == (f"{name}/ant/1.png", f"{name}/bee/2.png")
    assert len(data.notes) == 1 and name in data.notes[0]


@pytest.mark.parametrize("name", ["dev", "Validation"])
def test_beside_a_test_split_the_validation_split_is_not_used_and_said(tmp_path: Path, name: str) -> None:
    data = read(write_folder(tmp_path, divided("train", "test", name)))
    assert len(data) == 4 and len(data.notes) == 1 and f"{name} (2 " in data.notes[0]


UNCLEAR = {
    "no train split": (divided("val", "test"), "test, val train"),
    "two test splits": (divided("train", "test", "test2"), "test test2"),
    "a split beside a class": (grey_files(["train/1.png", "car/2.png"]), "train car"),
    "a split beside three": (grey_files([f"{c}/1.png" for c in ("test", "a", "b", "c")]), "test a, b, c"),
    "the same folders in each": (divided("north", "south"), "north, south"),
    "something beside splits": (divided("train", "test", "x"), "x train/ test/"),
    "a split and a class in one name": (grey_files([f"{c}/1.png" for c in ("trainA", "trainB", "testA")]), "trainA"),
    "the same with another folder": (divided("trainA", "testA", "trainB", "testB", "other"), "trainA"),
    "the same in small letters": (divided("traina", "testa", "trainb", "testb"), "traina"),
    "the split before the class": (divided("train_cat", "train_dog", "val_cat", "val_dog"), "train_cat"),
    "the split behind the class": (divided("cat_train", "dogTrain", "cat_test", "dogTest"), "cat_train"),
    "splits within one class": (grey_files(["cat/train/1.png", "cat/test/2.png", "dog/more/3.png"]), "test, train"),
    "splits within the classes": (grey_files(["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"]), "test, train"),
    "images and their masks": (grey_files(["images/1.png", "images/2.png", "masks/1.png", "masks/2.png"]), "masks/"),
    "masks with a word": (
        grey_files(["images/1.png", "images/2.png", "masks/1_mask.png", "masks/2_mask.png"]),
        "masks/",
    ),
    "masks of VOC": (grey_files(["JPEGImages/1.png", "SegmentationClass/1.png"]), "JPEGImages/ SegmentationClass/"),
    "inputs and targets": (grey_files(["input/1.png", "target/1.png"]), "input/ target/"),
    "masks and more": (grey_files(["edges/1.png", "images/1.png", "masks/1.png"]), "edges/ images/ masks/"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_may_be_a_class_or_a_split_is_refused_with_the_way_out(tmp_path: Path, case: str) -> None:
    files, words = UNCLEAR[case]
    write_folder(tmp_path, files)
    unusable(tmp_path, "folders classes", *words.split())
    data = read(tmp_path, folders="classes")
    assert data.class_names == tuple(sorted({name.split("/")[0] for name in files}))


def test_folders_that_have_to_be_splits_and_are_none(tmp_path: Path) -> None:
    unusable(write_folder(tmp_path, grey_files(["cat/1.png", "dog/1.png"])), "cat", folders="splits")


LEFT_BEHIND = [
    *("@eaDir/ant/thumb.png", "ant/@eaDir/1.png@SynoEAStream", "#recycle/old.png", "lost+found/x.png"),
    *("$RECYCLE.BIN/a.png", "System Volume Information/b.png", ".ipynb_checkpoints/c.png", "__pycache__/d.png"),
    *("THUMBS.DB", "ant/Desktop.ini", "EhThumbs.db", "ant/Icon\r", ".DS_Store", "ant/._1.png", "__MACOSX/ant/1.png"),
]


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    junk = {name: encoded(pixels(9)) for name in LEFT_BEHIND}
    data = read(write_folder(tmp_path, grey_files(["ant/1.png", "ant/2.png", "bee/1.png"]) | junk))
    assert data.file_names == ("ant/1.png", "ant/2.png", "bee/1.png") and data.notes == ()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_hidden_images_are_passed_over_with_a_note(form: str, tmp_path: Path) -> None:
    names = ["ant/1.png", "bee/1.png", "bee/2.png", "bee/.3.png", ".cow/1.png", ".cow/2.png", "ant/._1.png"]
    root = write_folder(tmp_path / "images", grey_files(names))
    if form == "zip":
        root = Path(shutil.make_archive(str(root), "zip", root))
    data = read(root)
    assert data.file_names == ("ant/1.png", "bee/1.png", "bee/2.png")
    assert len(data.notes) == 1 and ".cow, bee/.3.png" in data.notes[0]
    if form == "folder":
        write_folder(root, {"bee/.4.png": b""})  # a later one
        assert ".cow, bee/.3.png, bee/.4.png" in read(root).notes[0]


def test_a_name_is_one_class_however_its_accents_are_spelt(tmp_path: Path) -> None:
    mac, other = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    write_folder(tmp_path, divided("train", "test") | grey_files([f"train/{mac}/1.png", f"test/{other}/2.png"]))
    data = read(tmp_path)
    assert data.class_names == ("ant", "bee", "café") and np.bincount(data.labels).tolist() == [2, 2, 2]


def test_images_that_are_called_like_documents_are_images(tmp_path: Path) -> None:
    names = ("LICENSE", "license_plate_01.jpg", "notice-3.j2k", "readme.txt")
    data = read(write_folder(tmp_path, dict.fromkeys(names, encoded(pixels(0)))))
    assert data.file_names == names[1:3] and "LICENSE, readme.txt" in data.notes[0]


def test_a_folder_called_as_a_known_data_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "digits", grey_files(["1.png", "2.png"]))
    monkeypatch.chdir(tmp_path)
    assert len(read("digits")) == 1797 and "./digits" in read("digits").notes[0]
    assert len(read("./digits")) == 2
