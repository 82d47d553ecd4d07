"""Data that are easily misinterpreted: they are read correctly, with a note, or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import encoded, grey_files, make_tar, make_zip, pixels, read, unusable, write_folder

FILES = [encoded(pixels(seed)) for seed in range(8)]


def table(path: Path, rows: list[int], **columns: list[Any]) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [FILES[row] for row in rows], "label": [row % 2 for row in rows]} | columns
    if path.suffix == ".arrow":
        with pa.ipc.new_stream(str(path), pa.table(columns).schema) as file:
            file.write_table(pa.table(columns))
    else:
        pq.write_table(pa.table(columns), path)
    return path


def numbers(data: Any) -> list[int]:
    """The indices of these images."""
    return [next(seed for seed in range(99) if np.array_equal(image[..., 0], pixels(seed))) for image in data.images]


# ---- splits in the names of files

NAMED = [
    "leaf-{}.parquet",
    "leaf-{}.arrow",
    "leaf-{}-00000-of-00001.parquet",
    "leaf_{}.parquet",
    "data/leaf-{}.parquet",
    "{}/leaf.parquet",
    "leaf-{}-000000.tar",
    "leaf-{}.tar.gz",
]


@pytest.mark.parametrize("name", NAMED)
def test_splits_in_the_names_of_files_that_share_words(tmp_path: Path, name: str) -> None:
    for split, rows in (("train", [0, 1, 2, 3]), ("test", [4, 5])):
        path = tmp_path / "own" / name.format(split)
        if ".tar" in name:
            files = {f"{row}.png": FILES[row] for row in rows} | {f"{row}.cls": str(row % 2).encode() for row in rows}
            path.parent.mkdir(exist_ok=True)
            make_tar(path, dict(sorted(files.items())), "w:gz" if name.endswith("gz") else "w")
        else:
            table(path, rows)
    assert numbers(read(tmp_path / "own", "train")) == [0, 1, 2, 3] and numbers(read(tmp_path / "own", "test")) == [
        4,
        5,
    ]
    if name == NAMED[6]:
        assert numbers(read(tmp_path / "own" / "leaf-{train,test}-000000.tar", "test")) == [4, 5]


def test_a_shard_that_is_missing_is_said(tmp_path: Path) -> None:
    for number, rows in enumerate(([0, 1], [2, 3])):
        table(tmp_path / f"train-0000{number}-of-00003.parquet", rows)
    (note,) = (note for note in read(tmp_path).notes if "of 3" in note)
    assert "train" in note and "2" in note


# ---- what does not belong together

APART = {
    "configurations": ["small/train-0.parquet", "large/train-0.parquet"],
    "configurations of refs/convert": ["small/train/0000.parquet", "large/train/0000.parquet"],
    "classes": ["cat/data.parquet", "dog/data.parquet"],
    "partitions": ["label=cat/part-0.parquet", "label=dog/part-0.parquet"],
    "a second download": ["train-0.parquet", "train-0 (1).parquet"],
}


@pytest.mark.parametrize("case", APART)
def test_tables_that_do_not_belong_together_are_refused(tmp_path: Path, case: str) -> None:
    for name in APART[case]:
        table(tmp_path / name, [0, 1, 2])
    folders = case != "a second download"
    unusable(tmp_path, *([name.split("/")[0] for name in APART[case]] if folders else APART[case][1:]))


@pytest.mark.parametrize("outer", ["", "{}/", "./"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_for_each_split(tmp_path: Path, suffix: str, outer: str) -> None:
    make_own = make_zip if suffix == ".zip" else make_tar
    (tmp_path / "own").mkdir()
    for split, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        files = {f"{outer.format(split)}{'cat' if seed % 2 else 'dog'}/{seed}.png": FILES[seed] for seed in seeds}
        make_own(tmp_path / "own" / f"{split}{suffix}", files)
    train, test = read(tmp_path / "own", "train"), read(tmp_path / "own", "test")
    assert (numbers(train), train.class_names, test.class_names) == ([1, 0, 2], ("cat", "dog"), ("cat", "dog"))
    assert numbers(test) == [3, 4] and test.labels.tolist() == [0, 1]


# ---- labels

NO_LABELS = {
    "lists": [[0], [1], [0]],
    "lists of text": [["a"], ["b"], ["a"]],
    "objects": [{"a": 1}, {"a": 2}, {"a": 1}],
    "fractions": [0.25, 0.5, 0.75],
    "fractions as text": ["0.25", "0.5", "1.0"],
}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("case", NO_LABELS)
def test_lists_objects_and_fractions_are_no_labels(tmp_path: Path, case: str, kind: str) -> None:
    labels, path = NO_LABELS[case], tmp_path / f"a.{kind}"
    if kind == "csv" and not case.startswith("fractions"):
        pytest.skip("a .csv has text and numbers only")
    write_folder(tmp_path, {f"{row}.png": FILES[row] for row in range(3)})
    rows = [{"path": f"{row}.png", "label": label} for row, label in enumerate(labels)]
    if kind == "parquet":
        table(path, [0, 1, 2], label=labels)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("\n".join(["path,label", *(f"{row['path']},{row['label']}" for row in rows)]))
    unusable(path, str(path), "label_column")
    assert read(path, label_column="none").labels is None


LABELS = {
    "text": (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
    "true and false": ([True, False, True], ("False", "True"), [1, 0, 1]),
    "whole floats": ([2.0, 10.0, 2.0], ("2", "10"), [0, 1, 0]),
    "whole floats as text": (["2.0", "10.0", "2.0"], ("2", "10"), [0, 1, 0]),
    "nothing at all": ([None, None, None], (), None),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_every_kind_in_a_parquet(tmp_path: Path, case: str) -> None:
    labels, names, expected = LABELS[case]
    data = read(table(tmp_path / "a.parquet", [0, 1, 2], label=labels))
    assert data.class_names == names and (None if data.labels is None else data.labels.tolist()) == expected


def test_a_place_in_the_image_is_no_label(tmp_path: Path) -> None:
    columns = {"x": [1, 2, 3], "y": [4, 5, 4], "image": FILES[:3]}
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").labels is None
    assert read(tmp_path / "a.parquet", label_column="y").class_names == ("4", "5")


def test_classes_that_only_the_test_split_has_and_nearly_equal_names_are_said(tmp_path: Path) -> None:
    split = ["train"] * 4 + ["test"] * 2
    data = read(
        table(tmp_path / "a.parquet", list(range(6)), label=["Cat", "cat", "dog", "dog", "cat", "emu"], split=split)
    )
    assert len(data.notes) == 2
    assert data.notes[0].endswith(": emu") and "'Cat' and 'cat'" in data.notes[1]


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
@pytest.mark.parametrize("ending", [".txt", ".json"])
def test_texts_next_to_images_are_passed_over_in_an_archive_as_in_its_folder(
    tmp_path: Path, form: str, ending: str
) -> None:
    files = {f"{kind}/{row}.png": FILES[row] for row, kind in enumerate(("cat", "dog", "cat"))}
    files |= {name.replace(".png", ending): b'{"label": "x"}' for name in files}
    path = {"folder": write_folder, "zip": make_zip, "tar": make_tar}[form](tmp_path / f"a.{form}", files)
    data = read(path)
    assert data.class_names == ("cat", "dog") and len(data) == 3 and f"cat/0{ending}" in data.notes[0]


# ---- wrong picture or wrong word


def test_images_that_are_called_like_documents_are_images(tmp_path: Path) -> None:
    names = ("LICENSE", "license_plate_01.jpg", "notice-3.png", "readme.txt")
    data = read(write_folder(tmp_path, dict.fromkeys(names, FILES[0])))
    assert data.file_names == names[1:3] and "LICENSE, readme.txt" in data.notes[0]


def test_a_folder_called_as_a_known_data_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "digits", grey_files(["1.png", "2.png"]))
    monkeypatch.chdir(tmp_path)
    assert len(read("digits")) == 1797 and "./digits" in read("digits").notes[0]
    assert len(read("./digits")) == 2


@pytest.mark.parametrize("place", ["row", "table", "list", "archive"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    if place == "row":
        path, odd = tmp_path / "a.csv", "pipe.png"
        path.write_text("path\npipe.png\n")
    elif place == "table":
        path, odd = table(tmp_path / "a.parquet", [0, 1], image=["/dev/zero", "pipe.png"]), "/dev/zero"
    else:
        path = tmp_path / ("b.csv" if place == "list" else "b.zip")
        odd = path.name
        os.mkfifo(path)
    unusable(path, odd)


def test_the_files_that_a_table_names_belong_to_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTVQ_CACHE", str(tmp_path / "cache"))
    for row in (0, 1):
        (tmp_path / f"{row}.png").write_bytes(FILES[row])
    for image in (["0.png", "1.png"], [{"bytes": None, "path": "0.png"}, {"bytes": FILES[1], "path": "x"}]):
        path = table(tmp_path / "a.parquet", [0, 1], image=image)
        assert numbers(read(path)) == [0, 1]
        (tmp_path / "0.png").write_bytes(FILES[5])
        assert numbers(read(path)) == [5, 1]
        (tmp_path / "0.png").write_bytes(FILES[0])
    (tmp_path / "0.png").unlink()
    unusable(path, "0.png")


# ---- doors


def test_ids_without_an_ending_name_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"train/{name}.jpg": encoded(pixels(seed), "JPEG") for seed, name in enumerate("abc")})
    (tmp_path / "labels.csv").write_text("id,breed\nb,pug\na,pug\nc,poodle\n")
    data = read(tmp_path / "labels.csv", label_column="breed")
    assert data.file_names == ("train/b.jpg", "train/a.jpg", "train/c.jpg") and data.labels.tolist() == [1, 1, 0]
    unusable(tmp_path, "labels.csv")
    write_folder(tmp_path, {"test/a.jpg": encoded(pixels(9), "JPEG")})
    unusable(tmp_path / "labels.csv", "train/a.jpg", "test/a.jpg", label_column="breed")


def test_shards_of_img2dataset(tmp_path: Path) -> None:
    for shard in (0, 1):
        files: dict[str, bytes] = {}
        for row in range(2 * shard, 2 * shard + 2):
            name = f"{row:09}"
            files |= {f"{name}.jpg": encoded(pixels(row), "JPEG"), f"{name}.json": b'{"caption": "a cat", "url": "x"}'}
            files |= {f"{name}.txt": b"a cat"}
        make_tar(tmp_path / f"0000{shard}.tar", files)
        (tmp_path / f"0000{shard}_stats.json").write_text("{}")
        (tmp_path / f"0000{shard}.parquet").write_bytes(b"PAR1")
    data = read(tmp_path, label_column="none")
    assert len(data) == 4 and data.labels is None and data.file_names[2] == "00001.tar/000000002.jpg"


def test_names_of_samples_with_dots(tmp_path: Path) -> None:
    files = {}
    for row in range(3):
        files |= {f"img.v1.{row}.png": FILES[row], f"img.v1.{row}.cls": str(row % 2).encode()}
    data = read(make_tar(tmp_path / "a.tar", files))
    assert data.labels.tolist() == [0, 1, 0] and numbers(data) == [0, 1, 2]


def test_the_metadata_of_a_folder_as_a_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_folder(tmp_path, {f"{row}.png": FILES[row] for row in range(3)})
    columns = {"file_name": ["0.png", "1.png", "2.png"], "label": ["b", "a", "b"]}
    pq.write_table(pa.table(columns), tmp_path / "metadata.parquet")
    data = read(tmp_path)
    assert data.class_names == ("a", "b") and data.labels.tolist() == [1, 0, 1]
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1 and no more")
    unusable(tmp_path, "metadata.parquet")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
ELSEWHERE = {
    "a.h5": "numpy.savez",
    "a.7z": "unpack",
    "a.tfrecord": "WebDataset",
    "a.mdb": "WebDataset",
    "a.zip": "git lfs pull",
    "a.parquet": "git lfs pull",
    "train.tfrecord-00000-of-00010": "WebDataset",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_not_read_here_is_refused_with_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(POINTER)
    unusable(tmp_path / name, name, ELSEWHERE[name])
    if "git" not in ELSEWHERE[name]:
        unusable(tmp_path, name, ELSEWHERE[name])
