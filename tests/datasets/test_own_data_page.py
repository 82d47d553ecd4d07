"""Every listing of docs/own-data.md is created literally and read as the page says."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from tests.helpers import dicom, encoded, make_tar, pixels, read

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
BLOCKS = [(kind, text) for kind, text in re.findall(r"```(text|python)\n(.*?)```", PAGE, re.DOTALL) if "→" in text]
EXPECTED = re.compile(
    r"(?:# )?→ (?P<data>.+?)(?: --image-shape (?P<shape>\S+))?: "
    r"(?P<train>\d+) train, (?P<test>\d+) test; (?P<classes>.*)"
)
IMAGE = (".png", ".jpg", ".dcm")


def image(name: str, seed: int) -> bytes:
    if name.endswith(".dcm"):
        return dicom(16 * pixels(seed, (8, 8)).astype(np.uint16), WindowCenter="2048", WindowWidth="4096")
    return encoded(pixels(seed, (8, 8)), "JPEG" if name.endswith(".jpg") else "PNG")


def build(root: Path, listing: str) -> None:
    """The files of a listing: one path per line; after a colon, indented, the content of the file."""
    inner: dict[str, list[str]] = {}
    for seed, line in enumerate(listing.splitlines()):
        if line.startswith("    "):
            inner[list(inner)[-1]].append(line.strip())
        elif line.endswith(":"):
            inner[line[:-1]] = []
        elif not line.startswith("→"):
            path = root / line
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image(line, seed) if line.endswith(IMAGE) else b"words")
    for name, lines in inner.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".tar"):
            members = (line.partition(" = ") for line in lines)
            make_tar(root / name, {key: value.encode() or image(key, len(key)) for key, _, value in members})
        else:
            (root / name).write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("kind, text", BLOCKS, ids=[re.findall("→ (.*):", text)[0] for _, text in BLOCKS])
def test_a_listing_is_read_as_it_says(kind: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if ".dcm" in text:
        pytest.importorskip("pydicom")
    if kind == "text":
        build(tmp_path, text)
    else:
        names = {"np": np, "os": os, "shutil": shutil, "scipy": scipy}
        if "pyarrow" in text:
            pytest.importorskip("pyarrow.parquet")
            names["pyarrow"] = pytest.importorskip("pyarrow")
        build(tmp_path, next(text for _, text in BLOCKS))  # the first listing, for the archive of it
        images = pixels(0, (10, 32, 32) if ".mat" in text else (10, 8, 8))
        files = [encoded(one) for one in images]
        exec(text, names | {"images": images, "labels": np.arange(10) % 2, "files": files})
    found = list(EXPECTED.finditer(text))
    assert found
    for expected in found:
        train, test = (read(expected["data"], split, image_shape=expected["shape"]) for split in ("train", "test"))
        assert (len(train), len(test)) == (int(expected["train"]), int(expected["test"]))
        assert (", ".join(train.class_names) or "no labels") == expected["classes"]
        assert (train.labels is None) == (expected["classes"] == "no labels")


def test_the_page_has_every_kind() -> None:
    read_here = " ".join(text for _, text in BLOCKS)
    assert len(BLOCKS) >= 18
    for suffix in ("metadata.csv", ".zip", ".tar", ".parquet", ".csv", ".npz", ".npy", ".mat", ".dcm", ".arrow"):
        assert suffix in read_here
