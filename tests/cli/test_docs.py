"""docs/commands, docs/architecture.md and docs/schemas agree with the program."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import scipy.stats
from PIL import Image

from softvq_cli.cli.app import COMMANDS
from tests.helpers import QUICK

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generate):
    stored = {path.name: path.read_text(encoding="utf-8") for path in generate.COMMAND_PAGES.iterdir()}
    assert stored == generate.command_pages(), "run: python docs/generate.py"


def test_the_tables_of_the_results_are_those_of_their_documents(generate):
    for path in generate.RESULT_PAGES:
        page = path.read_text(encoding="utf-8")
        assert page.count("<!-- ") == 2 * page.count("<!-- end -->") > 0
        assert page == generate.with_tables(path), "run: python docs/generate.py"
        # No table is typed by hand: each begins right below its comment.
        lines = page.splitlines()
        heads = [i for i, line in enumerate(lines) if line.startswith("|---")]
        assert all(lines[i - 2].startswith("<!-- ") for i in heads)


def test_a_verdict_follows_from_the_intervals(generate):
    lines = generate.claims().splitlines()[2:]
    assert len(lines) == len(generate.CLAIMS["claim"])
    [best] = [line for line in lines if "latents cluster best" in line]
    assert [cell.strip() for cell in best.split("|")][-2] == "holds"
    document = generate.read_study("table1")
    cells = {
        row["row"]: row["cells"]["mnist.clustering_accuracy"] for row in document["rows"] if row["kind"] == "model"
    }
    ours = cells.pop("soft-vq")["values"]
    for cell in cells.values():
        assert scipy.stats.ttest_ind(ours, cell["values"], equal_var=False).confidence_interval(0.95).low > 0


def test_the_list_of_files_is_up_to_date(generate):
    assert generate.ARCHITECTURE.read_text(encoding="utf-8") == generate.architecture(), "run: python docs/generate.py"


def check(name, document):
    schema = json.loads((DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)


PRINTED = {
    "data": [("data",)],
    "data-show": [("data", "show", "digits")],
    "train": [("train", "-o", "again", *QUICK)],
    "run": [("run", "-o", "whole", *QUICK)],
    "embed": [("embed", "run", "-o", "z.npy"), ("embed", "run", "-o", "z.parquet")],
    "cluster": [("cluster", "run/embeddings-test.npy", "--n-init", "2", "--on-map")],
    "probe": [("probe", "run", "--neighbours", "3", "--few-labels", "5")],
    "tsne": [("tsne", "run/embeddings-test.npy", "-o", "z.png", "--save-coords", "c.npy")],
    "issues": [("issues", "digits")],
    "predict": [("predict", "run", "digit.png"), ("predict", "run", "digit.png", "-o", "p.csv")],
    "report": [("report", "run", "-o", "page.html")],
    "info": [("info", "run"), ("info", "run/ckpt.pt"), ("info", "run/embeddings-test.npy")],
    "export": [("export", "run", "--safetensors", "-o", "m.safetensors"), ("export", "run", "--onnx", "m.onnx")],
    "sweep": [("sweep", "--over", "K=2,3", *QUICK, "-o", "study", "--jobs", "1")],
}


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_command_prints_has_its_schema(name, softvq, chained, tmp_path, small_networks):
    if any("run" in word for words in PRINTED[name] for word in words):
        shutil.copytree(chained, tmp_path / "run")
    Image.new("L", (8, 8), 40).save(tmp_path / "digit.png")
    for words in PRINTED[name]:
        result = softvq(*words, "--json", "--quiet").done()
        check(name, json.loads(result.out))
        if name == "export" and "--onnx" in words:
            check("info", softvq("info", words[-1]).document)
    if name == "sweep":
        document = softvq("info", "study").document
        check("info", document)
        assert document["kind"] == "study"


@pytest.mark.parametrize("path", sorted((DOCS / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_committed_studies_have_their_schema(path):
    check("reproduce", {"version": 1, **json.loads(path.read_text(encoding="utf-8"))})


def test_every_command_has_a_schema():
    commands = {name for names in COMMANDS.values() for name in names}
    schemas = {path.stem for path in (DOCS / "schemas").iterdir()}
    assert commands - schemas <= {"help"}
    assert {"compare", "reproduce", *PRINTED} == schemas
