"""Whole numbers longer than Python makes of text, in every file that a stranger may have written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import encoded, make_tar, pixels, softvq, write_folder

NUMBER = "9" * 5000
SAID = "a whole number has more than 4300 digits"
FILES = {f"{number}.png": encoded(pixels(number, (8, 8))) for number in range(4)}


def toml(folder: Path) -> list[object]:
    (folder / "a.toml").write_text(f"K = {NUMBER}")
    return ["train", "--data", "digits", "--config", folder / "a.toml"]


def embedding(folder: Path) -> list[object]:
    np.save(folder / "z.npy", np.eye(4, dtype=np.float32))
    (folder / "z.json").write_text(f'{{"format": "softvq-embedding", "n": {NUMBER}}}')
    return ["info", folder / "z.npy"]


def metadata(folder: Path) -> list[object]:
    rows = [json.dumps({"file_name": name, "label": 1}) for name in list(FILES)[:3]]
    rows.append(f'{{"file_name": "3.png", "label": {NUMBER}}}')
    write_folder(folder / "own", FILES | {"metadata.jsonl": "\n".join(rows).encode()})
    return ["data", "show", folder / "own"]


def sample(folder: Path) -> list[object]:
    labels = {f"{number}.json": b"1" for number in range(3)} | {"3.json": NUMBER.encode()}
    make_tar(folder / "own.tar", dict(sorted((FILES | labels).items())))
    return ["data", "show", folder / "own.tar"]


@pytest.mark.parametrize("kind", [toml, embedding, metadata, sample])
def test_it_is_said_in_a_line_of_ours(tmp_path: Path, kind: object) -> None:
    ended = softvq(*kind(tmp_path))  # type: ignore[operator]
    ended.refused(3, SAID)
    assert "sys." not in ended.err and len(ended.err) < 300


def test_as_text_it_is_a_name(tmp_path: Path) -> None:
    rows = "\n".join(["file_name,label", "0.png,10", "1.png,9", "2.png,10", f"3.png,{NUMBER}"])
    write_folder(tmp_path / "own", FILES | {"metadata.csv": rows.encode()})
    ended = softvq("data", "show", tmp_path / "own")
    assert list(ended.document["classes"]) == ["9", "10", NUMBER]
