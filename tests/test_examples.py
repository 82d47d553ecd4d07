"""The examples run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment() -> dict[str, str]:
    """The installed ``softvq`` of this interpreter is the one that scripts find."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def test_the_shell_pipeline_leaves_a_figure_and_results(tmp_path: Path, environment: dict[str, str]) -> None:
    command = ["sh", str(ROOT / "examples" / "pipeline.sh"), str(tmp_path), "20"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    for name in ("ae", "soft-vq"):
        assert 0.1 <= json.loads((tmp_path / f"{name}.cluster.json").read_text())["accuracy"] <= 1
        assert 0.1 <= json.loads((tmp_path / f"{name}.probe.json").read_text())["accuracy"] <= 1


def test_the_estimator_prints_a_probe_and_a_codeword(environment: dict[str, str]) -> None:
    command = [sys.executable, str(ROOT / "examples" / "estimator.py"), "20"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "linear probe" in done.stdout
    assert "codeword" in done.stdout
