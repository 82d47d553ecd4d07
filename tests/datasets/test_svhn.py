"""SVHN from files to map, in both layouts that are handed on: the authors' .mat files and Hugging Face's tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import PUBLISHED, encoded, pixels, read, softvq

LABELS = {"train": (np.arange(40) % 10).tolist(), "test": (np.arange(20) % 10).tolist(), "extra": [3, 1, 4]}


def images(split: str) -> np.ndarray:
    return pixels(len(split), (len(LABELS[split]), 32, 32, 3))


def hugging_face(folder: Path) -> Path:
    """``cropped_digits`` as the hub has it: a file for each split."""
    import pyarrow as pa
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [*"0123456789"]}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    folder.mkdir()
    for split, labels in LABELS.items():
        rows = [{"bytes": encoded(image), "path": None} for image in images(split)]
        table = pa.table({"image": rows, "label": labels}, schema=schema)
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_hugging_faces_tables_give_the_published_splits(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path / "cropped_digits")
    for split in ("train", "test"):
        data = read(folder, split)
        assert np.array_equal(data.images, images(split)) and data.labels.tolist() == LABELS[split]
        assert data.class_names == tuple("0123456789") and any("extra" in note for note in data.notes)


@pytest.mark.parametrize("layout", ["mat", "tables"])
def test_from_data_to_map(tmp_path: Path, layout: str, published: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if layout == "mat":
        for name, content in PUBLISHED["svhn"].items():
            (tmp_path / name).write_bytes(content)
        data = ["--data", "svhn", "--data-dir", tmp_path]
    else:
        data = ["--data", hugging_face(tmp_path / "cropped_digits")]
    quick = ["--iterations", "2", "--batch-size", "4", "--latent-dim", "8", "--device", "cpu"]
    checkpoint = softvq("train", *data, "--K", "32", *quick).done().out.strip()
    config = json.loads((Path(checkpoint).parent / "config.json").read_text())
    assert (config["model"]["arch"], config["model"]["K"], config["model"]["bottleneck"]) == ("cnn", 32, "soft-vq")
    table = softvq("embed", checkpoint, "--split", "train", "-o", "e.npy").done().out.strip()
    labels = np.load(table.replace(".npy", ".labels.npy"))
    expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2] if layout == "mat" else LABELS["train"]
    assert np.load(table).shape == (len(expected), 8) and labels.tolist() == expected
    softvq("tsne", table, "--perplexity", "2", "-o", "map.png").done()
    assert (tmp_path / "map.png").stat().st_size > 1000
