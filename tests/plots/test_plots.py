"""The content of figures; and the same input gives the same file."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from softvq_cli.errors import InputError, SoftVQError, UsageError
from softvq_cli.plots import bars, images, lines, style, text
from softvq_cli.plots.maps import Panel
from softvq_cli.plots.maps import plot as plot_maps
from softvq_cli.process import quiet
from tests.helpers import Listener

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(60, 2))
LABELS = np.arange(60) % 3
IMAGES = RANDOM.integers(0, 255, (12, 8, 8, 1)).astype(np.uint8)
LINES = [
    {"step": s, "loss": 2 / s, "nmse": 1 / s, "test_nmse": 1.1 / s, "commitment": 0.1, "perplexity": s, "seconds": s}
    for s in (10, 20, 30)
]
COLUMN = bars.Column("clustering", [50.0, 60.0], [None, 2.0], [52.0, None])

EVERY: dict[str, Callable[[Path], None]] = {
    "tsne": lambda path: plot_maps(path, [Panel("a", POINTS, LABELS, ("x", "y", "z")), Panel("b", POINTS)]),
    "reconstructions": lambda path: images.reconstructions(path, IMAGES, IMAGES / 255),
    "curves": lambda path: lines.training(path, LINES),
    "usage": lambda path: images.codebook_usage(path, np.arange(16)),
    "centroids": lambda path: images.codewords(path, IMAGES, np.arange(12)),
    "bars": lambda path: bars.plot(path, ["one", "two"], [COLUMN, COLUMN]),
    "course": lambda path: lines.course(path, [lines.Panel("NMI", {"a": {9: [0.5]}})]),
    "sweep": lambda path: lines.course(path, [lines.Panel("NMI", {"a": {8: [1, 2], 128: [3, 4], 32: [5.0]}})], "K"),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The saved figures, for inspection."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
@pytest.mark.parametrize("name", EVERY)
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, name: str, suffix: str) -> None:
    before = dict(matplotlib.rcParams)
    files = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for file in files:
        EVERY[name](file)
    data = files[0].read_bytes()
    assert data == files[1].read_bytes()
    assert data.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    assert not re.search(rb"CreationDate|<dc:date>|Software", data)
    assert dict(matplotlib.rcParams) == before
    if suffix == "png":
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width <= 2100 and len(np.unique(np.asarray(picture))) > 10


def test_the_suffix_is_the_format(tmp_path: Path) -> None:
    for name, file in itertools.product(EVERY, ["figure.jpg", "figure", "figure.png.txt"]):
        with pytest.raises(UsageError):
            EVERY[name](tmp_path / file)
    assert not list(tmp_path.iterdir())
    EVERY["usage"](tmp_path / "A.PNG")
    assert (tmp_path / "A.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(SoftVQError):
        EVERY["usage"](tmp_path / "nowhere" / "a.png")
    monkeypatch.setattr(Figure, "savefig", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        EVERY["usage"](path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == b"old"


def test_a_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    EVERY["curves"](tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        EVERY["curves"](tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colours: list[str], deficiency: Any) -> np.ndarray:
    """Convert sRGB colours to CIELAB, (n, 3)."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(deficiency).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = seen @ to_xyz.T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize(("n", "apart"), [(10, 14), (20, 13)])
def test_colours_of_classes_are_told_apart(n: int, apart: float, deficiency: str) -> None:
    seen = lab(style.colours(n), DEFICIENCIES[deficiency])
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > apart


def test_a_class_has_one_colour_in_all_panels_and_one_key(tmp_path: Path, drawn: list[Figure]) -> None:
    names = ("x", "y", "z")
    plot_maps(
        tmp_path / "a.png",
        [Panel("all", POINTS, LABELS, names), Panel("some", POINTS[LABELS > 0], LABELS[LABELS > 0], names)],
    )
    (figure,) = drawn
    keys = figure.legends[0]
    assert [text.get_text() for text in keys.get_texts()] == ["x", "y", "z"]
    colour = {t.get_text(): to_rgb(h.get_color()) for t, h in zip(keys.get_texts(), keys.legend_handles, strict=True)}
    for axis, present in zip(figure.axes, ({"x", "y", "z"}, {"y", "z"}), strict=True):
        shown = {tuple(face[:3]) for face in axis.collections[0].get_facecolors()}
        assert shown == {colour[name] for name in present}
        assert not axis.get_xticks().size and not axis.get_yticks().size
    assert [axis.get_title() for axis in figure.axes] == ["all", "some"]


