"""Splits whose labels are hidden: all -1, as on the Hub, or none at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import encoded, grey_files, hub_table, make_tar, pixels, read, softvq, write_folder

IMAGES = np.stack([pixels(seed) for seed in range(6)])
FILES = [encoded(image) for image in IMAGES]
SPLIT = ["train"] * 4 + ["test"] * 2


def csv(folder: Path, labels: list[Any]) -> Path:
    write_folder(folder, {f"{number}.png": data for number, data in enumerate(FILES)})
    rows = (f"{number}.png,{label},{part}" for number, (label, part) in enumerate(zip(labels, SPLIT, strict=True)))
    (folder / "a.csv").write_text("\n".join(["path,label,split", *rows]))
    return folder / "a.csv"


def jsonl(folder: Path, labels: list[Any]) -> Path:
    write_folder(folder, {f"{number}.png": data for number, data in enumerate(FILES)})
    rows = [{"path": f"{number}.png", "label": labels[number], "split": SPLIT[number]} for number in range(6)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "a.jsonl"


def npz(folder: Path, labels: list[Any]) -> Path:
    np.savez(folder / "a.npz", x_train=IMAGES[:4], y_train=labels[:4], x_test=IMAGES[4:], y_test=labels[4:])
    return folder / "a.npz"


def shards(folder: Path, labels: list[Any]) -> Path:
    (folder / "shards").mkdir(exist_ok=True)
    for part, rows in (("train", range(4)), ("test", range(4, 6))):
        files = {f"{row}.png": FILES[row] for row in rows} | {f"{row}.cls": str(labels[row]).encode() for row in rows}
        make_tar(folder / "shards" / f"{part}.tar", dict(sorted(files.items())))
    return folder / "shards"


def parquet(folder: Path, labels: list[Any]) -> Path:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"image": FILES, "label": labels, "split": SPLIT}), folder / "a.parquet")
    return folder / "a.parquet"


LABELS = {
    "all of the test split": ([5, 7, 5, 7, -1, -1], ("5", "7"), [0, 1, 0, 1], None, "test"),
    "one among others": ([5, -1, 5, 7, -1, -1], ("-1", "5", "7"), [1, 0, 1, 2], [0, 0], "3 of 6"),
    "1 and -1": ([1, -1, 1, -1, -1, -1], ("-1", "1"), [1, 0, 1, 0], [0, 0], None),
    "all": ([-1] * 6, (), None, None, "-1"),
}


@pytest.mark.parametrize("kind", [csv, jsonl, npz, shards, parquet])
@pytest.mark.parametrize("case", LABELS)
def test_minus_one_all_over_is_no_label_and_among_others_a_class(tmp_path: Path, kind: Any, case: str) -> None:
    labels, names, train_labels, test_labels, word = LABELS[case]
    path = kind(tmp_path, labels)
    for split, expected in (("train", train_labels), ("test", test_labels)):
        data = read(path, split)
        assert (None if data.labels is None else data.labels.tolist(), data.class_names) == (expected, names)
        assert len(data.notes) == (word is not None) and all(word in note for note in data.notes)
    if test_labels is None:
        assert read(path, "all").labels is None


@pytest.mark.parametrize("kind", [csv, jsonl, parquet])
def test_rows_of_a_table_without_a_label_are_left_out_where_others_have_one(tmp_path: Path, kind: Any) -> None:
    nothing = "" if kind is csv else None
    path = kind(tmp_path, ["a", "b", "a", "b", nothing, nothing])
    assert read(path, "test").labels is None and "test" in read(path).notes[0]
    path = kind(tmp_path, ["a", nothing, nothing, "b", "a", "b"])
    train = read(path, "train")
    assert train.labels.tolist() == [0, 1] and np.array_equal(train.images[..., 0], IMAGES[[0, 3]])
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
    path = hub_table(
        tmp_path / "own" / "train-00000-of-00001.parquet", FILES[:4], [1, 0, 1, 0], ["zebra", "ant"]
    ).parent
    hub_table(path / "test-00000-of-00001.parquet", FILES[:2], [-1, -1], ["zebra", "ant"])
    train, test = read(path, "train"), read(path, "test")
    assert train.labels.tolist() == [1, 0, 1, 0] and test.labels is None and "-1" in test.notes[0]
    hub_table(path / "validation-00000-of-00001.parquet", FILES[:3], [0, 1, 1], ["zebra", "ant"])
    test = read(path, "test")
    assert test.labels.tolist() == [0, 1, 1] and "validation" in test.notes[0]
    (path / "validation-00000-of-00001.parquet").unlink()
    hub_table(path / "test-00000-of-00001.parquet", FILES[:3], [0, -1, 1], ["zebra", "ant"])
    test = read(path, "test")
    assert test.labels.tolist() == [0, 1] and "1 of 3" in test.notes[0] and "#1" in test.notes[0]


def test_what_is_trained_on_hidden_labels_is_embedded_and_compared_with_nothing(
    tmp_path: Path, small_networks: None
) -> None:
    path, out = npz(tmp_path, [0, 1, 0, 1, -1, -1]), tmp_path / "run"
    how = ("--iterations", 2, "--log-every", 1, "--batch-size", 2, "--device", "cpu")
    assert softvq("train", "--data", path, *how, "-o", out).code == 0
    ended = softvq("embed", out, "--split", "test", "-o", tmp_path / "t.npy")
    assert (ended.code, ended.err.count("other classes")) == (0, 0) and not (tmp_path / "t.labels.npy").exists()
    softvq("sweep", "--data", path, "--over", "K=2", *how, "-o", tmp_path / "s").refused(3, " a ")
