"""Streams with any encoding or closed, and other differences between systems."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli import files
from softvq_cli.datasets import cache
from tests.helpers import QUICK, ROOT, Result, installed, save_blobs, softvq

ENCODINGS = ("ascii", "cp1252", "latin-1", "euc-jp")


FRESH = f"{shlex.quote(sys.executable)} -m softvq_cli"


def shell(
    words: str, cwd: os.PathLike[str] = ROOT, program: object = FRESH, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """A line of the shell, in which ``softvq`` is the program: in fresh processes, or the one of a zygote."""
    line = f'softvq() {{ {program} "$@"; }}; {words}'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=environment, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_help_comes_in_every_encoding(encoding):
    result = shell("softvq --help && softvq train --help", PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode(encoding)
    assert "softvq help train" in text
    assert "--latent-dim" in text
    assert ("COMMAND …" if encoding in ("cp1252", "euc-jp") else "COMMAND ...") in text


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with images ``d.npz``."""
    save_blobs(tmp_path / "d.npz", 20)
    return tmp_path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_paths_keep_their_bytes_and_json_its_names(encoding, here, zygote):
    name, program = "ж…é🐈", zygote.executable(here, small=True)

    def run(words: str) -> subprocess.CompletedProcess[bytes]:
        return shell(f"softvq {words}", here, program, PYTHONIOENCODING=encoding)

    made = run(f"train -q --data d.npz {' '.join(QUICK)} --batch-size 8 -o {name}")
    assert (made.returncode, made.stdout, made.stderr) == (0, f"{name}/ckpt.pt\n".encode(), b"")
    shown = run(f"info -q {name}")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert name in json.dumps(json.loads(shown.stdout.decode("ascii")), ensure_ascii=False)
    missing = run(f"info {name}/x")
    assert missing.returncode == 3
    assert missing.stderr.decode(encoding).startswith("softvq: error: ")


@pytest.mark.skipif(os.name == "nt", reason="file names are no bytes there")
@pytest.mark.parametrize("data", ["photos", "list.csv", "жуки"])
def test_names_of_files_are_utf8_in_every_locale(data, tmp_path):
    lines = ["image,label"]
    for number, name in enumerate(["жук", "猫", "zoë"] * 4):
        path = tmp_path / ("жуки" if data == "жуки" else "photos") / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(path)
        lines.append(f"photos/{name}/{number}.png,{name}")
    (tmp_path / "list.csv").write_text("\n".join(lines), "utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # file names are ASCII's then
    shown = [shell(f"softvq data show {data} -q", tmp_path, **how) for how in ({"LC_ALL": "C.UTF-8"}, plain)]
    assert [(result.returncode, result.stderr) for result in shown] == [(0, b"")] * 2
    utf8, ascii_ = (json.loads(result.stdout) for result in shown)
    assert utf8 == ascii_
    assert "жук" in json.dumps(utf8, ensure_ascii=False)


@pytest.mark.skipif(os.name == "nt", reason="file names are no bytes there")
def test_a_run_finds_its_data_whatever_the_locale_was_and_is(tmp_path, monkeypatch, papers_networks):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    monkeypatch.chdir(tmp_path)
    save_blobs(tmp_path / "жуки 猫.npz", 20)
    train = ("train", "-q", "--data", "жуки 猫.npz", *QUICK, "--batch-size", "8")
    softvq(*train, "-o", "utf8").done()
    lines = (
        shlex.join(["softvq", *train, "-o", "ascii"]),
        "softvq embed -q utf8 -o a.npy",
        "softvq embed -q utf8 -o ж.parquet --with image",
        "softvq info -q ж.parquet > /dev/null",
        "softvq train -q --resume -o utf8 --data 'жуки 猫.npz'",
        shlex.join(["softvq", *train]),
    )
    result = shell(" && ".join(lines), tmp_path, **plain)
    assert (result.returncode, result.stderr) == (0, b"")
    assert softvq("embed", "-q", "ascii", "-o", "b.npy") == Result(0, "b.npy\n", "")
    assert [run.name[:11] for run in (tmp_path / "runs").iterdir()] == ["жуки 猫-soft"]
    ours, theirs = (json.loads((tmp_path / run / "config.json").read_text("utf-8")) for run in ("utf8", "ascii"))
    assert ours == theirs and theirs["data_path"] == str(tmp_path / "жуки 猫.npz")


@pytest.mark.parametrize("codec", ["ascii", "latin-1", "euc-jp", "utf-8"])
def test_a_name_that_was_written_down_is_found_in_every_locale(codec, tmp_path, monkeypatch):
    name = "жуки é 猫"
    listed = name.encode().decode(codec, "surrogateescape")  # what the system's listing gives
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode(codec, "surrogateescape"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode(codec, "surrogateescape"))
    monkeypatch.setattr(os.path, "exists", lambda text: text == listed)
    assert files.as_utf8(listed) == name and files.as_utf8(name) == name
    assert files.on_disk(name) == listed and files.on_disk(listed) == listed
    assert files.on_disk("\ud800") == "\ud800"


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("softvq info nothing >&-", 3, b"", b"softvq: error: there is no file nothing\n"),
        ("softvq info nothing 2>&-", 3, b"", b""),
        ("softvq info nothing >&- 2>&-", 3, b"", b""),
        ("softvq data -q >&-", 0, b"", b""),
        ("softvq --version 2>&-", 0, b"softvq ", b""),
        ("softvq --help >&- <&-", 0, b"", b""),
    ],
)
def test_a_closed_stream_swallows_what_goes_there(words, code, out, err):
    result = shell(words)
    assert (result.returncode, result.stderr) == (code, err)
    assert result.stdout.startswith(out) if out else not result.stdout


def test_what_is_written_while_a_stream_is_closed_holds_no_messages(tmp_path):
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))
    result = shell("softvq cluster z.npy --clusters 3 --assignments a.npy >&- 2>&-", tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert np.load(tmp_path / "a.npy").shape == (30,)


def test_help_is_the_same_without_docstrings():
    plain, without = (shell("softvq --help; softvq cluster --help", PYTHONOPTIMIZE=level) for level in ("", "2"))
    assert b"Examples:" in plain.stdout
    assert (without.returncode, without.stdout, without.stderr) == (0, plain.stdout, plain.stderr)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(("command", "delay"), [("info", 0.3), ("embed", 0.9)])
def test_a_signal_during_an_import_ends_the_wait_that_follows(command, delay, tmp_path):
    os.mkfifo(tmp_path / "f")
    process = installed(command, tmp_path / "f")
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (130, -signal.SIGTERM)  # the latter before anything of ours was loaded
    assert (out, err) == ("", "softvq: interrupted\n" if process.returncode == 130 else "")


def test_a_user_without_a_home_gets_no_folder_called_tilde(monkeypatch, tmp_path):
    pwd = pytest.importorskip("pwd")

    def getpwuid(_uid):
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "SOFTVQ_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.chdir(tmp_path)
    assert str(cache.cache_folder()) == "/.cache/softvq"
    monkeypatch.setenv("HOME", "")
    assert cache.cache_folder().is_absolute()
