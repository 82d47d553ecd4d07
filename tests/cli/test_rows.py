"""Embedding files: the results of cluster and probe, files in parts, and contradictory files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

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
    err = softvq("cluster", "few.npy", "-k", 5, "--n-init", 2).done().err
    assert all(word in err for word in ("warning", " 2 ", " 5 "))


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


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """train.npy and test.npy, three overlapping clusters with labels, in the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    made = {}
    for split, n in (("train", 150), ("test", 90)):
        labels = np.arange(n) % 3
        z = (random.normal(size=(n, 5)) + 2 * np.eye(5)[labels]).astype(np.float32)
        np.save(f"{split}.npy", z)
        np.save(f"{split}.labels.npy", labels)
        made[split] = z, labels
    return made


def test_cluster_on_a_map_adds_its_figures(rows, softvq):
    plain = softvq("cluster", "test.npy").document
    document = softvq("cluster", "test.npy", "--on-map").document
    mapped = document.pop("map")
    assert document == plain
    assert (mapped["perplexity"], mapped["dimensions"], mapped["exaggeration"]) == (29, 2, 1)
    assert (mapped["clustering"]["clusters"], mapped["clustering"]["n"]) == (3, 90)
    assert 0 < mapped["quality"]["knn_recall"] < mapped["quality"]["trustworthiness"] <= 1


def test_the_probe_takes_labels_from_other_files(rows, softvq, tmp_path):
    reference = softvq("probe", "train.npy", "test.npy").document
    for split in ("train", "test"):
        (tmp_path / f"{split}.labels.npy").rename(tmp_path / f"y-{split}.npy")
    softvq("probe", "train.npy", "test.npy").refused(3, "train", "--labels")
    document = softvq("probe", "train.npy", "test.npy", "--labels", "y-train.npy", "--labels", "y-test.npy").document
    assert document == reference
    softvq("probe", "train.npy", "test.npy", "--labels", "y-train.npy").refused(2, "--labels")


def test_other_probes_are_scikit_learns_neighbours_and_few_labels(rows, softvq, for_people):
    words = ("probe", "train.npy", "test.npy", "--neighbours", 7, "--few-labels", "2,40")
    document = softvq(*words, "--json").document
    reference = KNeighborsClassifier(7).fit(*rows["train"]).score(*rows["test"])
    assert document["knn_accuracy"] == pytest.approx(reference) and document["knn"]["neighbours"] == 7
    few, many = document["few_labels"]
    assert (few["labels_per_class"], many["labels_per_class"], few["n"]) == (2, 40, 5)
    assert few["mean"] < many["mean"] <= 1
    shown = softvq(*words).out
    for value in (document["probe_accuracy"], reference, few["mean"], few["std"]):
        assert f"{100 * value:.2f} %" in shown


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--few-labels", "2,many"), 2, "'many'"),
        (("--few-labels", "51"), 3, "50"),
        (("--few-labels", "0"), 2, "1"),
        (("--neighbours", "0"), 2, "--neighbours"),
        (("--neighbours", "150"), 3, "150"),
    ],
)
def test_numbers_that_cannot_be_are_refused(rows, softvq, words, code, expected):
    softvq("probe", "train.npy", "test.npy", *words).refused(code, expected)


def test_few_rows_fit_their_perplexity_in_a_picture_too(softvq, tmp_path):
    np.save("z.npy", np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    ended = softvq("tsne", "z.npy", "-o", "map.png", "-j", 1).done()
    assert all(word in ended.err for word in ("12", "perplexity", " 3", "30"))
    softvq("tsne", "z.npy", "-o", "b.png", "--perplexity", 9).refused(3, "9", "12", "3.6")
    np.save("z.npy", np.eye(3, dtype=np.float32))
    softvq("tsne", "z.npy", "-o", "b.png").refused(3, "3", "4")


@pytest.fixture
def parts(softvq, npz, tmp_path):
    """z.npy, and the same rows in three parts, of both splits: a (train) and b (test)."""
    softvq("train", "--data", npz, *QUICK, "--batch-size", 16, "-o", "run").done()
    for split, name in (("train", "a"), ("test", "b")):
        softvq("embed", "run", "--split", split, "-o", f"{name}.npy").done()
        for number in (1, 2, 3):
            softvq("embed", "run", "--split", split, "-o", f"{name}.npy", "--shard", f"{number}/3").done()
    return tmp_path


def test_parts_are_read_as_the_whole(parts, softvq):
    shuffled = [f"a-{number}-of-3.npy" for number in (3, 1, 2)]
    others = [f"b-{number}-of-3.npy" for number in (1, 2, 3)]
    whole = np.load(parts / "a.npy")
    assert np.array_equal(np.concatenate([np.load(parts / name) for name in sorted(shuffled)]), whole)
    assert json.loads((parts / "a-2-of-3.json").read_text())["shard"] == [2, 3]
    for command, of_whole, of_parts in (
        ("cluster", ["a.npy"], shuffled),
        ("probe", ["a.npy", "b.npy"], [*shuffled, *others]),
    ):
        more = ("--n-init", 2) if command == "cluster" else ()
        assert (
            softvq(command, *of_parts, *more, "--json").document == softvq(command, *of_whole, *more, "--json").document
        )
    softvq("tsne", *shuffled, "b.npy", "-o", "map.png", "--save-coords", "map.npy").done()
    assert len(np.load(parts / "map-1.npy")) == len(whole)


def test_parts_that_contradict_each_other_are_refused(parts, softvq):
    for files in (("a-1-of-3.npy", "a-2-of-3.npy"), ("a-1-of-3.npy", "a-1-of-3.npy"), ("a.npy", "b.npy")):
        softvq("cluster", *files).refused(3, files[0])
    for shard in ("0/3", "4/3", "1", "a/b", "1/0"):
        softvq("embed", "run", "-o", "c.npy", "--shard", shard).refused(2, "--shard")
    softvq("embed", "run", "-o", "c.npy", "--shard", "1/999").refused(3, "999")


def test_a_sample_is_clustered_and_said(parts, softvq):
    result = softvq("cluster", "a.npy", "--sample", 20, "-o", "c.npy", "--n-init", 2, "--json").done()
    whole, clusters = len(np.load(parts / "a.npy")), np.load(parts / "c.npy")
    assert (result.document["n"], result.document["rows"], len(clusters)) == (20, whole, whole)
    assert set(clusters) == set(range(result.document["clusters"])) and "20" in result.err
