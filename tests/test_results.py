"""The tables in docs/results are made from the JSON documents beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softvq_cli.experiments import formats

DOCUMENTS = sorted((Path(__file__).resolve().parents[1] / "docs" / "results").rglob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_committed_table_is_made_from_its_document(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith(formats.markdown(document))
    assert path.with_suffix(".csv").read_text(encoding="utf-8") == formats.csv_text(document)
    assert path.with_suffix(".tex").read_text(encoding="utf-8") == formats.latex(document)
    assert any(cell["n"] for row in document["rows"] for cell in row["cells"].values())
