"""Tables and lists: Parquet and Arrow as written by ``datasets`` and pyarrow, .csv, .tsv, .jsonl and metadata files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import encoded, grey_files, make_zip, pixels, read, unusable, write_folder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")

IMAGES = np.stack([pixels(seed) for seed in range(10)])
FILES = [encoded(image) for image in IMAGES]
LABELS = [number % 2 for number in range(10)]


def write(path: Path, rows: slice = slice(None), **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: values[rows] for name, values in columns.items()}), path)
    return path


def rows_of(images: np.ndarray) -> list[int]:
    """The indices of these images in IMAGES."""
    return [int((image[..., 0] == IMAGES).all(axis=(1, 2)).argmax()) for image in images]


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_images_in_a_parquet(tmp_path: Path, kind: str) -> None:
    cells = [{"bytes": data, "path": None} for data in FILES] if kind == "struct" else FILES
    data = read(write(tmp_path / "own.parquet", image=cells, label=LABELS))
    assert data.name == "own" and np.array_equal(data.images[..., 0], IMAGES)
    assert data.labels.tolist() == LABELS and data.class_names == ("0", "1") and data.notes == ()
    assert data.file_names[3] == "own.parquet#3"


def test_splits_from_a_column(tmp_path: Path) -> None:
    split = ["test", "train", "train", "val", "train"] * 2
    data = read(write(tmp_path / "a.parquet", png=FILES, y=LABELS, split=split), "test")
    assert rows_of(data.images) == [0, 5]
    assert len(data.notes) == 1 and "validation (2 " in data.notes[0]


def test_several_files_of_one_split_keep_their_order(tmp_path: Path) -> None:
    for number, rows in enumerate((slice(0, 3), slice(3, 7), slice(7, 10))):
        write(tmp_path / "own" / f"train-0000{number}-of-00003.parquet", rows, image=FILES, label=LABELS)
    data = read(tmp_path / "own")
    assert rows_of(data.images) == list(range(10))
    assert len(data.notes) == 1 and "train" in data.notes[0]


def test_columns_that_are_not_plain_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", front=FILES, back=FILES[::-1], what=["cat", "dog"] * 5)
    unusable(path, "image_column", "front, back, what")
    data = read(path, image_column="back")
    assert data.labels is None and "label_column" in data.notes[0] and "front, what" in data.notes[0]
    data = read(path, image_column="back", label_column="what")
    assert data.class_names == ("cat", "dog") and rows_of(data.images) == list(range(10))[::-1]
    assert len(data.notes) == 1 and "front" in data.notes[0]
    unusable(path, "'wat'", "label_column", "front, back, what", image_column="back", label_column="wat")


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
    unusable(write(tmp_path / "a.parquet", **columns), "a.parquet", *words.split())


def test_a_parquet_that_is_damaged_anywhere_is_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", image=FILES, label=LABELS).read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path / "a.parquet").write_bytes(whole[:end])
        unusable(tmp_path / "a.parquet", "a.parquet")


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
    write(tmp_path / "a.parquet", image=FILES)
    write_folder(tmp_path, grey_files(["1.png"]))
    unusable(tmp_path, "a.parquet", "1.png")


# ---- as ``datasets`` itself writes them


def test_what_datasets_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hf = pytest.importorskip("datasets")
    hf.disable_progress_bars()
    features = {"picture": hf.Image(), "kind": hf.ClassLabel(names=["zebra", "ant"]), "id": hf.Value("int8")}
    columns = {"picture": [Image.fromarray(image) for image in IMAGES], "kind": LABELS, "id": list(range(10))}
    dataset = hf.Dataset.from_dict(columns, features=hf.Features(features))
    parts = {"train": dataset.select(range(6)), "test": dataset.select(range(6, 10))}
    hf.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    dataset.save_to_disk(tmp_path / "whole")
    for split, part in parts.items():
        part.to_parquet(tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    for name in ("saved", "hub"):
        train, test = read(tmp_path / name, "train"), read(tmp_path / name, "test")
        assert rows_of(train.images) == list(range(6)) and test.labels.tolist() == LABELS[6:]
        assert test.class_names == ("zebra", "ant")  # the numbering of its features, not of the alphabet
        assert len(test.notes) == 1 and test.notes[0].endswith(": id")
    assert rows_of(read(tmp_path / "whole").images) == list(range(10))


# ---- lists


def lines(kind: str, rows: list[dict[str, Any]]) -> str:
    if kind == "jsonl":
        return "\n".join(map(json.dumps, rows))
    mark = "\t" if kind == "tsv" else ";" if kind == "csv;" else ","
    return "\n".join(mark.join(map(str, row)) for row in ([*rows[0]], *(row.values() for row in rows)))


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
    path.write_text("\ufeff" + lines(kind, rows), encoding="utf-8")
    data = read(path, "test")
    assert data.name == "own" and rows_of(data.images) == [2, 7]
    assert data.class_names == ("ant", "bee") and data.labels.tolist() == [1, 0]
    assert data.file_names == ("pics/2.png", "pics/7.png") and data.notes == ()


def test_one_file_on_two_rows(tmp_path: Path) -> None:
    write_folder(tmp_path, {"0.png": FILES[0], "1.png": FILES[1]})
    (tmp_path / "a.csv").write_text("path,label\n0.png,x\n1.png,y\n0.png,y\n")
    data = read(tmp_path / "a.csv")
    assert rows_of(data.images) == [0, 1, 0] and data.labels.tolist() == [0, 1, 1]
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


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_metadata_file_of_an_image_folder(tmp_path: Path, kind: str, packed: bool) -> None:
    rows = [{"file_name": f"{number}.png", "label": ("bee", "ant")[label]} for number, label in enumerate(LABELS)]
    files = {f"train/{number}.png": FILES[number] for number in range(6)}
    files |= {f"test/{number}.png": FILES[number] for number in range(6, 10)}
    files |= {
        f"train/metadata.{kind}": lines(kind, rows[:6]).encode(),
        f"test/metadata.{kind}": lines(kind, rows[6:]).encode(),
    }
    path = make_zip(tmp_path / "a.zip", files) if packed else write_folder(tmp_path / "a", files)
    train, test = read(path, "train"), read(path, "test")
    assert rows_of(train.images) == list(range(6)) and rows_of(test.images) == list(range(6, 10))
    assert train.class_names == ("ant", "bee") and train.labels.tolist() == [1 - label for label in LABELS[:6]]


def test_images_that_the_metadata_leave_out_are_named(tmp_path: Path) -> None:
    files = {f"{number}.png": FILES[number] for number in range(4)}
    rows = [{"file_name": f"{number}.png", "label": number % 2} for number in range(3)]
    data = read(write_folder(tmp_path, files | {"metadata.csv": lines("csv", rows).encode()}))
    assert rows_of(data.images) == [0, 1, 2]
    assert len(data.notes) == 1 and data.notes[0].endswith(": 3.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,1\n1.png,2\n0.png,2\n")
    assert rows_of(read(tmp_path).images) == [0, 0, 1] and read(tmp_path).labels.tolist() == [0, 1, 1]
    (tmp_path / "metadata.csv").write_text("file_name,label\n8.png,1\n")
    unusable(tmp_path, "metadata.csv", "8.png")


def test_an_empty_column_of_labels_is_said_to_be_empty(tmp_path: Path) -> None:
    write_folder(tmp_path, {"0.png": FILES[0], "1.png": FILES[1]})
    (tmp_path / "a.csv").write_text("path,label\n0.png,\n1.png,\n")
    data = read(tmp_path / "a.csv")
    assert data.labels is None and len(data.notes) == 1
