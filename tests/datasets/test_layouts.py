"""What a folder's name says: split, class, or neither; and what is passed over."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.naming import role_of
from tests.helpers import encoded, grey_files, pixels, read, unusable, write_folder

CLASSES = ["ant/1.png", "bee/2.png"]


def divided(*folders: str) -> dict[str, bytes]:
    return grey_files([f"{folder}/{name}" for folder in folders for name in CLASSES])


@pytest.mark.parametrize(
    "name, role",
    [
        *[
            (name, "train")
            for name in ("train", "Training", "TRAIN", "train1", "seg_train", "train_set", "trn", "trainset")
        ],
        *[(name, "test") for name in ("test", "testing", "test2", "test-images", "tst", "testdata", "Test_Data")],
        *[
            (name, "validation")
            for name in ("val", "valid", "validation", "dev", "eval", "val2017", "validation-split")
        ],
        *[
            (name, None)
            for name in ("cat", "test_tube", "train_station", "devil", "evaluate me", "train_test", "1", "")
        ],
    ],
)
def test_names_of_splits(name: str, role: str | None) -> None:
    assert role_of(name) == role


PAIRS = [
    ("train", "test"),
    ("training", "testing"),
    ("train1", "test1"),
    ("seg_train", "seg_test"),
    ("train_set", "test_set"),
    ("trn", "tst"),
    ("Train", "Test"),
    ("pets-train", "pets-test"),
    ("train", "test2"),
]


@pytest.mark.parametrize("train, test", PAIRS)
def test_folders_that_are_named_like_splits_are_splits(tmp_path: Path, train: str, test: str) -> None:
    write_folder(tmp_path, divided(train, test))
    parts = [read(tmp_path, split) for split in ("train", "test")]
    assert [part.file_names for part in parts] == [(f"{name}/ant/1.png", f"{name}/bee/2.png") for name in (train, test)]
    assert parts[0].class_names == ("ant", "bee")
    assert len(parts[0].notes) == ((train, test) != ("train", "test"))
    assert all(train in note and test in note for note in parts[0].notes)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "eval", "dev", "val2017"])
def test_without_a_test_split_the_validation_split_is_used_and_said(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, divided("train", name))
    data = read(tmp_path, "test")
    assert data.file_names == (f"{name}/ant/1.png", f"{name}/bee/2.png")
    assert len(data.notes) == 1 and name in data.notes[0]


@pytest.mark.parametrize("name", ["val", "dev", "Validation"])
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
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_may_be_a_class_or_a_split_is_refused_with_the_way_out(tmp_path: Path, case: str) -> None:
    files, words = UNCLEAR[case]
    write_folder(tmp_path, files)
    unusable(tmp_path, "folders classes", *words.split())
    data = read(tmp_path, folders="classes")
    assert data.class_names == tuple(sorted({name.split("/")[0] for name in files}))


def test_a_split_is_a_class_among_many(tmp_path: Path) -> None:
    kinds = ("bus", "car", "plane", "ship", "train")
    data = read(write_folder(tmp_path, grey_files([f"{kind}/1.png" for kind in kinds])))
    assert data.class_names == kinds and "train" in data.notes[0] and "5" in data.notes[0]


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


def test_documents_beside_class_folders_are_passed_over_with_a_note(tmp_path: Path) -> None:
    documents = dict.fromkeys(["README.md", "LICENSE", "md5sums.txt", "CITATION.bib"], b"text")
    data = read(write_folder(tmp_path, grey_files(["ant/1.png", "ant/2.png", "bee/1.png"]) | documents))
    assert len(data) == 3
    assert len(data.notes) == 1 and "CITATION.bib, LICENSE, README.md and 1 more" in data.notes[0]


def test_a_name_is_one_class_however_its_accents_are_spelt(tmp_path: Path) -> None:
    mac, other = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    write_folder(tmp_path, divided("train", "test") | grey_files([f"train/{mac}/1.png", f"test/{other}/2.png"]))
    data = read(tmp_path)
    assert data.class_names == ("ant", "bee", "café") and np.bincount(data.labels).tolist() == [2, 2, 2]


def test_labels_that_say_nothing_are_said_to(tmp_path: Path) -> None:
    data = read(write_folder(tmp_path, grey_files([f"{name}/1.png" for name in "abcde"])))
    assert len(data.notes) == 1 and " 5 " in data.notes[0]
