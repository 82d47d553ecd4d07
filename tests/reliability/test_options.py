"""Any combination of options and files ends in success or one clear line, without incomplete files.

The options are read from the program, so that new ones are tested automatically.
``SOFTVQ_EXAMPLES=20`` tries twenty times as many combinations.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from softvq_cli import embeddings
from softvq_cli.cli import app
from softvq_cli.training import archive
from tests.helpers import blobs, ended_well, make_zip, save_blobs, shrunk_networks, softvq, train

TIMES = int(os.environ.get("SOFTVQ_EXAMPLES", "1"))
COMMANDS = {name: app.build(name) for names in app.COMMANDS.values() for name in names}

# ---- files of every kind, valid and invalid


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shelf")
    with shrunk_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", _no_compiler)
        fill(folder)
        yield folder


def _no_compiler(*_: object) -> None:
    raise RuntimeError("no compiler found")


def fill(folder: Path) -> None:
    data = save_blobs(folder / "data.npz")
    dataset = blobs(24)
    np.savez(folder / "unlabelled.npz", images=dataset.images)
    np.save(folder / "images.npy", dataset.images)
    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        (folder / "images" / f"c{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / "images" / f"c{label}" / f"{number}.png")
    for bottleneck in ("soft-vq", "ae"):
        run = train(data, folder / bottleneck, bottleneck=bottleneck, iterations=2)
        softvq("embed", run, "-q", "-o", folder / f"{bottleneck}.npy", "--split", "all").done()
        softvq("export", run, "-q", "--safetensors").done()
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(12, 3)))
    np.save(folder / "labels.npy", np.arange(12) % 3)
    for name, value in (("same", 0), ("huge", 1e38)):
        np.save(folder / f"{name}.npy", np.full((12, 3), value, np.float32))
    shutil.copytree(folder / "ae", folder / "unfinished")
    (folder / "unfinished" / "ckpt.pt").unlink()
    whole = (folder / "ae" / "ckpt.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    texts = {"empty": "", "text.toml": "K = 3\n[train]\niterations = 1\n", "wrong.toml": 'K = "many"\n'}
    for name, text in (texts | {"broken.toml": "K = = 3\n"}).items():
        (folder / name).write_text(text)
    (folder / "nothing").mkdir()
    images = sorted((folder / "images").rglob("*.png"))
    make_zip(folder / "images.zip", {str(path.relative_to(folder)): path.read_bytes() for path in images})


FILES = (
    *("data.npz", "unlabelled.npz", "images.npy", "images", "images.zip", "soft-vq", "ae", "soft-vq/ckpt.pt"),
    *("ae/ckpt.pt", "ae/model.safetensors", "soft-vq.npy", "ae.npy", "rows.npy", "labels.npy", "same.npy", "huge.npy"),
    *("unfinished", "cut.pt", "empty", "text.toml", "wrong.toml", "broken.toml", "nothing", "missing", "ae.json"),
)

# ---- words

GARBAGE = st.text(st.characters(exclude_characters="/~\0", exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.sampled_from(
    ["0", "-1", "1", "2", "3", "7", "1.5", "-0.0", "1e400", "-1e308", "nan", "inf", "0x10", " 1", "1_0", "９", "9" * 25]
)
NAMES = st.sampled_from(
    ["new", "new.npy", "new.png", "deep/new", ".", "a b", "ü\n.npy", "x" * 300, "", "-", "n.labels.npy"]
)
VALID = {
    "--iterations": ("1", "2"),
    "--data": ("{data.npz}", "{images}", "{images.zip}", "{images.npy}", "{unlabelled.npz}"),
    "--bottleneck": ("ae", "vae", "beta-vae", "info-dropout", "vq", "soft-vq"),
    "--arch": ("mlp", "cnn"),
    "--K": ("1", "2", "5"),
    "--latent-dim": ("1", "3"),
    "--batch-size": ("1", "2", "8"),
    "--log-every": ("1", "2"),
    "--checkpoint-every": ("1",),
    "--sigma-form": ("input", "codeword"),
    "--sigma-power": ("-d", "0", "1.5", "-1"),
    "--precision": ("float32", "bfloat16", "auto"),
    "--device": ("cpu", "auto", "cuda"),
    "--lr": ("1e-3", "1e30", "1e-45"),
    "--config": ("{text.toml}", "{wrong.toml}", "{broken.toml}", "{empty}"),
    "--out": ("new", "new.npy", "new.png", "new.svg", "new.safetensors"),
    "--split": ("train", "test", "all"),
    "--what": ("z_e", "z_q", "codes", "reconstruction", "pixels"),
    "--solver": ("lbfgs", "adam"),
    "--labels": ("{labels.npy}", "{rows.npy}"),
    "--clusters": ("1", "2", "3", "12", "13"),
    "--n-init": ("1", "3"),
    "--init": ("random", "k-means++"),
    "--assignments": ("new.npy",),
    "--perplexity": ("1", "2", "3.5", "30"),
    "--save-coords": ("coords.npy",),
    "--jobs": ("1",),
    "--seed": ("0", "7"),
    "--neighbours": ("1", "3"),
    "--few-labels": ("1", "2,3"),
    "--titles": ("A", "A,B"),
    "--test-fraction": ("0.2", "0.9", "1e-9"),
    "--image-size": ("1", "8", "17"),
}
"""Mostly valid values; ``{name}`` is one of the files above."""
ENDLESS = {"--iterations", "--n-init", "--image-size"}
"""Numbers that may be as large as time and memory permit."""


SHELF = st.sampled_from(FILES).map(lambda name: "{" + name + "}")


@st.composite
def one_of_kind(draw: st.DrawFn, good: st.SearchStrategy[str], **others: st.SearchStrategy[str]) -> str:
    """Mostly valid, because otherwise every combination would fail its first check."""
    kinds = {"good": good, **others}
    return draw(kinds[draw(st.sampled_from(["good"] * 3 * len(others) + list(others)))])


@st.composite
def option(draw: st.DrawFn, param: Any) -> list[str]:
    """One option with a valid value, a boundary, a file, a name or garbage."""
    name = draw(st.sampled_from([*param.opts, *param.secondary_opts]))
    if param.is_flag:
        return [name]
    long = next((one for one in param.opts if one.startswith("--")), param.opts[0])
    numbers = NUMBERS.filter(lambda text: long not in ENDLESS or len(text) < 20)
    good = st.sampled_from(VALID[long]) if long in VALID else numbers
    value = draw(one_of_kind(good=good, numbers=numbers, files=SHELF, names=NAMES, garbage=GARBAGE))
    # A name that stands for data or downloads nothing here; a folder to write to is never one of the shelf's.
    return [name, value.replace("{", "").replace("}", "")] if long in WRITTEN else [name, value]


WRITTEN = {"--out", "--assignments", "--save-coords", "--data-dir"}


@st.composite
def arguments(draw: st.DrawFn, param: Any) -> list[str]:
    """The words for one argument, mostly of the right kind and number."""
    number = draw(st.sampled_from([1] * 8 + [0, 2]))
    if param.nargs == -1:
        number = draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
    word = one_of_kind(good=st.sampled_from(RIGHT[param.name]), files=SHELF, garbage=GARBAGE)
    return [draw(word) for _ in range(number)]


RIGHT = {
    "action": ("list", "check", "fetch"),
    "names": ("digits", "mnits"),
    "checkpoint": ("{soft-vq}", "{ae/ckpt.pt}", "{ae/model.safetensors}"),
    "files": ("{soft-vq}", "{ae/ckpt.pt}", "{ae.npy}", "{soft-vq.npy}"),
    "embeddings": ("{soft-vq.npy}", "{ae.npy}", "{rows.npy}"),
    "name": ("table1", "table1", "table2", "fig4", "all"),
    "page": ("train", "help", "trian"),
    "data": ("{images}", "{images.zip}", "{data.npz}", "{images.npy}"),
    "run": ("{soft-vq}", "{ae/ckpt.pt}"),
    "paths": ("{images}", "{images.zip}"),
    "runs": ("{soft-vq}", "{ae/ckpt.pt}"),
    "path": ("{soft-vq}", "{ae/model.safetensors}", "{ae.npy}", "{unfinished}"),
}
"""Parameter name → suitable files."""


@st.composite
def command(draw: st.DrawFn, name: str) -> list[str]:
    """The words of one call."""
    params = [param for param in COMMANDS[name].params if param.param_type_name == "option" and param.name != "debug"]
    words = [name]
    for param in COMMANDS[name].params:
        if param.param_type_name == "argument":
            words += draw(arguments(param))
    words += NEEDED.get(name, [])
    for param in draw(st.lists(st.sampled_from(params), max_size=4, unique_by=lambda one: one.name)) if params else ():
        words += draw(option(param))
    if draw(st.sampled_from([False] * 29 + [True])):
        words.append(draw(GARBAGE))
    return words


SMALLEST = [
    *("--data", "{data.npz}", "--iterations", "2", "--batch-size", "4"),
    *("--latent-dim", "2", "--K", "3", "--arch", "mlp", "--device", "cpu"),
]
GRID = [*("--iterations", "1", "--batch-size", "4", "--jobs", "1", "--device", "cpu", "--K", "3", "--latent-dim", "2")]
NEEDED = {
    "reproduce": ["--data", "mnist={data.npz}", "--only", "pca", "--out", "new", *GRID],
    "compare": ["--data", "{data.npz}", "--bottleneck", "ae", "--seeds", "1", "--out", "new", *GRID],
    "sweep": ["--over", "beta=0,1", "--data", "{data.npz}", "--arch", "mlp", "--out", "new", *GRID],
    "export": ["--safetensors", "--out", "new.safetensors"],
    "tsne": ["--out", "new.png", "--jobs", "1", "--perplexity", "2"],
    "cluster": ["--n-init", "2", "--jobs", "1"],
    "train": SMALLEST,
    "run": SMALLEST,
    "report": ["--out", "new.html", "--max-points", "20", "--jobs", "1"],
}
"""First options of every call, which make it short. Later options take precedence."""
COUNTS = {
    "train": 30,
    "embed": 25,
    "cluster": 25,
    "probe": 20,
    "tsne": 12,
    "info": 20,
    "data": 12,
    "export": 20,
    "run": 8,
    "reproduce": 12,
    "sweep": 12,
    "help": 8,
    "report": 6,
    "predict": 6,
    "issues": 6,
    "compare": 8,
}
SLOW = ("run", "compare", "reproduce", "sweep")
"""Valid combinations, which train and measure."""
tried: Counter[tuple[str, int]] = Counter()


def test_every_command_is_tried() -> None:
    assert set(COUNTS) == set(COMMANDS)


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in COUNTS])
def test_any_mix_ends_well(name: str, shelf: Path, tmp_path: Path) -> None:
    number = 0

    @settings(
        max_examples=COUNTS[name] * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command(name))
    def tries(words: list[str]) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        before = fingerprints(shelf)
        with contextlib.chdir(folder):
            ended = softvq(*(on_shelf(word, shelf) for word in words))
        tried[name, ended.code] += 1
        if os.environ.get("SEE"):
            print(ended.code, words, ended.err.splitlines()[-1:])
        ended_well(ended)
        left_whole(folder)
        assert fingerprints(shelf) == before
        shutil.rmtree(folder)

    tries()
    print(f"\n{name}: {number} mixes, by exit code {dict(sorted((c, n) for (w, c), n in tried.items() if w == name))}")


def on_shelf(word: str, shelf: Path) -> str:
    prefix = "mnist=" if word.startswith("mnist={") else ""
    name = word.removeprefix(prefix)
    known = name[:1] == "{" and name[-1:] == "}" and name[1:-1] in FILES
    return f"{prefix}{shelf / name[1:-1]}" if known else word


def fingerprints(shelf: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all input files, which must not change."""
    found = ((path, path.stat()) for path in shelf.rglob("*") if path.is_file())
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found if path.name != ".lock"}


def left_whole(folder: Path) -> None:
    """Check that every file left by a command can be read completely."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.suffix != ".tmp", path
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            assert array.dtype.kind in "fi" and np.isfinite(array).all(), path
        elif path.name == "ckpt.pt":
            archive.read(path)  # a grid's processes have the networks of the paper, which do not fit into these
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.name == "metrics.jsonl":
            assert all(isinstance(json.loads(line)["step"], int) for line in path.read_text().splitlines())
    for path in folder.rglob("*.labels.npy"):
        embeddings.read(path.with_name(path.name.replace(".labels.npy", ".npy")))