def test_a_subtitle_stands_whole_below_a_title_that_is_shortened(tmp_path: Path, drawn: list[Figure]) -> None:
    said = "nMSE 0.099, 39150 iterations"
    plot_maps(tmp_path / "a.png", [Panel("a long name " * 5, POINTS, subtitle=said), *[Panel("b", POINTS)] * 2])
    name, below = drawn[0].axes[0].get_title().split("\n")
    assert "…" in name and below == said
    assert drawn[0].axes[1].get_title() == "b"


def test_points_keep_their_class(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_maps(tmp_path / "a.png", [Panel("a", POINTS, LABELS)])
    scatter = drawn[0].axes[0].collections[0]
    order = [int(np.flatnonzero((point == POINTS).all(1))[0]) for point in scatter.get_offsets()]
    wanted = [to_rgb(style.colours(3)[LABELS[i]]) for i in order]
    assert np.allclose(scatter.get_facecolors()[:, :3], wanted)
    assert order != sorted(order)  # lest the last class covers the others


@pytest.mark.parametrize(("classes", "keys"), [(1, 0), (2, 2), (20, 20), (21, 0)])
def test_the_legend_is_left_out_where_it_cannot_help(
    tmp_path: Path, drawn: list[Figure], classes: int, keys: int
) -> None:
    plot_maps(tmp_path / "a.png", [Panel("a", POINTS, np.arange(60) % classes)])
    assert sum(len(legend.get_texts()) for legend in drawn[0].legends) == keys


@pytest.mark.parametrize("names", [tuple("0123456789"), tuple(f"a rather long name {i}" for i in range(20))])
@pytest.mark.parametrize("maps", [1, 2, 4, 6])
def test_the_legend_stays_on_the_page(tmp_path: Path, drawn: list[Figure], names: tuple[str, ...], maps: int) -> None:
    plot_maps(tmp_path / "a.png", [Panel("a", POINTS, np.arange(60) % len(names), names)] * maps)
    (figure,) = drawn
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1
    assert all(axis.get_window_extent().y0 > box.y1 and axis.get_window_extent().width > 200 for axis in figure.axes)


STRANGE = [
    *("$x$", r"\frac", "ba$$in", "a_b^2", "{", "<b>", "&amp;", "%s", "new\nline"),
    *("\U0001f600", "\u4e2d\u6587", "\u0639"),
]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_names_are_drawn_as_text(tmp_path: Path, drawn: list[Figure], suffix: str) -> None:
    names = (*STRANGE, "x" * 200, "W" * 200)
    title = r"a $\frac{1}{0}$ _title_ {with} " + "long " * 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_maps(tmp_path / f"a.{suffix}", [Panel(title, POINTS, np.arange(60) % len(names), names)])
        (figure,) = drawn
        keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys[:8] == STRANGE[:8] and keys[8] == "new line" and keys[9:12] == STRANGE[9:]
    assert all("…" in key for key in keys[12:]) and len(set(keys)) == len(names)
    if suffix != "png":
        with quiet(UserWarning):  # a character that no font here has
            legend = figure.legends[0]
            for item in (*legend.get_texts(), *legend.legend_handles, figure.axes[0].title):
                box = item.get_window_extent()
                assert box.x0 >= figure.bbox.x0 and box.x1 <= figure.bbox.x1 + 1


@pytest.mark.parametrize("name", ["maps", "bars", "sheet"])
def test_characters_that_no_font_has_are_said(
    name: str, tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_families", lambda missing: ([], missing))
    said = Listener()
    names = ["plain", "\u4e2d"]
    draw: dict[str, Callable[[Path], Any]] = {
        "maps": lambda path: plot_maps(path, [Panel("a", POINTS, LABELS % 2, tuple(names))], said),
        "bars": lambda path: bars.plot(path, names, [COLUMN], reporter=said),
        "sheet": lambda path: images.contact_sheet(path, IMAGES, np.arange(12) % 2, names, said),
    }
    draw[name](tmp_path / "a.png")
    [note] = said.notes
    assert names[1] in note
    assert set(names) <= set(texts(drawn[0]))


def test_another_font_is_taken_for_what_the_first_has_not(tmp_path: Path, drawn: list[Figure]) -> None:
    """STIX is included in matplotlib too, and has circled letters."""
    said = Listener()
    plot_maps(tmp_path / "a.png", [Panel("a", POINTS, LABELS, ("\u24b6", "y", "z"))], said)
    first = drawn[0].legends[0].get_texts()[0]
    assert first.get_text() == "\u24b6" and not said.notes
    assert text.FONT in first.get_fontfamily() and len(first.get_fontfamily()) == 2


@pytest.mark.parametrize(
    "names",
    [
        [f"animalia_chordata_mammalia_carnivora_{'felidae_' * 6}{i}_of_a_list" for i in range(30)],
        [f"{'a' * 60}{i}{'b' * 60}" for i in range(12)],
    ],
)
def test_long_names_are_shortened_and_stay_apart(names: list[str]) -> None:
    short = text.shortened(names, 30)
    assert len(set(short)) == len(names) and {len(name) for name in short} == {30}
    assert all(name.startswith(names[0][:8]) for name in short)
    assert text.shortened(["short", "a\nb"], 5) == ["short", "a b"]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["1", "10", "2"], ["1", "2", "10"]),
        (["c1", "c10", "c2"], ["c1", "c2", "c10"]),
        (["a10b2", "a10b10", "a2"], ["a10b2", "a10b10", "a2"]),  # not of folders: left as it is
        (["zero", "one", "two"], ["zero", "one", "two"]),
        (["02", "1", "2"], ["1", "02", "2"]),
        (["1" * 400, "a"], ["1" * 400, "a"]),
    ],
)
def test_numbers_in_names_are_in_the_order_of_numbers(names: list[str], ordered: list[str]) -> None:
    assert text.natural_order(names) == ordered


