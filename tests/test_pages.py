"""The pages of docs/ do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import softvq_cli as softvq
from softvq_cli import datasets, training, words
from softvq_cli.config import DataConfig
from tests.helpers import ROOT, Zygote


def blocks(page: str, language: str) -> list[str]:
    """The code of ``docs/page`` in that language, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


FRESH = """
import json, sys
for name in [name for name in sys.modules if name.split(".")[0] in ("softvq_cli", "tests")]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[1])
"""
"""In a process that has loaded the package from elsewhere."""
COMMANDS = f"""{FRESH}
from softvq_cli.__main__ import main
from softvq_cli.experiments import backends
backends.METHOD = "spawn"  # others have this package's modules
for words in json.loads(sys.argv[2]):
    code = main(words)
    if code:
        sys.exit(code)
"""
REGISTRY_TESTS = f"""{FRESH}
import pytest
sys.path.insert(1, sys.argv[2])
import softvq_cli
assert softvq_cli.__file__.startswith(sys.argv[1])
files = [sys.argv[2] + f"/tests/model/{{name}}.py" for name in ("test_bottlenecks", "test_evaluate")]
sys.exit(pytest.main([*files, "-k", "gaussian-noise", "-p", "no:cacheprovider", "-p", "no:xdist"]))
"""


def test_a_bottleneck_is_added_as_the_page_says(tmp_path: Path, zygote: Zygote) -> None:
    source, line, *_ = blocks("adding-a-bottleneck.md", "python")
    package = tmp_path / "packages" / "softvq_cli"
    shutil.copytree(ROOT / "softvq_cli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "model" / "bottlenecks" / "gaussian_noise.py").write_text(source, encoding="utf-8")
    words = package / "words.py"
    registry, begin, rest = words.read_text(encoding="utf-8").partition("\nBOTTLENECKS: ")
    entries, end, rest = rest.partition("\n}\n")
    words.write_text(f"{registry}{begin}{entries}\n{line.rstrip()}{end}{rest}", encoding="utf-8")

    train, info, reproduce = (
        shlex.split(command)[1:] for command in blocks("adding-a-bottleneck.md", "sh")[0].splitlines()
    )
    commands = [[*train, "--iterations", "20", "--quiet"], [*info, "--json"], [*reproduce, "--json", "--jobs", "1"]]
    ended = zygote.python(COMMANDS, package.parent, json.dumps(commands), cwd=tmp_path, small=False).done()
    decoder = json.JSONDecoder()
    path, _, documents = ended.out.partition("\n")
    described, at = decoder.raw_decode(documents)
    comparison, _ = decoder.raw_decode(documents[at:].lstrip())
    assert Path(path) == Path("runs/noise/ckpt.pt")
    assert described["config"]["model"]["bottleneck"] == "gaussian-noise"
    assert described["config"]["model"]["noise_std"] == 0.5
    assert {"loss", "nmse", "power"} <= set(described["metrics"])
    rows = {row["row"]: row["label"] for row in comparison["rows"]}
    assert rows == {"ae": "baseline autoencoder", "gaussian-noise": "Gaussian noise"}
    assert not comparison["failed"]
    table = (tmp_path / "reproduce" / "table1" / "table1.md").read_text(encoding="utf-8")
    [row] = [line for line in table.splitlines() if line.startswith("| Gaussian noise |")][:1]
    assert re.search(r"\d\d\.\d\d", row)
    assert "gaussian-noise: noise std 0.5" in table

    zygote.python(REGISTRY_TESTS, package.parent, str(ROOT), cwd=tmp_path, small=False).done()


def test_a_package_adds_a_bottleneck_and_a_logger_as_the_page_says(tmp_path: Path) -> None:
    source, _, entry, logger = blocks("adding-a-bottleneck.md", "python")
    [project] = blocks("adding-a-bottleneck.md", "toml")
    package, metadata = tmp_path / "my_noise", tmp_path / "my_noise-1.dist-info"
    for folder in (package, metadata):
        folder.mkdir()
    for name, text in {"__init__": entry, "noise": source, "lines": logger}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-noise\nVersion: 1\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = ("--bottleneck", "gaussian-noise", "--log", "lines", "--iterations", "20", "--log-every", "10", "-o", "run")
    done = subprocess.run(
        [sys.executable, "-m", "softvq_cli", "train", *words, "--device", "cpu", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["config"]["model"]["bottleneck"] == "gaussian-noise"
    assert "power" in document["metrics"]
    logged = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in logged] == ["10", "20"]


def test_a_bottleneck_that_cannot_be_loaded_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "absent": EntryPoint("absent", "not_there:ENTRY", "softvq.bottlenecks"),
        "number": EntryPoint("number", "math:pi", "softvq.bottlenecks"),
        "vq": EntryPoint("vq", "math:pi", "softvq.bottlenecks"),
    }
    monkeypatch.setitem(words._PLUGINS, "softvq.bottlenecks", points)
    monkeypatch.setattr(words, "BROKEN", {})
    assert words._registered(words.BOTTLENECKS) == words.BOTTLENECKS
    assert set(words.BROKEN) == {"absent", "number"}


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Python of a page may speak of, beside a short run in ``runs/first``; all trainings are short."""
    monkeypatch.chdir(tmp_path)
    digits = datasets.load(DataConfig("digits"), "train")
    train, embedder = training.train, softvq.AutoencoderEmbedder
    train({"data": "digits", "iterations": 3}, out=tmp_path / "runs" / "first")
    monkeypatch.setattr(training, "train", lambda chosen, **how: train({**chosen, "iterations": 3}, **how))

    def short(*given: Any, **chosen: Any) -> softvq.AutoencoderEmbedder:
        return embedder(*given, **{**chosen, "iterations": 30})

    short.load = embedder.load  # type: ignore[attr-defined]
    monkeypatch.setattr(softvq, "AutoencoderEmbedder", short, raising=False)
    return {"images": digits.images, "labels": digits.labels}


def run_in_order(page: str, names: dict[str, Any]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)


def test_the_python_of_the_readme_runs(names: dict[str, Any]) -> None:
    run_in_order("../README.md", names)
    assert names["z_e"].shape == (1797, 16)
    assert names["z_e"].dtype == "float32"


def test_the_python_of_the_api_page_runs_in_order(names: dict[str, Any], tmp_path: Path) -> None:
    run_in_order("python-api.md", names)
    n = len(names["images"])
    assert names["z_e"].shape == (n, 16)
    assert names["codes"].shape == (n, 1)
    assert names["classifier"].score(names["images"], names["labels"]) > 0.2  # chance is 0.1
    assert names["of_rows"].transform(names["rows"]).shape == (n, 8)
    assert len(set(names["clusters"])) == 10
    assert names["run"].path.is_file()
    assert names["run"].path.resolve() == (tmp_path / "runs" / "vq" / "ckpt.pt").resolve()
