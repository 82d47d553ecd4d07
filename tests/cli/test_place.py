"""Places without a home, without a folder for temporary files, with another's settings for windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softvq_cli import files
from softvq_cli.cli import app
from softvq_cli.errors import SoftVQError
from tests.helpers import QUICK, ROOT, installed

NO_PLACE = """
import json, os, pwd, sys, tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

def nobody(_uid):
    raise KeyError("uid not found")

pwd.getpwuid = nobody
os.environ.pop("HOME", None)
tempfile._candidate_tempdir_list = lambda: ["/nowhere"]
from softvq_cli.__main__ import main

ended = []
for words in json.loads(sys.argv[1]):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    ended.append([code, err.getvalue()])
print(json.dumps(ended))
"""
"""Commands in a place with neither; how each ended."""


def nowhere(*commands: str, cwd: Path, **variables: str) -> list[tuple[int, str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    words = json.dumps([command.split() for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", NO_PLACE, words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return [(code, err) for code, err in json.loads(ended.stdout)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "z.npy", rng.normal(size=(40, 3)).astype(np.float32))
    np.save(tmp_path / "z.labels.npy", np.repeat(np.arange(4), 10))
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="homes and temporary folders are found otherwise")
def test_without_a_home_and_temporary_files_all_is_made_that_needs_none(rows):
    train = f"train -q --data digits -o run {' '.join(QUICK)}"
    made, drawn, table, report = nowhere(
        train,
        "tsne z.npy -o z.png --perplexity 5 -q",
        "embed run -o e.parquet -q",
        "report run -q",
        cwd=rows,
        MPLCONFIGDIR="/dev/null/none",
    )
    assert made == drawn == table == report == (0, "")
    assert sorted(path.name for path in rows.iterdir()) == [
        *("e.parquet", "report.html", "run", "z.labels.npy", "z.npy", "z.png"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="homes and temporary folders are found otherwise")
def test_what_needs_temporary_files_says_how_to_have_them(rows):
    grid = f"sweep --over K=2 --data digits -q {' '.join(QUICK)}"
    train = f"train -q --data digits -o run {' '.join(QUICK)}"
    ended = nowhere(train, "probe run -q", "embed run -o -", grid, "--help", cwd=rows)
    assert [code for code, _ in ended] == [0, 0, 1, 0, 0]
    assert "TMPDIR" in ended[2][1]


def test_temporary_files_lie_beside_the_result_where_they_may(monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "tempdir", os.devnull)
    with files.temporary_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())
    with pytest.raises(SoftVQError, match="TMPDIR"), files.temporary_folder():
        pass
    with pytest.raises(SoftVQError, match="none"), files.temporary_folder(tmp_path / "none"):
        pass


def test_a_backend_and_a_folder_that_are_not_here_do_not_matter_to_a_figure(rows):
    environment = os.environ | {"MPLBACKEND": "module://not_here", "MPLCONFIGDIR": "/dev/null/none"}
    process = installed("tsne", "z.npy", "-o", "z.png", "--perplexity", "5", cwd=rows, env=environment)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "z.png\n", "next: softvq cluster z.npy --on-map\n")


def test_libraries_speak_to_nobody_but_with_debug(capfd):
    import logging

    with app._work_place("train", debug=False):
        logging.getLogger("matplotlib").error("of no use")
    assert capfd.readouterr().err == ""
    with app._work_place("train", debug=True):
        assert logging.root.manager.disable == logging.NOTSET
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
def test_too_little_address_space_is_said_before_pytorch_aborts(rows):
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9)); "
    program = f"{limit} from softvq_cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", program, "train", "--data", "digits", "-o", "run"]
    ended = subprocess.run(words, cwd=rows, env=environment, capture_output=True, text=True, timeout=300, check=False)
    said = "PyTorch needs about 3.5 GB of address space, and 3.0 are allowed: raise the limit (ulimit -v unlimited)"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"softvq: error: {said}\n")
    assert not (rows / "run").exists()
