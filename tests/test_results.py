"""The tables and figures in docs/results are what docs/generate.py makes from the JSON documents beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from softvq_cli.errors import SoftVQError
from softvq_cli.experiments.report import report_files, write_forms

DOCUMENTS = sorted((Path(__file__).resolve().parents[1] / "docs" / "results").rglob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_is_committed_is_made_from_its_document(path: Path, tmp_path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert any(cell["n"] for row in document["rows"] for cell in row["cells"].values())
    if document["figure"] == "maps":  # their points are not in the document
        shutil.copy(path.with_suffix(".png"), tmp_path)
    write_forms(document, tmp_path)
    committed = {path.parent / name for name in report_files(path.stem)} & set(path.parent.iterdir())
    made = {tmp_path / one.name: one for one in committed - {path}}
    assert set(made) == set(tmp_path.iterdir())
    for ours, theirs in made.items():
        if ours.suffix == ".png":
            difference = np.abs(_pixels(ours) - _pixels(theirs)).mean()  # also of the same size, or this is an error
            assert difference < 1 or matplotlib.__version_info__ < (3, 11), ours.name  # older ones place text otherwise
        else:
            assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8"), ours.name


def test_an_old_figure_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    document = json.loads(next(path for path in DOCUMENTS if path.stem == "since").read_text(encoding="utf-8"))
    (tmp_path / "since-course.png").mkdir()
    with pytest.raises(SoftVQError, match=r"since-course\.png"):
        write_forms(document, tmp_path)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)
