"""Tables and lists: Parquet and Arrow as written by ``datasets`` and pyarrow, .csv, .tsv, .jsonl and metadata files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers import (
    encoded,
    grey_files,
    make_tar,
    make_zip,
    parquet,
    pixels,
    read,
    rows_text,
    seeds_of,
    seen,
    unusable,
    write_folder,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")

FILES = [encoded(pixels(seed)) for seed in range(10)]
LABELS = [number % 2 for number in range(10)]


def write(path: Path, rows: list[int], **columns: Any) -> Path:
    """The images of these rows with their labels, and more columns."""
    images = {"image": [FILES[row] for row in rows], "label": [LABELS[row] for row in rows]}
    return parquet(path, **images | columns)


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_images_in_a_parquet(tmp_path: Path, kind: str) -> None:
    cells = [{"bytes": data, "path": None} for data in FILES] if kind == "struct" else FILES
    data = read(parquet(tmp_path / "own.parquet", image=cells, label=LABELS))
    assert data.name == "own" and seen(data) == ([*range(10)], LABELS, ("0", "1")) and data.notes == ()
    assert data.file_names[3] == "own.parquet#3"


def test_splits_from_a_column(tmp_path: Path) -> None:
    split = ["test", "train", "train", "val", "train"] * 2
    data = read(parquet(tmp_path / "a.parquet", png=FILES, y=LABELS, split=split), "test")
    assert seeds_of(data) == [0, 5]
    assert len(data.notes) == 1 and "validation (2 " in data.notes[0]


@pytest.mark.parametrize("present", [3, 2])
def test_several_files_of_one_split_keep_their_order(tmp_path: Path, present: int) -> None:
    parts = ([0, 1, 2], [3, 4, 5, 6], [7, 8, 9])[:present]
    for number, rows in enumerate(parts):
        write(tmp_path / "own" / f"train-0000{number}-of-00003.parquet", rows)
    data = read(tmp_path / "own")
    assert seeds_of(data) == [row for rows in parts for row in rows]
    assert len(data.notes) == 1 + (present < 3) and all("train" in note for note in data.notes)
    assert any(f"only {present} of 3" in note for note in data.notes) == (present < 3)


def test_columns_that_are_not_plain_are_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", front=FILES, back=FILES[::-1], what=["cat", "dog"] * 5)
    unusable(path, "image_column", "front, back, what")
    data = read(path, image_column="back")
    assert data.labels is None and "label_column" in data.notes[0] and "front, what" in data.notes[0]
    data = read(path, image_column="back", label_column="what")
    assert data.class_names == ("cat", "dog") and seeds_of(data) == [*range(10)][::-1]
    assert len(data.notes) == 1 and "front" in data.notes[0]
    unusable(path, "'wat'", "label_column", "front, back, what", image_column="back", label_column="wat")


@pytest.mark.parametrize("other", ["x", "X", "x1", "cx", "xmin", "x_max", "center_x", "index"])
def test_a_place_in_the_image_is_no_label(tmp_path: Path, other: str) -> None:
    path = parquet(tmp_path / "a.parquet", **{other: [1, 2, 3]}, y=[4, 5, 4], image=FILES[:3])
    assert (read(path).labels is None) == (other != "index") and read(path, label_column="y").class_names == ("4", "5")


REFUSED = {
    "no bytes": ({"image": [1, 2]}, "image int64"),
    "an image that is none": ({"image": [b"x", FILES[0]]}, "#0"),
    "an empty cell": ({"image": [None, FILES[0]]}, "row 0"),
    "labels of two kinds": ({"image": FILES[:2], "label": [0.5, 1.0]}, "labels"),
    "a split that is none": ({"image": FILES[:2], "split": ["a", "b"]}, "'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    columns, words = REFUSED[case]
    unusable(parquet(tmp_path / "a.parquet", **columns), "a.parquet", *words.split())


def test_a_parquet_that_is_damaged_anywhere_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [*range(10)])
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        unusable(path, "a.parquet")


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("place", ["column", "cell"])
def test_text_that_is_not_utf_8(tmp_path: Path, ending: str, place: str) -> None:
    table, path = pa.table({"image": FILES, "label": ["a~~"] * 10}), tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(table, path, compression="none")
    else:
        feather.write_feather(table, path, compression="uncompressed")
    text = b"label" if place == "column" else b"a~~"
    path.write_bytes(path.read_bytes().replace(text, b"\xa3" * len(text)))
    unusable(path, path.name)


def test_tables_beside_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    unusable(write_folder(tmp_path, grey_files(["1.png"])), "a.parquet", "1.png")


def test_the_files_that_a_table_names_belong_to_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTVQ_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path, {"0.png": FILES[0], "1.png": FILES[1]})
    structs = [{"bytes": None, "path": "0.png"}, {"bytes": FILES[1], "path": "x"}]
    for image in (["0.png", "1.png"], structs, [{"bytes": None, "path": f"{row}.png"} for row in range(2)]):
        path = parquet(tmp_path / "a.parquet", image=image)
        assert seeds_of(read(path)) == [0, 1]
        (tmp_path / "0.png").write_bytes(FILES[5])
        assert seeds_of(read(path)) == [5, 1]
        (tmp_path / "0.png").write_bytes(FILES[0])
    (tmp_path / "0.png").unlink()
    unusable(path, "0.png")


@pytest.mark.parametrize("place", ["row", "table", "list", "archive"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    if place == "row":
        path, odd = tmp_path / "a.csv", "pipe.png"
        path.write_text("path\npipe.png\n")
    elif place == "table":
        path, odd = parquet(tmp_path / "a.parquet", image=["/dev/zero", "pipe.png"]), "/dev/zero"
    else:
        path = tmp_path / ("b.csv" if place == "list" else "b.zip")
        odd = path.name
        os.mkfifo(path)
    unusable(path, odd)


def test_what_datasets_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hf = pytest.importorskip("datasets")
    hf.disable_progress_bars()
    features = {"picture": hf.Image(), "kind": hf.ClassLabel(names=["zebra", "ant"]), "id": hf.Value("int8")}
    columns = {"picture": [Image.fromarray(pixels(seed)) for seed in range(10)], "kind": LABELS, "id": [*range(10)]}
    dataset = hf.Dataset.from_dict(columns, features=hf.Features(features))
    parts = {"train": dataset.select(range(6)), "test": dataset.select(range(6, 10))}
    hf.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    dataset.save_to_disk(tmp_path / "whole")
    for split, part in parts.items():
        part.to_parquet(tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    for name in ("saved", "hub"):
        train, test = read(tmp_path / name, "train"), read(tmp_path / name, "test")
        assert seeds_of(train) == [*range(6)] and test.labels.tolist() == LABELS[6:]
        assert test.class_names == ("zebra", "ant")  # the numbering of its features, not of the alphabet
        assert len(test.notes) == 1 and test.notes[0].endswith(": id")
    assert seeds_of(read(tmp_path / "whole")) == [*range(10)]


# ---- splits in the names of files, and what does not belong together

NAMED = [
    *("leaf-{}.parquet", "leaf-{}.arrow", "leaf-{}-00000-of-00001.parquet", "leaf_{}.parquet"),
    *("data/leaf-{}.parquet", "{}/leaf.parquet", "leaf-{}-000000.tar", "leaf-{}.tar.gz"),
    *("leaf-{}-v1.parquet", "{}/00000.tar", "{}/shard-000001.tar", "{}/leaf.tar.gz"),
]


@pytest.mark.parametrize("name", NAMED)
def test_splits_in_the_names_of_files_that_share_words(tmp_path: Path, name: str) -> None:
    for split, rows in (("train", [0, 1, 2, 3]), ("test", [4, 5])):
        path = tmp_path / "own" / name.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        if ".tar" in name:
            files = {f"{row}.png": FILES[row] for row in rows} | {f"{row}.cls": str(row % 2).encode() for row in rows}
            make_tar(path, dict(sorted(files.items())), "w:gz" if name.endswith("gz") else "w")
        else:
            write(path, rows)
    assert seeds_of(read(tmp_path / "own", "train")) == [0, 1, 2, 3]
    assert seeds_of(read(tmp_path / "own", "test")) == [4, 5]
    if name.endswith("0.tar"):
        pattern = name.format("{train,test}")
        assert seeds_of(read(tmp_path / "own" / pattern, "test")) == [4, 5]


@pytest.mark.parametrize("names", ["leaf-train rose-test", "trainLeaf testLeaf", "leafTrain leafTest"])
def test_a_split_is_found_among_the_words_of_a_file(tmp_path: Path, names: str) -> None:
    train, test = names.split()
    write(tmp_path / f"{train}.parquet", [0, 1, 2, 3])
    write(tmp_path / f"{test}.parquet", [4, 5])
    assert (seeds_of(read(tmp_path, "train")), seeds_of(read(tmp_path, "test"))) == ([0, 1, 2, 3], [4, 5])


APART = {
    "configurations": (["small/train-0.parquet", "large/train-0.parquet"], "small large"),
    "configurations of refs/convert": (["small/train/0000.parquet", "large/train/0000.parquet"], "small large"),
    "classes": (["cat/data.parquet", "dog/data.parquet"], "cat dog"),
    "partitions": (["label=cat/part-0.parquet", "label=dog/part-0.parquet"], "label=cat label=dog"),
    "a second download": (["train-0.parquet", "train-0 (1).parquet"], "(1).parquet"),
    "two second downloads": (["train (1).parquet", "train (2).parquet"], "(1).parquet (2).parquet"),
    "a numbered copy": (["train-0-of-1.parquet", "train-0-of-1_1.parquet"], "train-0-of-1_1.parquet"),
    "another form": (["train.parquet", "train.arrow"], "train.parquet train.arrow"),
    "another case": (["train.parquet", "TRAIN.parquet"], "train.parquet TRAIN.parquet"),
    "a copy": (["train.parquet", "train - Copy.parquet"], "Copy"),
    "classes of files": (["train_cat.parquet", "train_dog.parquet", "test_cat.parquet"], "train_cat train_dog"),
    "classes in other letters": (["猫.parquet", "狗.parquet"], "猫 狗"),
    "configurations of files": (["small-train.parquet", "full-train.parquet", "full-test.parquet"], "small full"),
    "configurations of folders": (["small_train/0.parquet", "full_train/0.parquet", "test/0.parquet"], "small full"),
    "other words for splits": (["leaf_tr.parquet", "leaf_te.parquet"], "leaf_tr leaf_te"),
}


@pytest.mark.parametrize("case", APART)
def test_tables_that_do_not_belong_together_are_refused(tmp_path: Path, case: str) -> None:
    names, words = APART[case]
    for name in names:
        write(tmp_path / name, [0, 1, 2])
    unusable(tmp_path, *words.split())


def test_rows_that_several_files_have_are_counted(tmp_path: Path) -> None:
    for name in ("data", "data_1"):
        write(tmp_path / f"{name}.parquet", [0, 1, 2, int(name == "data_1") + 3])
    assert any(note.startswith("3 of 8 ") for note in read(tmp_path).notes)


def test_folders_that_may_be_classes_are_said(tmp_path: Path) -> None:
    parquet(tmp_path / "label=cat" / "part-0.parquet", image=FILES[:4])
    assert any(note.endswith(": label=cat") for note in read(tmp_path).notes)


def test_a_file_that_is_left_out_later_is_said(tmp_path: Path) -> None:
    for split, rows, count in (("train", [0, 1, 2], 0), ("test", [3, 4], 0), ("extra", [5, 6], 1)):
        write(tmp_path / f"{split}-0-of-1.parquet", rows)
        assert sum("extra" in note for note in read(tmp_path).notes) == count


def test_shards_may_be_pooled_by_a_pattern(tmp_path: Path) -> None:
    for number, name in enumerate(("small", "large")):
        make_tar(tmp_path / f"{name}.tar", {f"{number}.png": FILES[number], f"{number}.cls": b"1"})
    assert seeds_of(read(tmp_path / "{small,large}.tar")) == [0, 1]
    unusable(tmp_path, "small", "large")


# ---- lists


@pytest.mark.parametrize("kind", ["csv", "csv;", "tsv", "jsonl"])
@pytest.mark.parametrize("column", ["path", "file_name", "image"])
def test_a_list_of_paths(tmp_path: Path, kind: str, column: str) -> None:
    write_folder(tmp_path / "pics", {f"{number}.png": data for number, data in enumerate(FILES)})
    split = ["train", "train", "test", "train", "train"] * 2
    rows = [
        {column: f"pics/{number}.png", "label": ("bee", "ant")[label], "split": part}
        for number, (label, part) in enumerate(zip(LABELS, split, strict=True))
    ]
    path = tmp_path / f"own.{kind.strip(';')}"
    path.write_text("\ufeff" + rows_text(kind, rows), encoding="utf-8")
    data = read(path, "test")
    assert data.name == "own" and seen(data) == ([2, 7], [1, 0], ("ant", "bee"))
    assert data.file_names == ("pics/2.png", "pics/7.png") and data.notes == ()


def test_one_file_on_two_rows(tmp_path: Path) -> None:
    write_folder(tmp_path, {"0.png": FILES[0], "1.png": FILES[1]})
    (tmp_path / "a.csv").write_text("path,label\n0.png,x\n1.png,y\n0.png,y\n")
    data = read(tmp_path / "a.csv")
    assert seen(data) == ([0, 1, 0], [0, 1, 1], ("x", "y"))
    assert len(data.notes) == 1 and data.notes[0].startswith("1 ")


LISTS = {
    "a file that is not there": ("path,label\n9.png,x\n", "9.png"),
    "no header": ("0.png,x\n1.png,y\n", "image_column 0.png"),
    "a short line": ("path,label\n0.png\n", "line 2"),
    "no rows": ("path,label\n", "a.csv"),
    "no text": ("path\n\x00", "a.csv"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    write_folder(tmp_path, {"0.png": FILES[0], "1.png": FILES[1]})
    text, words = LISTS[case]
    (tmp_path / "a.csv").write_text(text)
    unusable(tmp_path / "a.csv", *words.split())


def test_ids_without_an_ending_name_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"train/{name}.jpg": encoded(pixels(seed), "JPEG") for seed, name in enumerate("abc")})
    (tmp_path / "labels.csv").write_text("id,breed\nb,pug\na,pug\nc,poodle\n")
    data = read(tmp_path / "labels.csv", label_column="breed")
    assert data.file_names == ("train/b.jpg", "train/a.jpg", "train/c.jpg") and data.labels.tolist() == [1, 1, 0]
    unusable(tmp_path, "labels.csv")
    write_folder(tmp_path, {"test/a.jpg": encoded(pixels(9), "JPEG")})
    unusable(tmp_path / "labels.csv", "train/a.jpg", "test/a.jpg", label_column="breed")


KAGGLE = {
    "boxes": ("id,label,width,height", "{},{class_},20,30", "ab"),
    "one-hot": ("image_id,healthy,rust,scab", "{},0,1,0", None),
    "file names": ("image_id,label,x,y,w", "{}.png,{class_},1,2,3", "ab"),
    "an id of something else": ("lesion_id,image_id,label,age,size", "7,{},{class_},40,2", "ab"),
}


@pytest.mark.parametrize("case", KAGGLE)
def test_a_list_with_many_numbers_whose_ids_name_files_is_one_of_images(tmp_path: Path, case: str) -> None:
    header, row, names = KAGGLE[case]
    write_folder(tmp_path, {f"train/{name}.png": FILES[seed] for seed, name in enumerate("abc")})
    lines = [row.format(name, class_=class_) for name, class_ in zip("bac", "aba", strict=True)]
    (tmp_path / "train.csv").write_text("\n".join([header, *lines]))
    data = read(tmp_path / "train.csv")
    assert seen(data) == ([1, 0, 2], names and [0, 1, 0], tuple(names or ()))
    (tmp_path / "train").rename(tmp_path.parent / f"{tmp_path.name} elsewhere")
    data = read(tmp_path / "train.csv")
    assert data.of_vectors and any("image_id" in note for note in data.notes) == (case != "boxes")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_metadata_file_of_an_image_folder(tmp_path: Path, kind: str, packed: bool) -> None:
    rows = [{"file_name": f"{number}.png", "label": ("bee", "ant")[label]} for number, label in enumerate(LABELS)]
    files = {f"{'train' if number < 6 else 'test'}/{number}.png": FILES[number] for number in range(10)}
    for split, part in (("train", rows[:6]), ("test", rows[6:])):
        files[f"{split}/metadata.{kind}"] = rows_text(kind, part).encode()
    path = make_zip(tmp_path / "a.zip", files) if packed else write_folder(tmp_path / "a", files)
    train, test = read(path, "train"), read(path, "test")
    assert seen(train) == ([*range(6)], [1 - label for label in LABELS[:6]], ("ant", "bee"))
    assert seeds_of(test) == [*range(6, 10)]


def test_the_metadata_of_a_folder_as_a_parquet(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{row}.png": FILES[row] for row in range(3)})
    path = parquet(tmp_path / "metadata.parquet", file_name=["0.png", "1.png", "2.png"], label=["b", "a", "b"])
    assert seen(read(tmp_path)) == ([0, 1, 2], [1, 0, 1], ("a", "b"))
    path.write_bytes(b"PAR1 and no more")
    unusable(tmp_path, "metadata.parquet")


def test_images_that_the_metadata_leave_out_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{number}.png": FILES[number] for number in range(4)})
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,0\n1.png,1\n2.png,0\n")
    data = read(tmp_path)
    assert seeds_of(data) == [0, 1, 2]
    assert len(data.notes) == 1 and data.notes[0].endswith(": 3.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,1\n1.png,2\n0.png,2\n")
    assert seen(read(tmp_path)) == ([0, 0, 1], [0, 1, 1], ("1", "2"))
    (tmp_path / "metadata.csv").write_text("file_name,label\n8.png,1\n")
    unusable(tmp_path, "metadata.csv", "8.png")


# ---- kinds that are not read

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
ELSEWHERE = {
    "a.h5": "numpy.savez",
    "a.7z": "unpack",
    "a.tfrecord": "WebDataset",
    "a.mdb": "WebDataset",
    "a.7z.001": "unpack",
    "a.zip": "git lfs pull",
    "a.tar": "git lfs pull",
    "metadata.csv": "git lfs pull",
    "a.parquet": "git lfs pull",
    "train.tfrecord-00000-of-00010": "WebDataset",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_not_read_here_is_refused_with_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(POINTER)
    unusable(tmp_path / name, name, ELSEWHERE[name])
    unusable(tmp_path, name, ELSEWHERE[name])


def test_a_kind_is_the_last_ending_only(tmp_path: Path) -> None:
    names = ["cat/photo.h5.bmp", "dog/a.7z.bmp"]
    write_folder(tmp_path, {name: encoded(pixels(seed), "BMP") for seed, name in enumerate(names)})
    assert seen(read(tmp_path)) == ([0, 1], [0, 1], ("cat", "dog"))
