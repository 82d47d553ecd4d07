"""The report page in a real browser without a network: pointing, clicking, selecting, by mouse and keyboard."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.plots import page
from tests.helpers import HOSTILE, view

pytest.importorskip("bokeh", reason="the page is drawn with Bokeh, which is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("there is no Chromium with its driver on this machine", allow_module_level=True)

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

POINT = """
const view = Bokeh.index.roots[0], points = view.model.document.get_model_by_name("points").data;
const frame = document.querySelector(".plot").getBoundingClientRect();
return [view.frame.x_scale.compute(points.x[arguments[0]]) - frame.width / 2,
        view.frame.y_scale.compute(points.y[arguments[0]]) - frame.height / 2];
"""
"""Position of an image on the map, relative to its centre."""

ALL_DRAWN = "return document.getElementById('run0').dataset.whole"


class Browser:
    """One page in Chromium."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        # No sandbox: tests may run as root. No name is ever resolved: there is no network.
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, path: Path, *, width: int = 1280, scheme: str = "light", drawn: str = ALL_DRAWN) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get_log("browser"), self.driver.get_log("performance")  # what an earlier page left
        self.driver.get(path.as_uri())
        self.wait(lambda: self.script(drawn) == "true")
        self.script("document.querySelector('.plot')?.scrollIntoView({block: 'center', behavior: 'instant'})")

    def wait(self, condition, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.complaints()
            time.sleep(0.05)

    def script(self, text: str, *arguments: object):
        return self.driver.execute_script(text, *arguments)

    def one(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def at(self, x: float, y: float) -> ActionChains:
        """Move the pointer there, relative to the centre of the map."""
        return ActionChains(self.driver, duration=20).move_to_element_with_offset(self.one(".plot"), int(x), int(y))

    def drag_to(self, mode: str) -> None:
        Select(self.all(".map select")[1]).select_by_value(mode)

    def points(self, column: str) -> list:
        """The data of the map's points."""
        data = "Bokeh.index.roots[0].model.document.get_model_by_name('points').data"
        return self.script(f"return Array.from({data}[arguments[0]])", column)

    def download(self, button: int, path: Path) -> str:
        """The file that a button below the selection saves to ``path``."""
        folder = {"behavior": "allow", "downloadPath": str(path.parent)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
        self.all(".selection .controls button")[button].click()
        self.wait(path.exists)
        return path.read_text("utf-8")

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def requested(self) -> set[str]:
        """The schemes of all addresses that the page requested."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return {url.split(":")[0] for url in sent}


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A page of two runs whose names contain scripts."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    plain = dict.fromkeys(("labels", "predicted", "codebook", "codewords", "codeword_distances"))
    page.write(path, [view(), view(seed=1, title="other", **plain)], title=HOSTILE[1])
    return path


@pytest.fixture
def opened(browser, file) -> Browser:
    browser.open(file)
    return browser


def test_it_opens_without_network_and_without_complaint_and_runs_nothing_of_the_data(opened):
    assert opened.complaints() == []
    assert opened.requested() <= {"file", "data", "blob"}
    assert opened.script("return window.hacked") is None
    assert opened.one("h1").text == HOSTILE[1]
    assert [tab.text for tab in opened.all("[role=tab]")] == [view().title, "other"]
    assert opened.all("main script, main img") == []


def test_pointing_shows_the_image_and_what_is_known_of_it(opened):
    opened.at(*opened.script(POINT, 7)).perform()
    opened.wait(lambda: opened.one(".tip").is_displayed())
    lines = (f"{HOSTILE[1]}/7.png", f"class: {HOSTILE[1]}", "cluster: 3")
    assert [line for line in lines if line not in opened.one(".tip").text] == []
    assert opened.one(".tip .tile").size["width"] > 0


def test_the_map_waits_for_no_other_section(browser, file):
    never = {"source": "window.requestIdleCallback = () => {}"}
    script = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", never)["identifier"]
    try:
        browser.open(file, drawn="return document.body.dataset.ready")
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})
    assert len(browser.all("#run0 section h2")) == len(browser.all("#run0 nav a")) == 8
    assert browser.all("#run0 .tile") == []
    browser.at(*browser.script(POINT, 7)).click().perform()
    browser.wait(lambda: browser.one("#detail").is_displayed() and browser.one(".tip").is_displayed())


def test_issues_are_shown_by_kind_and_what_was_not_found_is_said(opened):
    section = opened.one("#run0-issues")
    assert [title.text for title in section.find_elements(By.TAG_NAME, "h3")] == [
        *("exact duplicates: 2 groups", "outliers: 1 image", "doubted labels: 1 image")
    ]
    assert section.find_elements(By.TAG_NAME, "p")[-1].text == "None found: leaks, dark."
    assert [len(group.find_elements(By.CSS_SELECTOR, ".thumb")) for group in opened.all("#run0-issues li.couple")] == [
        2,
        3,
    ]
    assert f"perhaps {HOSTILE[1]}" in section.text
    header = [cell.text for cell in opened.all("#numbers thead th")]
    assert header == [view().title, "chance", "other"]  # the baseline of both runs stands there once


def test_a_click_shows_the_neighbours_in_z_e_and_the_reconstruction(opened):
    opened.at(*opened.script(POINT, 7)).click().perform()
    opened.wait(lambda: opened.one("#detail").is_displayed())
    assert opened.one("#detail h3").text == f"{HOSTILE[1]}/7.png"
    assert [one.get_attribute("title") for one in opened.all("#detail .thumb")] == [
        f"{HOSTILE[i % 3]}/{i}.png" for i in (8, 9, 10)
    ]
    assert [tile.get_attribute("aria-label")[:5] for tile in opened.all("#detail .pair .tile")] == ["image", "recon"]
    opened.all("#detail .thumb")[0].click()  # and on to that image
    assert opened.one("#detail h3").text == f"{HOSTILE[2]}/8.png"


def test_of_images_over_each_other_the_nearest_to_the_pointer_is_meant(browser, tmp_path):
    coordinates = view().coordinates.copy()
    coordinates[:5] = coordinates[0] + np.arange(5)[:, None] * 0.05  # a heap, less than a pixel apart but for the last
    coordinates[5] = coordinates[0] + 0.6
    page.write(tmp_path / "heap.html", [view(coordinates=coordinates)], title="heap")
    browser.open(tmp_path / "heap.html")
    x, y = browser.script(POINT, 5)
    browser.at(x + 1, y - 1).click().perform()
    browser.wait(lambda: browser.one("#detail").is_displayed())
    assert browser.one("#detail h3").text == view().file_names[5]
    assert browser.all(".selection b") == []
    assert view().file_names[5] in browser.one(".tip").text


@pytest.mark.parametrize("mode", ["box", "lasso"])
def test_what_is_selected_is_shown_and_its_names_can_be_saved(opened, mode, tmp_path):
    opened.drag_to(mode)
    corner = opened.at(-560, -250).click_and_hold()
    for step in [(1120, 500)] if mode == "box" else [(1120, 0), (0, 500), (-1120, 0)]:
        corner.move_by_offset(*step)
    corner.release().perform()
    opened.wait(lambda: opened.all(".selection b"))
    count = int(opened.one(".selection b").text.split()[0])
    assert count > 60
    assert len(opened.all(".selection .thumb")) == count
    names = opened.download(1, tmp_path / "names.txt").splitlines()
    assert len(names) == count
    assert set(names) <= set(view().file_names)


SIZES = """
const dots = Bokeh.index.roots[0].model.document.get_model_by_name("dots");
return [dots.glyph.size.value, dots.selection_glyph.size.value];
"""


def test_a_search_selects_files_and_classes_whose_points_become_larger(opened, tmp_path):
    field = opened.one(".map input[type=search]")
    field.send_keys("/11")
    opened.wait(lambda: opened.all(".selection b"))
    assert opened.one(".selection b").text == "11 selected"  # 11, and 110 to 119
    small, large = opened.script(SIZES)
    assert large > small
    lines = list(csv.DictReader(io.StringIO(opened.download(2, tmp_path / "selection.csv"))))
    assert [line["file"] for line in lines] == [view().file_names[i] for i in (11, *range(110, 120))]
    for line, i in zip(lines, (11, *range(110, 120)), strict=True):
        assert line["class"] == HOSTILE[i % 3] and line["cluster"] == str(i % 4) and line["codeword"] == str(i % 5)
        assert float(line["nmse"]) == pytest.approx(view().errors[i], rel=1e-6)
    field.clear()
    field.send_keys("<SCRIPT")
    opened.wait(lambda: opened.script("return document.querySelector('.selection b')?.textContent") == "40 selected")
    field.send_keys("nowhere")
    opened.wait(lambda: not opened.all(".selection b") and opened.all(".selection p"))


def test_terms_are_explained_and_counts_have_separators(opened):
    assert {"nMSE", "codewords", "z_e"} <= {term.text for term in opened.all("abbr[title]")}
    assert opened.script("return [counted(1), counted(20000)]") == ["1 image", "20,000 images"]


def test_a_page_may_show_the_table_of_a_study_alone(browser, tmp_path):
    table = page.Table(HOSTILE[0], ["model", "nMSE"], [[HOSTILE[1], "0.1 ± 0.2"], ["ae", "–"]], ["a note"])
    page.write(tmp_path / "study.html", [], title="study", tables=[table])
    browser.open(tmp_path / "study.html", width=400, drawn="return document.body.dataset.ready")
    assert [cell.text for cell in browser.all(".study th[scope=row], .study td")][1:] == [
        HOSTILE[1],
        "0.1 ± 0.2",
        "ae",
        "–",
    ]
    assert browser.script("return document.documentElement.scrollWidth") <= 400
    assert browser.script("return window.hacked") is None and browser.complaints() == []


def test_the_legend_switches_a_class_off(opened):
    key = opened.all(".map .key")[1]
    assert key.text == f"{HOSTILE[1]} (40)"
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert [i for i, value in enumerate(opened.points("x")) if value is None] == list(range(1, 120, 3))


@pytest.mark.parametrize("name", ["cluster", "error", "codeword"])
def test_points_are_coloured_by_what_is_chosen(opened, name):
    before = opened.points("colour")
    Select(opened.one(".map select")).select_by_value(name)
    after = opened.points("colour")
    of = {"cluster": view().clusters, "error": view().errors, "codeword": view().codewords}[name]
    assert after != before
    assert len(set(after)) == (len(set(of)) if name != "error" else len(set(after))) > 3
    assert all(after[i] == after[j] for i in range(60) for j in range(60) if of[i] == of[j])


def test_the_map_works_by_keyboard(opened):
    plot = opened.one(".plot")
    span = "const range = Bokeh.index.roots[0].model.x_range; return [range.start, range.end]"
    low, high = opened.script(span)
    plot.send_keys("+")
    near, far = opened.script(span)
    assert far - near == pytest.approx(0.7 * (high - low))
    plot.send_keys(Keys.ARROW_RIGHT)
    assert opened.script(span)[0] == pytest.approx(near + 0.1 * (far - near))
    plot.send_keys("0")
    assert opened.script(span) == pytest.approx([low, high])
    plot.send_keys("s")
    assert opened.one(".selection b").text == "120 selected"
    plot.send_keys(Keys.ENTER)
    assert opened.one("#detail").is_displayed()
    focused = opened.driver.switch_to.active_element
    focused.send_keys(Keys.TAB, Keys.TAB)  # past the button that closes, to the nearest neighbour
    assert "thumb" in opened.driver.switch_to.active_element.get_attribute("class")
    opened.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not opened.one("#detail").is_displayed()
    assert opened.driver.switch_to.active_element == plot
    plot.send_keys(Keys.TAB)
    assert opened.driver.switch_to.active_element.get_attribute("class") == "key"


def test_tabs_change_by_arrow_keys_and_a_run_without_labels_has_no_confusion(opened):
    tabs = opened.all("[role=tab]")
    tabs[0].send_keys(Keys.ARROW_RIGHT)
    opened.wait(lambda: opened.one("#run1").is_displayed() and opened.all("#run1 .legend .key"))
    assert not opened.one("#run0").is_displayed()
    assert tabs[1].get_attribute("aria-selected") == "true"
    assert opened.all("#run1-confusion, #run1-codebook") == []
    assert opened.complaints() == []


def test_a_cell_of_the_confusion_and_a_codeword_show_their_images(opened):
    cell = opened.one(".matrix.probe tr:nth-child(2) td:nth-child(3) button")  # class 0 taken for class 1
    opened.script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", cell)
    wrong = [i for i in range(120) if view().labels[i] == 0 and view().predicted[i] == 1]
    assert int(cell.text) == len(wrong)
    shown = opened.all("#run0-confusion .selection .thumb")
    assert [one.get_attribute("title") for one in shown] == [f"{HOSTILE[0]}/{i}.png" for i in wrong]
    codes = opened.all("#run0-codebook .atlas .thumb")
    assert [code.text for code in codes][-1] == "dead"
    opened.script("arguments[0].click()", codes[0])
    assert len(opened.all("#run0-codebook .selection .thumb")) == 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window_and_text_can_be_told_from_the_paper(browser, file, width, scheme):
    browser.open(file, width=width, scheme=scheme)
    assert browser.script("return document.documentElement.scrollWidth") <= width
    colours = browser.script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    ink, paper = (sum(map(int, colour[4:-1].split(", "))) for colour in colours)
    assert (ink < paper) == (scheme == "light")
    assert abs(ink - paper) > 500
    nameless = (
        "return [...document.querySelectorAll('[role=img]')].filter(one => !one.ariaLabel && !one.closest('.tip'))"
    )
    assert browser.script(nameless + ".length") == 0
    assert browser.complaints() == []
