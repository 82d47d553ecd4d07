"""Files that contradict each other are refused or named; what is not of the checkpoint goes with the old run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from softvq_cli import embeddings
from softvq_cli.errors import InputError
from softvq_cli.files import atomic_write
from softvq_cli.reporter import Reporter
from softvq_cli.results import embedded
from tests.helpers import QUICK

Z = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LABELS = np.arange(12) % 3


pytestmark = pytest.mark.usefixtures("small_networks")


class Told(Reporter):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def write(path, labels=LABELS, **info):
    embeddings.write(path, [Z], len(Z), labels=labels, info=info)
    return path


@pytest.mark.parametrize("entry", ["checkpoint_sha256", "representation"])
def test_a_probe_refuses_files_of_two_models(entry, tmp_path):
    files = [write(tmp_path / f"{name}.npy", **{entry: name}) for name in ("one", "two")]
    with pytest.raises(InputError) as error:
        embedded.probe_files(files)
    assert all(word in str(error.value) for word in ("one.npy", "two.npy"))


@pytest.mark.parametrize(
    ("train", "test", "warned"),
    [
        ({"split": "train", "fingerprint": "a"}, {"split": "test", "fingerprint": "b"}, 0),
        ({"split": "test", "fingerprint": "a"}, {"split": "train", "fingerprint": "b"}, 1),
        ({"split": "train", "fingerprint": "a"}, {"split": "train", "fingerprint": "a"}, 1),
        ({"fingerprint": "a"}, {"fingerprint": "a"}, 1),
        ({}, {}, 0),
    ],
)
def test_a_probe_warns_of_files_that_are_not_train_and_test(train, test, warned, tmp_path):
    told = Told()
    embedded.probe_files([write(tmp_path / "a.npy", **train), write(tmp_path / "b.npy", **test)], reporter=told)
    assert len(told.warnings) == warned


def test_the_label_minus_one_is_said(tmp_path):
    told = Told()
    embedded.read(write(tmp_path / "a.npy", labels=LABELS - 1), None, told)
    assert len(told.warnings) == 1 and "4 rows" in told.warnings[0]


def test_fewer_different_rows_than_clusters_are_said(softvq, tmp_path):
    np.save(tmp_path / "few.npy", np.repeat(Z[:2], 10, axis=0))
    result = softvq("cluster", "few.npy", "-k", 5, "--n-init", 2)
    assert result.code == 0 and all(word in result.err for word in ("warning", "2 different", "5 clusters"))


def test_embeddings_of_another_checkpoint_are_named_where_they_are_used(softvq, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    softvq("embed", "run", "-q", "-o", "run/mine.npy").done()
    assert "warning" not in softvq("cluster", "run/mine.npy", "--n-init", 1).err
    softvq("train", "-q", "-o", "other", "--seed", 5, *QUICK).done()
    shutil.copy(tmp_path / "other" / "ckpt.pt", tmp_path / "run")
    for words in (("cluster", "run/mine.npy", "--n-init", 1), ("tsne", "run/mine.npy", "-o", "map.png")):
        err = softvq(*words).err
        assert all(word in err for word in ("warning", "run/mine.npy", "run/ckpt.pt"))


def test_overwriting_leaves_nothing_of_the_old_run(softvq, chained, tmp_path):
    folder = shutil.copytree(chained, tmp_path / "run")
    softvq("embed", "run", "-q", "-o", "run/mine.npy").done()
    softvq("embed", "run", "-q", "-o", "run/mine.parquet").done()
    (folder / "mine.onnx").write_bytes(b"an export")
    left = {"mine.onnx", "mine.parquet"}
    ended = softvq("train", "-b", "ae", "-q", "-o", "run", "--overwrite", *QUICK).done()
    assert [all(name in line for name in left) for line in ended.err.splitlines() if "warning" in line] == [True]
    assert {path.name for path in folder.iterdir()} == {".lock", "ckpt.pt", "config.json", "metrics.jsonl", *left}


def test_what_a_killed_process_was_writing_goes_and_what_a_living_one_writes_stays(tmp_path):
    (tmp_path / ".a.npy.killed.tmp").write_text("half")
    with atomic_write(tmp_path / "a.npy") as file:
        write(tmp_path / "a.npy")
        file.write(b"other")
        assert not (tmp_path / ".a.npy.killed.tmp").exists()
    assert (tmp_path / "a.npy").read_bytes() == b"other"
