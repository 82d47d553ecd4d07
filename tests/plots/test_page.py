"""The report page as a file: its content, its security and its size."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from softvq_cli.errors import SoftVQError, UsageError
from softvq_cli.plots import page
from softvq_cli.plots.page.writing import Sprites, numbers, rounded
from softvq_cli.results.evaluate import BASELINE_TITLES
from softvq_cli.results.measures import RESULTS
from tests.helpers import HOSTILE, view

pytest.importorskip("bokeh", reason="the page is drawn with Bokeh, which is not installed")


def read(text: str) -> dict:
    """The document inside a page."""
    found = re.search(r'<script id="document" type="application/json">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def array(packed: dict) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(packed["data"]), packed["type"])
    return values * packed["unit"] if "unit" in packed else values


def written(tmp_path, *views, title: str = "digits") -> str:
    """The text of the page of those views."""
    page.write(tmp_path / "report.html", views or [view()], title=title)
    return (tmp_path / "report.html").read_text("utf-8")


def test_the_page_holds_what_the_view_has(tmp_path):
    shown = view()
    document = read(written(tmp_path, shown))
    assert document["title"] == "digits"
    [run] = document["runs"]
    for name in ("rows", "errors", "neighbours", "clusters", "coordinates", "labels", "codewords"):
        expected = np.asarray(getattr(shown, name))
        np.testing.assert_allclose(array(run["arrays"][name]).reshape(expected.shape), expected, rtol=1e-6)
    np.testing.assert_allclose(array(run["arrays"]["distances"]).reshape(-1, 3), shown.distances, atol=1.5 / 65535)
    assert run["files"] == list(shown.file_names)
    assert run["classes"] == list(HOSTILE)
    assert run["groups"] == shown.groups
    assert run["suspects"] == {kind: [list(each) for each in some] for kind, some in shown.suspects.items()}
    assert run["baselines"][0]["title"] == "chance"
    assert run["codebook"]["usage"] == [0.3, 0.2, 0.2, 0.2, 0.1, 0.0]
    assert [curve["title"] for curve in run["curves"]] == ["normalised MSE"]


def test_nothing_of_the_data_is_markup(tmp_path):
    text = written(tmp_path, title=HOSTILE[0])
    start = text.index('<script id="document"')
    block = text[text.index(">", start) + 1 : text.index("</script>", start)]
    assert json.loads(block)["runs"][0]["title"] == view().title  # which ends a script element, were it there
    assert not set("<>&") & set(block)
    assert f"<title>{html.escape(HOSTILE[0])}</title>" in text
    assert "window.hacked" not in text.replace(block, "").replace(html.escape(HOSTILE[0]), "")


def test_the_policy_names_the_scripts_that_may_run_and_lets_nothing_be_fetched(tmp_path):
    text = written(tmp_path)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"<(?:link|img|iframe|script)[^>]*(?:src|href)=", text.split("<script>")[0])


def test_runs_that_show_the_same_images_share_their_picture(tmp_path):
    shown, other = view(), view(reconstructions=np.zeros((120, 6, 5, 3), np.uint8))
    first, second = read(written(tmp_path, shown, other))["runs"]
    assert first["images"] == second["images"]
    assert first["reconstructions"] != second["reconstructions"]


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_in_the_picture_as_they_are(channels):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 6, channels)).astype(np.uint8)
    sprites = Sprites()
    picture = sprites.pictures[sprites.add(images)]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1]))).convert("RGB"))
    for i, image in enumerate(images):
        row, column = divmod(i, picture["columns"])
        tile = pixels[4 * row : 4 * row + 4, 6 * column : 6 * column + 6]
        assert (tile == image).all()


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 200, 100, 3), (64, 32)), ((1, 64, 64, 1), (64, 64)), ((20_000, 64, 64, 1), (34, 34))],  # many: smaller ones
)
def test_large_images_become_thumbnails_that_a_browser_can_hold(shape, size):
    sprites = Sprites()
    picture = sprites.pictures[sprites.add(np.zeros(shape, np.uint8))]
    assert (picture["height"], picture["width"]) == size
    assert picture["columns"] * picture["width"] * picture["rows"] * picture["height"] < 25_000_000


def test_numbers_survive_the_packing_or_are_rounded_to_half_a_unit():
    for values in ([0, 255], [3, 256], [70_000, 1], [-1, 5], []):
        assert array(numbers(np.array(values, dtype=np.int64))).tolist() == values
    values = np.random.default_rng(0).uniform(0, 7, 1000)
    assert np.abs(array(rounded(values)) - values).max() <= 7 / 65535 / 2 * 1.001
    assert array(rounded(np.zeros(3))).tolist() == [0, 0, 0]


def test_every_row_and_column_of_the_numbers_is_explained(tmp_path):
    terms = re.findall(r'^  "([^"]+)": ', written(tmp_path).partition("const TERMS = ")[2].partition("};")[0], re.M)
    assert "raw data" in terms
    for title in (*RESULTS.values(), *BASELINE_TITLES.values()):
        assert any(term in title for term in terms), title


def test_without_bokeh_the_error_names_the_extra(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(SoftVQError, match=r"softvq\[report\]"):
        page.write(tmp_path / "report.html", [view()], title="digits")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("name", "views"), [("report.html", []), ("report.pdf", [0])])
def test_a_page_needs_a_run_and_the_name_of_a_page(tmp_path, name, views):
    with pytest.raises(UsageError):
        page.write(tmp_path / name, [view() for _ in views], title="digits")
    assert not list(tmp_path.iterdir())
