"""softvq report in a shell."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys

import numpy as np
import pytest

from tests.helpers import QUICK, ROOT

pytest.importorskip("bokeh", reason="the page is drawn with Bokeh, which is not installed")
pytestmark = pytest.mark.usefixtures("small_networks")


def document(path) -> dict:
    found = re.search(r'<script id="document" type="application/json">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert found is not None
    return json.loads(found[1])


def test_report_prints_the_path_of_one_page(softvq, chained, tmp_path):
    assert softvq("report", chained, "--jobs", 1).done().out == "report.html\n"
    page = document(tmp_path / "report.html")
    assert page["title"] == chained.name
    assert [run["n"] for run in page["runs"]] == [359]
    softvq("report", chained, "--max-points", 40, "--jobs", 1, "-o", "few.html").done()
    [few] = document(tmp_path / "few.html")["runs"]
    assert few["n"] == 40 and any("40" in note and "359" in note for note in few["notes"])
    numbers = {one["name"]: one["value"] for one in page["runs"][0]["numbers"]}
    stored = json.loads((chained / "evaluation.json").read_text())["numbers"]["z_e"]
    assert numbers["clustering accuracy"] == stored["clustering_accuracy"]
    assert numbers["probe accuracy"] == stored["probe_accuracy"]


def test_the_page_says_how_to_make_the_run_again(softvq, chained, tmp_path):
    softvq("report", chained, "--jobs", 1).done()
    again = shlex.split(document(tmp_path / "report.html")["runs"][0]["again"])
    assert again[:2] == ["softvq", "run"]
    softvq(*again[1:], "--out", "again", "--device", "cpu", "--quiet").done()
    for name, entry in (("evaluation.json", "numbers"), ("config.json", "model"), ("config.json", "train")):
        first, second = (json.loads((folder / name).read_text()) for folder in (chained, tmp_path / "again"))
        assert second[entry] == first[entry]


def test_several_runs_are_side_by_side_and_can_be_told_apart(softvq, chained, trained, tmp_path):
    result = softvq(
        "report", chained, trained / "ckpt.pt", "-o", "two.html", "--title", "a < b", "--jobs", 1, "--json"
    ).done()
    assert result.document["bytes"] == (tmp_path / "two.html").stat().st_size
    page = document(tmp_path / "two.html")
    assert page["title"] == "a < b"
    assert len({run["title"] for run in page["runs"]}) == 2
    assert page["runs"][0]["images"] == page["runs"][1]["images"]
    assert str(chained.parent) not in (tmp_path / "two.html").read_text("utf-8")


def test_both_splits_are_shown_with_the_leaks_between_them(softvq, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (90, 8, 8), np.uint8)
    test = np.concatenate([x[3:4], draw.integers(0, 256, (11, 8, 8), np.uint8)])
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(90) % 3, x_test=test, y_test=np.arange(12) % 3)
    softvq("train", "--data", "d.npz", "-o", "run", *QUICK).done()
    softvq("report", "run", "--split", "all", "--jobs", 1).done()
    [run] = document(tmp_path / "report.html")["runs"]
    assert run["n"] == 102
    assert run["groups"]["leaks"] == run["groups"]["exact_duplicates"] == [[3, 90]]
    assert [baseline["title"] for baseline in run["baselines"]] == ["chance", "raw data", "PCA"]


def test_of_the_folder_of_a_study_its_tables_are_shown(softvq, chained, tmp_path):
    (tmp_path / "study").mkdir()
    for name in ("table1", "table2"):
        shutil.copy(ROOT / "docs" / "results" / f"{name}.json", tmp_path / "study")
    softvq("report", "study").done()
    page = document(tmp_path / "report.html")
    stored = json.loads((tmp_path / "study" / "table1.json").read_text("utf-8"))
    assert page["tables"][0]["title"] == stored["title"]
    assert [row[0] for row in page["tables"][0]["rows"]][: len(stored["rows"])] == [r["label"] for r in stored["rows"]]
    assert (len(page["tables"]), page["runs"]) == (2, [])
    softvq("report", "study", chained, "-o", "both.html", "--jobs", 1).done()
    assert len(document(tmp_path / "both.html")["runs"]) == 1


def test_what_cannot_be_reported_on_is_refused_in_one_line(softvq, chained, tmp_path):
    (tmp_path / "empty").mkdir()
    softvq("report", "empty").refused(3, "empty/ckpt.pt")
    softvq("report", chained, "-o", "page.pdf").refused(2, "page.pdf", ".html")
    softvq("report", chained, "-o", "nowhere/page.html").refused(1, "nowhere")
    (tmp_path / "report.html").write_text("mine")
    softvq("report", chained).refused(4, "report.html", "--overwrite")
    assert (tmp_path / "report.html").read_text() == "mine"


def test_without_bokeh_nothing_is_begun(softvq, chained, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    softvq("report", chained).refused(1, "softvq[report]")
    assert not (tmp_path / "report.html").exists()
