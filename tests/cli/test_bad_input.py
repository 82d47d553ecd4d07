"""Files and folders that cannot be used: one line, the right exit code, nothing overwritten or half written."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import QUICK

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def unchanged(tmp_path):
    """Check that the current folder holds afterwards what it held before."""

    def state() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before: dict[str, bytes] = {}

    def check() -> None:
        assert {name: content for name, content in state().items() if not name.endswith(".lock")} == before

    def remember():
        before.update(state())
        return check

    return remember


def rows(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def images_in(folder: Path, classes: dict[str, int]) -> Path:
    from PIL import Image

    for name, n in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


# ---- data


def test_a_missing_file(softvq):
    softvq("train", "--data", "nowhere/images.npz").refused(3, "nowhere/images.npz")


def test_an_empty_folder(softvq, tmp_path):
    (tmp_path / "empty").mkdir()
    softvq("train", "--data", "./empty").refused(3, "empty")


def test_a_folder_with_something_that_is_no_image(softvq, tmp_path):
    images_in(tmp_path / "mine", {"a": 5, "b": 5})
    (tmp_path / "mine" / "a" / "notes.png").write_text("not an image")
    softvq("train", "--data", "./mine", "-o", "run").refused(3, "a/notes.png")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data(softvq, tmp_path):
    images_in(tmp_path / "mine", {"a": 5, "b": 5})
    softvq("train", "--data", "./mine", "--batch-size", 64, "-o", "run", "-q").refused(2, "--batch-size 64")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.zip", "x.tar"])
def test_a_damaged_data_file(softvq, tmp_path, unchanged, name, content):
    (tmp_path / name).write_bytes(content)
    check = unchanged()
    softvq("train", "--data", name, "-o", "run").refused(3, name)
    check()


# ---- embeddings


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((10, 2), np.nan, np.float32), ["row 0", "NaN"]),
        (np.zeros((1, 2), np.float32), ["one row", "at least two"]),
        (np.zeros(10, np.float32), ["(10,)", "rows"]),
        (np.array([["a", "b"], ["c", "d"]]), []),
        (np.array([[{}], [{}]], dtype=object), ["Python objects"]),
    ],
)
@pytest.mark.parametrize("command", [["cluster"], ["tsne", "-o", "new.png"], ["info"]])
def test_rows_that_are_none(softvq, tmp_path, unchanged, command, array, words):
    rows(tmp_path / "z.npy", array)
    check = unchanged()
    softvq(command[0], "z.npy", *command[1:]).refused(3, "z.npy", *words)
    check()


def test_labels_of_another_length(softvq, tmp_path):
    rows(tmp_path / "z.npy", np.zeros((10, 2), np.float32))
    rows(tmp_path / "z.labels.npy", np.zeros(9, np.int64))
    softvq("cluster", "z.npy").refused(3, "9", "10")
    softvq("probe", "z.npy", "z.npy").refused(3, "9", "10")


def test_fewer_rows_than_clusters(softvq, tmp_path):
    rows(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))
    softvq("cluster", "z.npy", "--clusters", 6).refused(3, "5", "6")
    softvq("cluster", "z.npy", "--clusters", 0).refused(2, "--clusters", "1")


def test_a_probe_without_labels(softvq, tmp_path):
    rows(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))
    softvq("probe", "z.npy", "z.npy").refused(3, "--labels")


@pytest.mark.parametrize("cut", [0, 5, 60, 90])
def test_a_truncated_array(softvq, tmp_path, cut):
    path = rows(tmp_path / "z.npy", np.zeros((10, 2), np.float32))
    path.write_bytes(path.read_bytes()[:cut])
    softvq("cluster", "z.npy", "--clusters", 2).refused(3, "z.npy")


# ---- checkpoints


class _Runs:
    """Unpickling one of these creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def make_checkpoint(kind: str, path: Path, good: Path, evidence: Path) -> None:
    """A file at ``path`` that only looks like a checkpoint."""
    import torch

    raw = good.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif kind == "flipped":
        path.write_bytes(raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:])
    elif kind == "text":
        path.write_text("hello")
    elif kind == "foreign":
        torch.save({"state_dict": {}}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(_Runs(evidence)))
    elif kind == "pickle in a zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(_Runs(evidence)))
    else:
        assert kind == "missing"


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "truncated", "flipped", "text", "foreign", "pickle", "pickle in a zip"]
)
@pytest.mark.parametrize("command", ["embed", "probe", "info"])
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(softvq, trained, tmp_path, unchanged, command, kind):
    evidence = tmp_path / "it-ran"
    make_checkpoint(kind, tmp_path / "bad.pt", trained / "ckpt.pt", evidence)
    check = unchanged()
    softvq(command, "bad.pt").refused(3, "bad.pt")
    check()
    assert not evidence.exists()


def test_a_folder_without_a_run(softvq, tmp_path):
    softvq("info", tmp_path).refused(3, str(tmp_path))
    softvq("embed", tmp_path).refused(3, "ckpt.pt")


def test_indices_of_a_model_without_a_codebook(softvq, tmp_path):
    assert softvq("train", "-b", "ae", "-o", "run", "-q", *QUICK).code == 0
    softvq("embed", "run", "--what", "codes").refused(3, "codes")
    softvq("embed", "run", "--what", "zq").refused(2, "'zq'", "'z_q'")
    assert not list(tmp_path.glob("embeddings*"))


# ---- places to write to


