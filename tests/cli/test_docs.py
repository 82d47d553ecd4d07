"""docs/commands.md and docs/architecture.md are what the program says of itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generate):
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run: python docs/generate.py"


def test_the_tables_of_the_results_are_those_of_their_documents(generate):
    page = generate.RESULTS_PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- table ") == page.count("<!-- end -->") >= 7
    assert page == generate.results_page(), "run: python docs/generate.py"


def test_the_list_of_files_is_up_to_date(generate):
    assert generate.ARCHITECTURE.read_text(encoding="utf-8") == generate.architecture(), "run: python docs/generate.py"
