"""softvq issues on folders with known issues."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import softvq


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Three classes; one test image is a copy of a training image, one image has two classes, one is constant."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog", "cow"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    train, test = tmp_path / "photos/train", tmp_path / "photos/test"
    shutil.copy(train / "cat/1.png", test / "cat/copy.png")
    shutil.copy(train / "dog/2.png", train / "cow/copy.png")
    Image.new("RGB", (16, 16), (9, 9, 9)).save(train / "dog/empty.png")
    return tmp_path / "photos"


def files(groups: list[list[dict[str, str]]]) -> list[set[str]]:
    return [{file["file"] for file in group} for group in groups]


def test_planted_issues_are_found_with_their_files(planted: Path, tmp_path: Path):
    ended = softvq("issues", planted, "-o", tmp_path / "issues.csv", "--json").done()
    found = ended.document
    copies = [{"train/cat/1.png", "test/cat/copy.png"}, {"train/dog/2.png", "train/cow/copy.png"}]
    assert sorted(map(sorted, files(found["exact_duplicates"]))) == sorted(map(sorted, copies))
    assert files(found["leaks"]) == copies[:1]
    assert files(found["class_conflicts"]) == copies[1:]
    assert [file["file"] for file in found["constant"]] == ["train/dog/empty.png"]
    assert found["near_duplicates"] == []
    with (tmp_path / "issues.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["file"] for line in lines if line["kind"] == "leaks"} == copies[0]
    assert {line["class"] for line in lines if line["kind"] == "class_conflicts"} == {"dog", "cow"}


def test_images_of_several_sizes_are_compared_and_odd_sizes_named(planted: Path):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 20, 3), np.uint8)).save(
        planted / "train/cat/tall.png"
    )
    ended = softvq("issues", planted, "--json").done()
    assert [file["file"] for file in ended.document["odd_size"]] == ["train/cat/tall.png"]
    assert len(ended.document["exact_duplicates"]) == 2


def test_of_vectors_what_needs_no_picture_is_looked_for(tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(40, 4))
    rows[[3, 30]] = rows[5]
    np.savez(tmp_path / "z.npz", x_train=rows[:30], x_test=rows[30:])
    found = softvq("issues", tmp_path / "z.npz", "--json").document
    assert files(found["exact_duplicates"]) == files(found["leaks"]) == [{"train/3", "train/5", "test/0"}]
    assert not {"near_duplicates", "dark", "odd_size"} & set(found)


def test_nothing_is_overwritten_and_only_csv_is_written(planted: Path, tmp_path: Path):
    (tmp_path / "old.csv").write_text("mine", encoding="utf-8")
    softvq("issues", planted, "-o", tmp_path / "old.csv").refused(4, "old.csv")
    assert (tmp_path / "old.csv").read_text(encoding="utf-8") == "mine"
    softvq("issues", planted, "-o", tmp_path / "issues.txt").refused(2, ".csv")


def test_with_a_run_outliers_and_labels_are_looked_at(tmp_path: Path, small_networks: None):
    run = tmp_path / "run"
    options = ("-b", "ae", "--iterations", "100", "--device", "cpu")
    softvq("train", "--data", "digits", *options, "--out", run, "-q").done()
    ended = softvq("issues", "digits", "--run", run, "--json").done()
    found = ended.document
    assert all(0 <= file["score"] <= 1 for file in found["outliers"])
    assert all(file["suggested_class"] != file["class"] for file in found["doubted_labels"])


def test_labels_that_no_probe_can_predict_are_not_checked(tmp_path: Path, small_networks: None):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "z.npz", x=draw.normal(size=(200, 4)), y=draw.integers(0, 4, 200))
    run = tmp_path / "run"
    options = ("--iterations", "5", "--device", "cpu")
    softvq("train", "--data", tmp_path / "z.npz", *options, "--out", run, "-q").done()
    ended = softvq("issues", tmp_path / "z.npz", "--run", run, "--json")
    assert "doubted_labels" not in ended.document and "outliers" in ended.document
