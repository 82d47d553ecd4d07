"""Other data than a checkpoint was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import QUICK, encoded, grey_files, pixels, write_folder

SMALL = (*QUICK, "--batch-size", 8, "--K", 4, "--latent-dim", 3)
FOLDER = [f"{name}/{number}.png" for name in ("ant", "bee") for number in range(10)]


@pytest.fixture
def run(softvq, tmp_path):
    """A model of 8x8 grey images of two classes."""
    write_folder(tmp_path / "own", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(FOLDER)})
    ended = softvq("train", *SMALL, "--data", "own", "--out", "run", "--image-size", 8)
    assert ended.code == 0, ended.err
    return Path("run")


def test_data_without_splits_say_which_part_is_embedded(softvq, run, tmp_path):
    write_folder(tmp_path / "other", grey_files(FOLDER))
    ended = softvq("embed", run, "--data", "other", "--image-size", 8)
    assert ended.code == 0, ended.err
    assert all(word in ended.err for word in ("other: ", " 4 ", "--split all"))
    ended = softvq("embed", run, "--data", "other", "--image-size", 8, "--split", "all", "--overwrite")
    assert "--split all" not in ended.err and np.load("embeddings.npy").shape[0] == 20
    assert "no splits" not in softvq("embed", run, "-o", "own.npy").err


@pytest.mark.parametrize("command", [("embed",), ("probe",), ("report",)])
def test_other_data_may_be_read_otherwise(command, softvq, run, tmp_path):
    rows = [f"{name},{kind}" for name, kind in zip(FOLDER, 10 * ["x"] + 10 * ["y"], strict=True)]
    write_folder(tmp_path / "other", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(FOLDER)})
    (tmp_path / "other" / "list.csv").write_text("\n".join(["file\tkind", *(row.replace(",", "\t") for row in rows)]))
    ended = softvq(*command, run, "--data", "other/list.csv", "--image-column", "file", "--label-column", "kind")
    assert ended.code == 0, ended.err
    assert ("--split all" in ended.err) == (command == ("embed",))
    if command == ("embed",):
        assert json.loads(Path("embeddings.json").read_text())["class_names"] == ["x", "y"]
    again = () if command == ("probe",) else ("--overwrite",)
    softvq(*command, run, "--label-column", "kind", *again).refused(2, "--label-column", "--data")


def test_numbers_of_codewords_are_not_clustered_as_if_they_were_coordinates(softvq, run):
    assert softvq("embed", run, "--what", "codes", "-o", "codes.npy").code == 0
    for words in (("cluster", "codes.npy"), ("tsne", "codes.npy", "-o", "a.png"), ("probe", "codes.npy", "codes.npy")):
        softvq(*words).refused(3, "codes.npy", "--what", "z_q")
    assert softvq("info", "codes.npy").code == 0


def test_labels_that_are_not_the_users_numbers_are_said(softvq, tmp_path):
    numbered = [name.replace("ant", "5").replace("bee", "12") for name in FOLDER]
    write_folder(tmp_path / "gaps", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(numbered)})
    assert softvq("train", *SMALL, "--data", "gaps", "--out", "gaps-run").code == 0
    assert "0 is class 12, 1 is class 5" in softvq("embed", "gaps-run", "-o", "g.npy").err


def test_bytes_for_a_model_of_fractions_are_said_to_be_white(softvq, tmp_path):
    images = np.stack([pixels(seed, (8, 8)) for seed in range(20)])[..., None]
    np.save("fractions.npy", (images / 255.0).astype(np.float32))
    np.save("bytes.npy", images)
    assert softvq("train", *SMALL, "--data", "fractions.npy", "--out", "f").code == 0
    ended = softvq("embed", "f", "--data", "bytes.npy", "--split", "all", "-o", "white.npy", "--what", "pixels")
    assert "--pixel-range" in ended.err
    ended = softvq(
        "embed",
        "f",
        "--data",
        "bytes.npy",
        "--split",
        "all",
        "-o",
        "right.npy",
        "--what",
        "pixels",
        "--pixel-range",
        "0,255",
    )
    np.testing.assert_allclose(np.load("right.npy"), images.reshape(20, -1) / 255.0, atol=1e-6)
