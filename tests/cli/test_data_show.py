"""softvq data show: what a person sees before an hour of training."""

from __future__ import annotations

import numpy as np
from PIL import Image


def folder(root, sixteen: bool = False):
    """Six ants and six bees: two are equal, one is a single colour; a README lies beside them."""
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
    assert softvq("data", "show", data, "-o", "sheet.png").code == 0
    assert Image.open("sheet.png").size[0] > 500
    softvq("data", "show", data, "-o", "sheet.png").refused(4, "sheet.png")
    assert softvq("data", "show", data, "-o", "sheet.png", "--overwrite").code == 0
    softvq("data", "show", data, "-o", "sheet.txt").refused(2, "sheet.txt")


def test_the_settings_of_reading_are_options_here(softvq, tmp_path):
    data = folder(tmp_path / "deep", sixteen=True)
    found = softvq("data", "show", data, "--pixel-range", "0,4095", "--test-fraction", "0.5", "--json")
    assert found.document["pixel_range"] == "0,4095" and found.document["counts"] == {"train": 6, "test": 6}
    assert "next: softvq train" in found.err and "--pixel-range 0,4095" in found.err


def test_notes_of_both_splits_are_said_once(softvq, tmp_path):
    data = folder(tmp_path / "deep", sixteen=True)
    result = softvq("run", "--data", data, "--batch-size", 4, "-o", "run", "--iterations", 4, "--device", "cpu")
    assert result.code == 0
    said = [line for line in result.err.splitlines() if "(the range of the training split) become" in line]
    assert len(said) == 1


def test_wrong_usage(softvq, tmp_path):
    softvq("data", "show").refused(2, "show")
    softvq("data", "show", "a", "b").refused(2, "show")
    softvq("data", "list", "--pages", "all").refused(2, "--pages")
    softvq("data", "show", "photoz").refused(2, "'photoz'")
