"""What cluster and probe measure beyond the paper's evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier


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
    assert mapped["clustering"]["clusters"] == 3
    assert mapped["clustering"]["n"] == 90
    assert 0 < mapped["quality"]["knn_recall"] < mapped["quality"]["trustworthiness"] <= 1
    assert mapped["perplexity"] == 29


def test_the_probe_takes_labels_from_other_files(rows, softvq, tmp_path):
    reference = softvq("probe", "train.npy", "test.npy").document
    for split in ("train", "test"):
        (tmp_path / f"{split}.labels.npy").rename(tmp_path / f"y-{split}.npy")
    softvq("probe", "train.npy", "test.npy").refused(3, "train", "--labels")
    found = softvq("probe", "train.npy", "test.npy", "--labels", "y-train.npy", "--labels", "y-test.npy").document
    assert found == reference
    softvq("probe", "train.npy", "test.npy", "--labels", "y-train.npy").refused(2, "--labels")


def test_the_neighbours_probe_is_scikit_learns(rows, softvq):
    found = softvq("probe", "train.npy", "test.npy", "--neighbours", 7).document
    reference = KNeighborsClassifier(7).fit(*rows["train"]).score(*rows["test"])
    assert found["knn_accuracy"] == pytest.approx(reference)
    assert found["knn"]["neighbours"] == 7


def test_the_probe_on_few_labels_says_how_many_and_how_well(rows, softvq):
    document = softvq("probe", "train.npy", "test.npy", "--few-labels", "2,40").document
    few, many = document["few_labels"]
    assert (few["labels_per_class"], many["labels_per_class"]) == (2, 40)
    assert few["n"] == 5
    assert few["mean"] < many["mean"] <= 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--few-labels", "2,many"), 2, "whole numbers"),
        (("--few-labels", "51"), 3, "the rarest class has 50 rows"),
        (("--few-labels", "0"), 2, "at least 1"),
        (("--neighbours", "0"), 2, "at least 1"),
        (("--neighbours", "150"), 3, "150 neighbours"),
    ],
)
def test_numbers_that_cannot_be_are_refused(rows, softvq, words, code, message):
    softvq("probe", "train.npy", "test.npy", *words).refused(code, message)


def test_few_rows_fit_their_perplexity_in_a_picture_too(softvq, tmp_path):
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    ended = softvq("tsne", tmp_path / "z.npy", "-o", tmp_path / "map.png", "-j", 1)
    assert ended.code == 0 and all(word in ended.err for word in ("12", "perplexity", " 3", "30"))
    given = ("--perplexity", 9)
    softvq("tsne", tmp_path / "z.npy", "-o", tmp_path / "b.png", *given).refused(3, "9 is too large for 12 rows", "3.6")
    np.save(tmp_path / "z.npy", np.eye(3, dtype=np.float32))
    softvq("tsne", tmp_path / "z.npy", "-o", tmp_path / "b.png").refused(3, "3 rows are too few for a t-SNE map", "4")