@pytest.mark.parametrize(
    "words",
    [
        ["cluster", "z.npy", "--clusters", "2", "--assignments", "no/such/a.npy"],
        ["tsne", "z.npy", "-o", "no/such/map.png"],
    ],
)
def test_a_folder_that_is_not_there(softvq, tmp_path, words):
    rows(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32))
    softvq(*words).refused(1, "no/such")


def test_embed_makes_the_folder_unless_it_fails(softvq, trained, tmp_path):
    softvq("embed", trained, "-o", "no/such/z.npy", "--split", "tset").refused(2, "tset")
    softvq("embed", trained, "-o", "no/such/z.npy", "--what", "zq").refused(2, "zq")
    assert not (tmp_path / "no").exists()
    (tmp_path / "file").write_text("mine")
    softvq("embed", trained, "-o", "file/z.npy").refused(1, "file")
    assert softvq("embed", trained, "-o", "new/folder/z.npy").out == "new/folder/z.npy\n"
    assert softvq("cluster", "new/folder/z.npy", "--n-init", 1).document["n"] == 359


def test_a_name_that_is_a_folder(softvq, trained, tmp_path):
    (tmp_path / "z.npy").mkdir()
    softvq("embed", trained, "-o", "z.npy").refused(1, "z.npy")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(softvq, trained, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    softvq("embed", trained, "-o", "locked/z.npy").refused(1, "locked/z.npy")
    softvq("train", "-o", "locked/run", *QUICK).refused(1, "locked")


def test_a_file_where_the_run_should_be(softvq, tmp_path):
    (tmp_path / "run").write_text("mine")
    softvq("train", "-o", "run", *QUICK).refused(1, "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_damaged_checkpoint_is_not_resumed(softvq, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "ckpt.pt"
    path.write_bytes(path.read_bytes()[:-1])
    softvq("train", "-o", "run", "--resume").refused(3, "ckpt.pt")


def test_a_damaged_evaluation_is_measured_again(softvq, chained, tmp_path):
    path = shutil.copytree(chained, tmp_path / "run") / "evaluation.json"
    summary = path.read_text()
    path.write_text(summary[:50])
    assert softvq("run", "-o", "run", "-q", "--resume").code == 0
    assert path.read_text() == summary


# ---- nothing is left behind, and every word leads somewhere


@pytest.mark.parametrize("wrong", [("--batch-size", 10**6), ("--arch", "cnn"), ("--data", "const.npz")])
def test_a_refused_training_leaves_no_folder(wrong, softvq, tmp_path):
    np.savez(tmp_path / "const.npz", images=np.full((20, 8, 8), 7, np.uint8))
    assert softvq("train", "--out", "made/run", *wrong).code in (2, 3)
    assert not (tmp_path / "made" / "run").exists()
    (tmp_path / "there").mkdir()
    assert softvq("train", "--out", "there", *wrong).code in (2, 3)
    assert (tmp_path / "there").exists()


def test_images_that_are_all_one_grey(softvq, tmp_path):
    np.savez(tmp_path / "const.npz", images=np.full((20, 8, 8), 70, np.uint8))
    softvq("train", "--data", "const.npz", "-q").refused(3, "const")


def test_splits_in_capitals(softvq, tmp_path):
    for split in ("Train", "Test"):
        images_in(tmp_path / "d" / split, {"a": 3, "b": 3})
    result = softvq("train", "--data", "./d", *QUICK, "--batch-size", 4)
    assert (result.code, result.out) == (0, "runs/d-soft-vq-K32-d16-s0/ckpt.pt\n"), result.err
    assert any(line.startswith("d: ") and "Train" in line and "Test" in line for line in result.err.splitlines())


def test_an_array_where_a_checkpoint_belongs(softvq, tmp_path):
    rows(tmp_path / "z.npy", np.eye(4))
    softvq("embed", "z.npy").refused(3, "z.npy", "ckpt.pt")
    softvq("probe", "z.npy").refused(2, "needs two of them")


def test_names_that_people_use_are_understood(softvq):
    softvq("train", "--bottleneck", "vqvae").refused(2, "'vq'")
    softvq("train", "--bottleneck", "soft-vqvae").refused(2, "'soft-vq'")
    softvq("train", "--bottleneck", "autoencoder").refused(2, "'ae'")


def test_labels_of_one_class_are_warned_of(softvq, tmp_path):
    rows(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(20, 3)))
    rows(tmp_path / "same.npy", np.zeros(20, np.int64))
    result = softvq("cluster", "z.npy", "--labels", "same.npy")
    assert result.code == 0
    assert "warning: " in result.err


def test_a_data_set_that_is_asked_for_and_not_there(softvq, tmp_path):
    softvq("data", "list", "mnist", "--data-dir", tmp_path)
    result = softvq("data", "check", "mnist", "--data-dir", tmp_path)
    assert result.code == 3
    assert "mnist" in result.err
    assert softvq("data", "check", "--data-dir", tmp_path).code == 0


def test_settings_without_effect_are_warned_of(softvq):
    result = softvq("train", "--bottleneck", "ae", "--K", 12, "--sigma-power", 0, *QUICK)
    assert result.code == 0
    assert all(word in result.err for word in ("ae", "--K", "--sigma-power"))


def test_resuming_where_there_is_no_run_says_that_it_begins(softvq):
    result = softvq("train", "--out", "mistyped", "--resume", *QUICK)
    assert result.code == 0
    assert "mistyped" in result.err


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
