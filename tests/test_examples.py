"""The examples run without changes."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.helpers import ROOT, Zygote


def run_script(name: str, *words: object, zygote: Zygote, folder: Path) -> str:
    """Standard output of a shell script in examples/, with small networks."""
    commands = folder / "bin"
    commands.mkdir()
    path = f"{zygote.executable(commands, small=True).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", ROOT / "examples" / name, *map(str, words)],
        env=os.environ | {"PATH": path, "SOFTVQ_DEVICE": "cpu"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_pipeline_leaves_a_figure_and_results(tmp_path: Path, zygote: Zygote) -> None:
    run_script("pipeline.sh", "out", 20, zygote=zygote, folder=tmp_path)
    assert (tmp_path / "out" / "maps.png").read_bytes().startswith(b"\x89PNG")
    for name in ("ae", "soft-vq"):
        clusters = json.loads((tmp_path / "out" / f"{name}.cluster.json").read_text())
        probe = json.loads((tmp_path / "out" / f"{name}.probe.json").read_text())
        assert 0.1 <= clusters["clustering_accuracy"] <= 1 and 0.1 <= probe["probe_accuracy"] <= 1


def test_a_folder_of_photos_ends_with_a_page_a_list_and_a_prediction(tmp_path: Path, zygote: Zygote) -> None:
    digits = load_digits()
    for number, label in enumerate(digits.target[:60]):
        file = tmp_path / "my photos" / f"digit {label}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(file)
    run_script("photos.sh", "my photos", "out", 20, zygote=zygote, folder=tmp_path)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "out" / "issues.csv").read_text().count("\n") >= 1
    [row] = csv.DictReader((tmp_path / "out" / "prediction.csv").read_text().splitlines())
    assert row["class"].startswith("digit ") and 0 <= float(row["outlier"]) <= 1


def test_two_bottlenecks_are_compared_in_a_table(tmp_path: Path, zygote: Zygote) -> None:
    table = run_script("compare.sh", "digits", "out", 10, zygote=zygote, folder=tmp_path)
    assert "soft VQ-VAE" in table and "raw data" in table and (tmp_path / "out" / "compare.png").is_file()


def test_vectors_get_codes_and_their_collisions_are_counted(tmp_path: Path, zygote: Zygote) -> None:
    source = (ROOT / "examples" / "vectors.py").read_text()
    done = zygote.python(source, "", "out", 20, cwd=tmp_path).done()
    codes = np.load(tmp_path / "out" / "codes.npy")
    assert codes.shape == (1797, 3) and codes.dtype == np.int64 and 0 <= codes.min() <= codes.max() < 32
    assert f"{len(np.unique(codes, axis=0))} different codes" in done.out


def test_every_example_is_on_the_list() -> None:
    files = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    listed = re.findall(r"^\| \[(.*?)\]\(\1\)", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    assert {"README.md", *listed} == files


def test_the_estimator_prints_a_probe_and_a_codeword(zygote: Zygote) -> None:
    done = zygote.python((ROOT / "examples" / "estimator.py").read_text(), 20, small=False).done()
    assert "linear probe" in done.out and "codeword" in done.out


def test_a_layer_trains_inside_a_network_of_ones_own(zygote: Zygote) -> None:
    assert "codewords in use" in zygote.python((ROOT / "examples" / "layers.py").read_text(), 50).done().out


def test_the_notebook_runs_and_shows_its_pictures(monkeypatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebook")
    pytest.importorskip("ipykernel", reason="the notebook needs a kernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("ITERATIONS", "20")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "examples" / "latents.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]  # what is committed is the source
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    assert 0.1 <= float(shown[-1]["data"]["text/plain"]) <= 1
