"""The examples run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT, Zygote


def test_the_shell_pipeline_leaves_a_figure_and_results(tmp_path: Path, zygote: Zygote) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    path = f"{zygote.executable(folder).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(ROOT / "examples" / "pipeline.sh"), str(tmp_path), "20"]
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    for name in ("ae", "soft-vq"):
        assert 0.1 <= json.loads((tmp_path / f"{name}.cluster.json").read_text())["clustering_accuracy"] <= 1
        assert 0.1 <= json.loads((tmp_path / f"{name}.probe.json").read_text())["probe_accuracy"] <= 1


def test_the_estimator_prints_a_probe_and_a_codeword(zygote: Zygote) -> None:
    done = zygote.python((ROOT / "examples" / "estimator.py").read_text(), 20, small=False).done()
    assert "linear probe" in done.out and "codeword" in done.out


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
