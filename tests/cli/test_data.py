"""softvq data show, and other data than those of the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import QUICK, encoded, grey_files, pixels, write_folder


def folder(root, sixteen: bool = False):
    """Six ants and six bees: two are equal, one is a single colour; there is also a README."""
    random = np.random.default_rng(0)
    for kind in ("ant", "bee"):
        (root / kind).mkdir(parents=True)
        for number in range(6):
            image = random.integers(100, 3000, (8, 8)).astype(np.uint16) if sixteen else random.integers(0, 256, (8, 8))
            if (kind, number) == ("bee", 5):
                image = np.full((8, 8), 99)
            Image.fromarray(image.astype(np.uint16 if sixteen else np.uint8)).save(root / kind / f"{number}.png")
    (root / "bee" / "4.png").write_bytes((root / "ant" / "0.png").read_bytes())
    (root / "README.md").write_text("mine")
    return root


def test_counts_and_oddities(softvq, tmp_path):
    found = softvq("data", "show", folder(tmp_path / "mine"), "--json").document
    assert found["name"] == "mine" and found["counts"] == {"train": 10, "test": 2} and found["drawn"] is True
    assert found["classes"] == {"ant": {"train": 5, "test": 1}, "bee": {"train": 5, "test": 1}}
    assert found["duplicates"] + found["shared"] == 1 and found["constant"] == 1
    assert found["image_shape"] == [8, 8, 1] and "README.md" in found["notes"][0]


def test_a_person_sees_counts_notes_and_the_next_command(softvq, tmp_path, for_people):
    result = softvq("data", "show", folder(tmp_path / "mine"))
    assert "10 train, 2 test (drawn" in result.out and "bee" in result.out
    assert any(line.startswith("mine: ") and "README.md" in line for line in result.err.splitlines())
    assert f"next: softvq train --data {tmp_path / 'mine'}" in result.err


def test_a_sheet_is_drawn_and_not_overwritten(softvq, tmp_path):
    data = folder(tmp_path / "mine")
    softvq("data", "show", data, "-o", "sheet.png").done()
    assert Image.open("sheet.png").size[0] > 500
    softvq("data", "show", data, "-o", "sheet.png").refused(4, "sheet.png")
    softvq("data", "show", data, "-o", "sheet.png", "--overwrite").done()
    softvq("data", "show", data, "-o", "sheet.txt").refused(2, "sheet.txt")


def test_the_settings_of_reading_are_options_here(softvq, tmp_path):
    data = folder(tmp_path / "deep", sixteen=True)
    found = softvq("data", "show", data, "--pixel-range", "0,4095", "--test-fraction", "0.5", "--json")
    assert found.document["pixel_range"] == "0,4095" and found.document["counts"] == {"train": 6, "test": 6}
    assert "next: softvq train" in found.err and "--pixel-range 0,4095" in found.err


def test_notes_of_both_splits_are_said_once(softvq, tmp_path):
    data = folder(tmp_path / "deep", sixteen=True)
    result = softvq("run", "--data", data, "--batch-size", 4, "-o", "run", "--iterations", 4, "--device", "cpu").done()
    said = [line for line in result.err.splitlines() if "(the range of the training split) become" in line]
    assert len(said) == 1


def test_wrong_usage(softvq, tmp_path):
    softvq("data", "show").refused(2, "show")
    softvq("data", "show", "a", "b").refused(2, "show")
    softvq("data", "list", "--pages", "all").refused(2, "--pages")
    softvq("data", "show", "photoz").refused(2, "'photoz'")


SMALL = (*QUICK, "--batch-size", 8, "--K", 4, "--latent-dim", 3)
FOLDER = [f"{name}/{number}.png" for name in ("ant", "bee") for number in range(10)]


@pytest.fixture
def run(softvq, tmp_path):
    """A model of 8x8 grey images of two classes."""
    write_folder(tmp_path / "own", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(FOLDER)})
    softvq("train", *SMALL, "--data", "own", "--out", "run", "--image-size", 8).done()
    return Path("run")


def test_data_without_splits_say_which_part_is_embedded(softvq, run, tmp_path):
    write_folder(tmp_path / "other", grey_files(FOLDER))
    ended = softvq("embed", run, "--data", "other", "--image-size", 8).done()
    assert all(word in ended.err for word in ("other: ", " 4 ", "--split all"))
    ended = softvq("embed", run, "--data", "other", "--image-size", 8, "--split", "all", "--overwrite")
    assert "--split all" not in ended.err and np.load("embeddings.npy").shape[0] == 20
    assert "no splits" not in softvq("embed", run, "-o", "own.npy").err


@pytest.mark.parametrize("command", [("embed",), ("probe",), ("report",)])
def test_other_data_may_be_read_otherwise(command, softvq, run, tmp_path):
    rows = [f"{name},{kind}" for name, kind in zip(FOLDER, 10 * ["x"] + 10 * ["y"], strict=True)]
    write_folder(tmp_path / "other", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(FOLDER)})
    (tmp_path / "other" / "list.csv").write_text("\n".join(["file\tkind", *(row.replace(",", "\t") for row in rows)]))
    ended = softvq(*command, run, "--data", "other/list.csv", "--image-column", "file", "--label-column", "kind").done()
    assert ("--split all" in ended.err) == (command == ("embed",))
    if command == ("embed",):
        assert json.loads(Path("embeddings.json").read_text())["class_names"] == ["x", "y"]
    again = () if command == ("probe",) else ("--overwrite",)
    softvq(*command, run, "--label-column", "kind", *again).refused(2, "--label-column", "--data")


def test_numbers_of_codewords_are_not_clustered_as_if_they_were_coordinates(softvq, run):
    softvq("embed", run, "--what", "codes", "-o", "codes.npy").done()
    for words in (("cluster", "codes.npy"), ("tsne", "codes.npy", "-o", "a.png"), ("probe", "codes.npy", "codes.npy")):
        softvq(*words).refused(3, "codes.npy", "--what", "z_q")
    softvq("info", "codes.npy").done()


def test_labels_that_are_not_the_users_numbers_are_said(softvq, tmp_path):
    numbered = [name.replace("ant", "5").replace("bee", "12") for name in FOLDER]
    write_folder(tmp_path / "gaps", {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(numbered)})
    softvq("train", *SMALL, "--data", "gaps", "--out", "gaps-run").done()
    assert "0 is class 12, 1 is class 5" in softvq("embed", "gaps-run", "-o", "g.npy").err


def test_bytes_for_a_model_of_fractions_are_said_to_be_white(softvq, tmp_path):
    images = np.stack([pixels(seed, (8, 8)) for seed in range(20)])[..., None]
    np.save("fractions.npy", (images / 255.0).astype(np.float32))
    np.save("bytes.npy", images)
    softvq("train", *SMALL, "--data", "fractions.npy", "--out", "f").done()
    words = ("embed", "f", "--data", "bytes.npy", "--split", "all", "--what", "pixels")
    assert "--pixel-range" in softvq(*words, "-o", "white.npy").err
    softvq(*words, "-o", "right.npy", "--pixel-range", "0,255").done()
    np.testing.assert_allclose(np.load("right.npy"), images.reshape(20, -1) / 255.0, atol=1e-6)
