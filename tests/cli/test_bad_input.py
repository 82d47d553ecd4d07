"""Unusable files and folders: one line, the right exit code, nothing overwritten or incomplete."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import QUICK, encoded, make_zip, pixels, write_folder

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def refused(softvq, tmp_path):
    """Check that a command is refused and leaves the current folder unchanged."""

    def state() -> dict[str, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path): path.read_bytes() for path in files}

    def run(code: int, words: tuple[object, ...], *expected: str) -> None:
        before = state()
        softvq(*words).refused(code, *expected)
        assert state() == before

    return run


ROWS = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)


def photos(root: Path, *splits: str) -> Path:
    names = [f"{split}{kind}/{number}.png" for split in splits or ("",) for kind in "ab" for number in range(5)]
    write_folder(root, {name: encoded(pixels(seed, (8, 8))) for seed, name in enumerate(names)})
    return root


# ---- data


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY\x01\x00", None])
@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.zip", "x.tar"])
def test_a_missing_or_damaged_data_file(refused, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(3, ("train", "--data", name, "-o", "run"), name)


def test_folders_and_arrays_that_cannot_be_trained_on(refused, softvq, tmp_path):
    (tmp_path / "empty").mkdir()
    photos(tmp_path / "mine")
    photos(tmp_path / "notes")
    (tmp_path / "notes" / "a" / "notes.png").write_text("not an image")
    np.savez(tmp_path / "const.npz", images=np.full((20, 8, 8), 70, np.uint8))
    for code, words, expected in (
        (3, ("--data", "./empty"), "empty"),
        (3, ("--data", "./notes"), "a/notes.png"),
        (3, ("--data", "const.npz", "-q"), "const"),
        (2, ("--data", "./mine", "--batch-size", 64, "-q"), "--batch-size 64"),
        (2, ("--arch", "cnn", "-q"), "--arch"),
    ):
        refused(code, ("train", *words, "-o", "made/run"), expected)
        assert not (tmp_path / "made").exists() or not (tmp_path / "made" / "run").exists()
    (tmp_path / "there").mkdir()
    refused(3, ("train", "--data", "./empty", "-o", "there"), "empty")
    assert (tmp_path / "there").exists()


def test_splits_in_capitals_are_said(softvq, tmp_path):
    photos(tmp_path / "d", "Train/", "Test/")
    result = softvq("train", "--data", "./d", *QUICK, "--batch-size", 4).done()
    assert result.out == "runs/d-soft-vq-K32-d16-s0/ckpt.pt\n"
    assert any(line.startswith("d: ") and "Train" in line and "Test" in line for line in result.err.splitlines())


# ---- embeddings


def test_rows_that_do_not_fit_what_is_asked_for(refused, softvq, tmp_path):
    np.save(tmp_path / "z.npy", ROWS)
    refused(3, ("cluster", "z.npy", "--clusters", 11), "10", "11")
    refused(2, ("cluster", "z.npy", "--clusters", 0), "--clusters", "1")
    refused(3, ("probe", "z.npy", "z.npy"), "--labels")
    refused(3, ("embed", "z.npy"), "z.npy", "ckpt.pt")
    refused(2, ("probe", "z.npy"), "two")
    np.save(tmp_path / "same.npy", np.zeros(10, np.int64))
    assert "warning: " in softvq("cluster", "z.npy", "--labels", "same.npy").done().err
    np.save(tmp_path / "z.labels.npy", np.zeros(9, np.int64))
    refused(3, ("cluster", "z.npy"), "9", "10")
    refused(3, ("probe", "z.npy", "z.npy"), "9", "10")


# ---- checkpoints


class _Runs:
    """Unpickling one of these creates the file ``it-ran``."""

    def __reduce__(self):
        return (open, ("it-ran", "w"))


def test_what_is_no_checkpoint_is_refused_and_runs_nothing(refused, trained, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    make_zip(tmp_path / "zip.pt", {"archive/data.pkl": pickle.dumps(_Runs())})
    for name, content in {"empty.pt": b"", "text.pt": b"hello", "pickle.pt": pickle.dumps(_Runs())}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("missing.pt", "empty.pt", "text.pt", "foreign.pt", "pickle.pt", "zip.pt"):
        for command in ("embed", "probe", "info"):
            refused(3, (command, name), name)
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "ckpt.pt").write_bytes((trained / "ckpt.pt").read_bytes()[:-1])
    refused(3, ("train", "-o", "run", "--resume"), "ckpt.pt")


def test_a_run_that_does_not_have_what_is_asked_for(refused, softvq, tmp_path):
    refused(3, ("info", tmp_path), str(tmp_path))
    refused(3, ("embed", tmp_path), "ckpt.pt")
    softvq("train", "-b", "ae", "-o", "run", "-q", *QUICK).done()
    refused(3, ("embed", "run", "--what", "codes"), "codes")
    refused(2, ("embed", "run", "--what", "zq"), "'zq'", "'z_q'")


# ---- output locations


def test_folders_that_are_not_there_and_names_that_are_taken(refused, softvq, trained, tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    (tmp_path / "z.npy").mkdir()
    (tmp_path / "file").write_text("mine")
    refused(1, ("cluster", "rows.npy", "--clusters", 2, "--assignments", "no/such/a.npy"), "no/such")
    refused(1, ("tsne", "rows.npy", "-o", "no/such/map.png"), "no/such")
    refused(1, ("embed", trained, "-o", "z.npy"), "z.npy")
    refused(1, ("embed", trained, "-o", "file/z.npy"), "file")
    refused(1, ("train", "-o", "file", *QUICK), "file")
    refused(2, ("embed", trained, "-o", "no/such/z.npy", "--split", "tset"), "tset")  # embed makes folders, but not now
    assert not (tmp_path / "no").exists()
    assert softvq("embed", trained, "-o", "new/folder/z.npy").out == "new/folder/z.npy\n"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(refused, trained, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(1, ("embed", trained, "-o", "locked/z.npy"), "locked/z.npy")
    refused(1, ("train", "-o", "locked/run", *QUICK), "locked")


# ---- messages


def test_what_is_mapped_or_without_effect_is_said(softvq):
    result = softvq("train", "--bottleneck", "ae", "--K", 12, "--sigma-power", 0, "--out", "x", "--resume", *QUICK)
    assert all(word in result.done().err for word in ("ae", "--K", "--sigma-power", " x"))  # and that x begins anew
    for called, name in (("vqvae", "vq"), ("soft-vqvae", "soft-vq"), ("autoencoder", "ae")):
        softvq("train", "--bottleneck", called).refused(2, f"'{name}'")


@pytest.mark.parametrize(
    "words",
    [
        *(("predict", "absent", "x.png", "-o", "old.csv"), ("predict", "{run}", "absent.png", "-o", "old.csv")),
        *(("issues", "absent", "-o", "old.csv"), ("issues", "digits", "--run", "absent", "-o", "old.csv")),
        *(("data", "show", "absent", "-o", "old.png"), ("report", "absent", "-o", "old.html")),
        *(("embed", "absent", "-o", "old.npy"), ("cluster", "absent.npy", "--assignments", "old.npy")),
        *(("tsne", "absent.npy", "-o", "old.png"), ("export", "absent", "--onnx", "old.onnx")),
        *(("train", "--data", "absent", "-o", "{run}"), ("run", "--data", "absent", "-o", "{run}")),
    ],
    ids=" ".join,
)
def test_of_an_input_that_is_not_there_is_said_before_an_output_that_is(softvq, trained, tmp_path, words):
    for ending in ("csv", "png", "html", "npy", "onnx"):
        (tmp_path / f"old.{ending}").write_text("mine", encoding="utf-8")
    result = softvq(*(word.format(run=trained) for word in words))
    assert result.code in (2, 3), result.err
    assert "absent" in result.err and "old." not in result.err