def test_too_many_classes_are_said_in_the_legend_s_place(tmp_path: Path, drawn: list[Figure]) -> None:
    said = Listener()
    plot_maps(tmp_path / "a.png", [Panel("a", RANDOM.normal(size=(2000, 2)), np.arange(2000) % 1000)], said)
    [note] = said.notes
    assert "1000" in note and note in texts(drawn[0])
    assert not drawn[0].legends


def test_the_backend_does_not_matter_and_pyplot_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy as np; from softvq_cli.plots import images; "
        "images.codebook_usage(sys.argv[1], np.ones(3)); assert os.environ['MPLBACKEND'] == 'module://nowhere'; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "MPLBACKEND": "module://nowhere"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], check=True, env=environment)
    images.codebook_usage(tmp_path / "b.png", np.ones(3))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_rows_that_a_map_leaves_out_are_not_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    some = np.where((np.arange(60) < 20)[:, None], POINTS, np.nan)
    plot_maps(tmp_path / "a.png", [Panel("a", some, np.arange(60) // 20)])
    assert len(drawn[0].axes[0].collections[0].get_offsets()) == 20 and not drawn[0].legends


def test_each_reconstruction_stands_below_its_original(tmp_path: Path, drawn: list[Figure]) -> None:
    originals = np.zeros((12, 4, 4, 1), np.uint8)
    originals[:, 0, 0, 0] = np.arange(12) * 10
    images.reconstructions(tmp_path / "a.png", originals, 255 - originals)
    (axis,) = drawn[0].axes
    image = np.asarray(axis.images[0].get_array())
    strip, step = image.shape[0] / 4, (image.shape[1] + 1) / 10
    corners = [[image[int(i * strip + 2), int(j * step + 2), 0] for j in range(10)] for i in range(4)]
    assert corners[0] == [10 * j for j in range(10)] and corners[1] == [255 - 10 * j for j in range(10)]
    assert corners[2][:2] == [100, 110] and corners[3][:2] == [155, 145] and corners[2][2:] == [255] * 8
    assert [label.get_text() for label in axis.get_yticklabels()] == ["original", "reconstruction"] * 2


def test_curves_show_what_the_run_has(tmp_path: Path, drawn: list[Figure]) -> None:
    lines.training(tmp_path / "a.png", LINES)
    lines.training(tmp_path / "b.png", [{"step": 1, "loss": 1.0, "nmse": 0.5}])
    assert [axis.get_ylabel() for axis in drawn[0].axes[:3]] == ["normalised MSE", "loss terms, unweighted", "codes"]
    training = drawn[0].axes[0].lines[0]
    assert training.get_label() == "training"
    assert np.allclose(training.get_xydata(), [(s, 1 / s) for s in (10, 20, 30)])
    assert [axis.get_ylabel() for axis in drawn[1].axes] == ["normalised MSE"]


def test_usage_is_sorted_and_counted(tmp_path: Path, drawn: list[Figure]) -> None:
    images.codebook_usage(tmp_path / "a.png", np.array([0, 2, 2, 0, 2, 2]))
    heights = [bar.get_height() for bar in drawn[0].axes[0].patches]
    assert heights == [0.25, 0.25, 0.25, 0.25, 0, 0]
    assert {"perplexity 4.0 of 6", "2 codes never used"} <= set(texts(drawn[0]))


def test_centroids_stand_in_the_order_of_their_use(tmp_path: Path, drawn: list[Figure]) -> None:
    decoded = np.full((3, 8, 8, 1), 0.0)
    decoded[1], decoded[2] = 0.4, 0.8
    images.codewords(tmp_path / "a.png", decoded, np.array([1, 5, 9]))
    image = np.asarray(drawn[0].axes[0].images[0].get_array())[:, :, 0]
    assert [image[2, int((i + 0.5) * image.shape[1] / 3)] for i in range(3)] == [204, 102, 0]


def test_bars_stand_beside_the_paper_s_numbers(tmp_path: Path, drawn: list[Figure]) -> None:
    bars.plot(tmp_path / "a.png", ["one", "two"], [COLUMN])
    axis = drawn[0].axes[0]
    containers = [container for container in axis.containers if hasattr(container, "patches")]
    ours, theirs = ([bar.get_width() for bar in container.patches] for container in containers)
    assert ours == [50.0, 60.0] and theirs[0] == 52.0 and np.isnan(theirs[1])
    assert {"50", "60", "52", "one", "two", "paper"} <= set(texts(drawn[0]))
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first row on top
    bars.plot(tmp_path / "b.png", ["one", "two"], [bars.Column("nMSE", [0.5, 0.6], [None, None], [None, None])])
    assert len(drawn[1].legends[0].get_texts()) == 1  # no paper


def test_a_course_has_a_line_a_model_in_each_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = [
        lines.Panel("one", {"a": {1000: [1.0, 2.0, 3.0], 10: [1.0]}, "b": {1000: [3.0]}}),
        lines.Panel("two", {"b": {1000: [4.0], 10: [5.0]}}),
    ]
    lines.course(tmp_path / "a.png", panels)
    first, second = drawn[0].axes
    assert first.lines[0].get_xydata().tolist() == [[10, 1.0], [1000, 2.0]]
    assert (first.get_xlabel(), first.get_title(), first.get_xscale()) == ("iterations", "one", "log")
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["10", "1 000"]
    drawn_lines = [[bars[0] for bars in axis.containers] for axis in (first, second)]
    assert drawn_lines[0][1].get_color() == drawn_lines[1][0].get_color() != drawn_lines[0][0].get_color()
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["a", "b"]
    lines.course(tmp_path / "b.png", [lines.Panel("one", {"a": {8: [1.0, 2.0], 128: [3.0], 32: [5.0, 7.0]}})], "K")
    assert drawn[1].axes[0].lines[0].get_xydata().tolist() == [[8, 1.5], [32, 6], [128, 3]]
    assert drawn[1].axes[0].get_xlabel() == "K" and not drawn[1].legends


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_maps(path, []),
        lambda path: plot_maps(path, [Panel("a", POINTS, LABELS[:5])]),
        lambda path: images.reconstructions(path, IMAGES, IMAGES[:5]),
        lambda path: images.reconstructions(path, IMAGES[0], IMAGES[0]),
        lambda path: images.reconstructions(path, IMAGES[:0], IMAGES[:0]),
        lambda path: lines.training(path, []),
        lambda path: images.codebook_usage(path, np.zeros(4)),
        lambda path: images.codebook_usage(path, np.array([-1, 2])),
        lambda path: images.codewords(path, IMAGES, np.arange(3)),
        lambda path: bars.plot(path, ["one"], [COLUMN]),
        lambda path: bars.plot(path, ["one"], []),
        lambda path: lines.course(path, []),
        lambda path: lines.course(path, [lines.Panel("accuracy", {"a": {1: [1], 2: []}})]),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, draw: Callable[[Path], None]) -> None:
    with pytest.raises(InputError) as error:
        draw(tmp_path / "a.png")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
