"""Embeddings in parts: written one by one, read as one, and refused where they contradict each other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers import QUICK

pytestmark = pytest.mark.usefixtures("small_networks")


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
