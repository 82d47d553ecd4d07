"""Labels in every kind of data: text, numbers, missing ones, and splits whose labels are hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import (
    encoded,
    grey_files,
    hub_table,
    make_tar,
    parquet,
    pixels,
    read,
    rows_text,
    seen,
    softvq,
    unusable,
    write_folder,
)

IMAGES = np.stack([pixels(seed) for seed in range(6)])
FILES = [encoded(image) for image in IMAGES]
SPLIT = ["train"] * 4 + ["test"] * 2


def as_list(folder: Path, labels: list[Any], kind: str = "csv") -> Path:
    write_folder(folder, {f"{number}.png": data for number, data in enumerate(FILES)})
    splits = SPLIT if len(labels) == 6 else ["train"] * len(labels)
    rows = [{"path": f"{row}.png", "label": labels[row], "split": splits[row]} for row in range(len(labels))]
    (folder / f"a.{kind}").write_text(rows_text(kind, rows))
    return folder / f"a.{kind}"


def as_jsonl(folder: Path, labels: list[Any]) -> Path:
    return as_list(folder, labels, "jsonl")


def as_npz(folder: Path, labels: list[Any]) -> Path:
    np.savez(folder / "a.npz", x_train=IMAGES[:4], y_train=labels[:4], x_test=IMAGES[4:], y_test=labels[4:])
    return folder / "a.npz"


def as_shards(folder: Path, labels: list[Any]) -> Path:
    (folder / "shards").mkdir(exist_ok=True)
    for part, rows in (("train", range(4)), ("test", range(4, 6))):
        files = {f"{row}.png": FILES[row] for row in rows} | {f"{row}.cls": str(labels[row]).encode() for row in rows}
        make_tar(folder / "shards" / f"{part}.tar", dict(sorted(files.items())))
    return folder / "shards"


def as_parquet(folder: Path, labels: list[Any]) -> Path:
    count = len(labels)
    splits = {"split": SPLIT} if count == 6 else {}
    return parquet(folder / "a.parquet", image=FILES[:count], label=labels, **splits)


# ---- every kind of label

NO_LABELS = {
    "lists": [[0], [1], [0]],
    "lists of text": [["a"], ["b"], ["a"]],
    "objects": [{"a": 1}, {"a": 2}, {"a": 1}],
    "fractions": [0.25, 0.5, 0.75],
    "fractions as text": ["0.25", "0.5", "1.0"],
    "fractions without a zero": [".25", "+.5", "1"],
    "fractions with an exponent": ["2.5e-01", "5.0e-01", "1.0e+00"],
    "fractions with a comma": ["0,25", "0,5", "1"],
    "a fraction among words": ["0.25", "cat", "cat"],
    "a fraction among whole numbers": ["1", "2.5", "1"],
    "lists as text": ["[0, 2]", "[1]", "[1]"],
    "numbers in a row as text": ["16 0", "3", "3"],
    "objects as text": ['{"a": 1}', '{"a": 2}', '{"a": 1}'],
}
TEXT = [(as_list, case) for case in [*NO_LABELS][3:] if "," not in str(NO_LABELS[case][0])]  # no quotes in the .csv


@pytest.mark.parametrize("kind, case", [(kind, case) for kind in (as_parquet, as_jsonl) for case in NO_LABELS] + TEXT)
def test_lists_objects_and_fractions_are_no_labels(tmp_path: Path, case: str, kind: Any) -> None:
    path = kind(tmp_path, NO_LABELS[case])
    unusable(path, str(path), "label_column")
    assert read(path, label_column="none").labels is None


LABELS = {
    "text": (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
    "true and false": ([True, False, True], ("False", "True"), [1, 0, 1]),
    "whole floats": ([2.0, 10.0, 2.0], ("2", "10"), [0, 1, 0]),
    "whole floats as text": (["2.0", "10.0", "2.0"], ("2", "10"), [0, 1, 0]),
    "whole numbers in several spellings": (["1.0", "+1", "2.000e+00"], ("1", "2"), [0, 0, 1]),
    "whole numbers with zeros in front": (["02", "10", "02"], ("02", "10"), [0, 1, 0]),
    "large whole numbers": (["9007199254740993.0", "9007199254740992", "9007199254740993"], None, [1, 0, 1]),
    "nothing at all": ([None, None, None], (), None),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_every_kind_in_a_parquet(tmp_path: Path, case: str) -> None:
    labels, names, expected = LABELS[case]
    data = read(as_parquet(tmp_path, labels))
    assert seen(data) == ([0, 1, 2], expected, data.class_names if names is None else names)


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "", None])
@pytest.mark.parametrize("kind", [as_list, as_jsonl, as_parquet])
def test_text_for_nothing_is_no_label_among_numbers(tmp_path: Path, kind: Any, text: str | None) -> None:
    data = read(kind(tmp_path, ["1", text, "0"]))
    assert seen(data) == ([0, 2], [1, 0], ("0", "1")) and any("1 of 3" in note for note in data.notes)


def test_an_empty_column_of_labels_is_said_to_be_empty(tmp_path: Path) -> None:
    data = read(as_list(tmp_path, [None, None]))
    assert data.labels is None and any("no labels" in note for note in data.notes)


def test_classes_that_only_the_test_split_has_and_nearly_equal_names_are_said(tmp_path: Path) -> None:
    data = read(as_parquet(tmp_path, ["Cat", "cat", "dog", "dog", "cat", "emu"]))
    assert len(data.notes) == 2
    assert data.notes[0].endswith(": emu") and "'Cat' and 'cat'" in data.notes[1]
    data = read(as_parquet(tmp_path, ["cat", "cat ", "dog", "dog", "cat", "NA"]))
    assert data.class_names == ("NA", "cat", "dog") and data.notes[0].endswith(": cat")


# ---- hidden labels: all -1, as on the Hub, or none at all

HIDDEN = {
    "all of the test split": ([5, 7, 5, 7, -1, -1], ("5", "7"), [0, 1, 0, 1], None, "test"),
    "one among others": ([5, -1, 5, 7, -1, -1], ("-1", "5", "7"), [1, 0, 1, 2], [0, 0], "3 of 6"),
    "1 and -1": ([1, -1, 1, -1, -1, -1], ("-1", "1"), [1, 0, 1, 0], [0, 0], None),
    "all": ([-1] * 6, (), None, None, "-1"),
}


@pytest.mark.parametrize("kind", [as_list, as_jsonl, as_npz, as_shards, as_parquet])
@pytest.mark.parametrize("case", HIDDEN)
def test_minus_one_all_over_is_no_label_and_among_others_a_class(tmp_path: Path, kind: Any, case: str) -> None:
    labels, names, train_labels, test_labels, word = HIDDEN[case]
    path = kind(tmp_path, labels)
    for split, expected in (("train", train_labels), ("test", test_labels)):
        data = read(path, split)
        assert seen(data)[1:] == (expected, names)
        assert len(data.notes) == (word is not None) and all(word in note for note in data.notes)
    if test_labels is None:
        assert read(path, "all").labels is None


@pytest.mark.parametrize("kind", [as_list, as_jsonl, as_parquet])
def test_rows_of_a_table_without_a_label_are_left_out_where_others_have_one(tmp_path: Path, kind: Any) -> None:
    path = kind(tmp_path, ["a", "b", "a", "b", None, None])
    assert read(path, "test").labels is None and "test" in read(path).notes[0]
    path = kind(tmp_path, ["a", None, None, "b", "a", "b"])
    train = read(path, "train")
    assert seen(train) == ([0, 3], [0, 1], ("a", "b"))
    assert len(train.notes) == 1 and "2 of 4" in train.notes[0] and " train " in train.notes[0]
    assert len(read(path, "train", label_column="none")) == 4 and len(read(path, "test")) == 2


def test_arrays_without_labels_of_one_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES[:4], y_train=[0, 1, 0, 1], x_test=IMAGES[4:])
    test = read(tmp_path / "a.npz", "test")
    assert test.labels is None and "test" in test.notes[0]
    np.savez(tmp_path / "b.npz", images=IMAGES, labels=[np.nan] * 6)
    assert read(tmp_path / "b.npz").labels is None


@pytest.mark.parametrize("values", [IMAGES, IMAGES.reshape(6, -1) / 255])
def test_rows_of_an_array_without_a_label_are_left_out(tmp_path: Path, values: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", images=values, labels=[np.nan, 1, 2, np.nan, 1, 2])
    data = read(tmp_path / "a.npz")
    assert data.labels.tolist() == [0, 1, 0, 1] and any("2 of 6" in note for note in data.notes)
    assert np.array_equal(data.images.squeeze(), values[[1, 2, 4, 5]].astype(data.images.dtype))
    assert len(read(tmp_path / "a.npz", "train")) == 2 and len(read(tmp_path / "a.npz", label_column="none")) == 6
    np.savez(tmp_path / "b.npz", x_train=values[:4], y_train=[1, np.nan, 2, 1], x_test=values[4:], y_test=[2, np.nan])
    train, test = read(tmp_path / "b.npz", "train"), read(tmp_path / "b.npz", "test")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0], [1])
    assert np.array_equal(test.images.squeeze(), values[4].astype(test.images.dtype))


def test_a_test_folder_without_class_folders(tmp_path: Path) -> None:
    files = grey_files(["train/cat/1.png", "train/dog/2.png", "train/dog/7.png", "test/3.png", "test/4.png"])
    test = read(write_folder(tmp_path / "a", files), "test")
    assert test.labels is None and test.class_names == ("cat", "dog")
    assert len(test.notes) == 1 and " test " in test.notes[0]
    files |= grey_files(["val/cat/5.png", "val/dog/6.png"])
    test = read(write_folder(tmp_path / "a", files), "test")
    assert test.labels.tolist() == [0, 1] and test.file_names == ("val/cat/5.png", "val/dog/6.png")
    assert all(word in test.notes[0] for word in ("test ", "(2 ", "val "))


def test_hidden_labels_as_the_hub_has_them(tmp_path: Path) -> None:
    def table(split: str, labels: list[int]) -> Path:
        return hub_table(tmp_path / f"{split}-00000-of-00001.parquet", FILES[: len(labels)], labels, ["zebra", "ant"])

    table("train", [1, 0, 1, 0])
    table("test", [-1, -1])
    train, test = read(tmp_path, "train"), read(tmp_path, "test")
    assert train.labels.tolist() == [1, 0, 1, 0] and test.labels is None and "-1" in test.notes[0]
    validation = table("validation", [0, 1, 1])
    test = read(tmp_path, "test")
    assert test.labels.tolist() == [0, 1, 1] and "validation" in test.notes[0]
    validation.unlink()
    table("test", [0, -1, 1])
    test = read(tmp_path, "test")
    assert test.labels.tolist() == [0, 1] and "1 of 3" in test.notes[0] and "#1" in test.notes[0]


def test_what_is_trained_on_hidden_labels_is_embedded_and_compared_with_nothing(
    tmp_path: Path, small_networks: None
) -> None:
    path, out = as_npz(tmp_path, [0, 1, 0, 1, -1, -1]), tmp_path / "run"
    how = ("--iterations", 2, "--log-every", 1, "--batch-size", 2, "--device", "cpu")
    assert softvq("train", "--data", path, *how, "-o", out).code == 0
    ended = softvq("embed", out, "--split", "test", "-o", tmp_path / "t.npy")
    assert (ended.code, ended.err.count("other classes")) == (0, 0) and not (tmp_path / "t.labels.npy").exists()
    softvq("sweep", "--data", path, "--over", "K=2", *how, "-o", tmp_path / "s").refused(3, " a ")
