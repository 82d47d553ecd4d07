"""Labels with different numbering are matched by class names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.embeddings import Embedding
from softvq_cli.embeddings.labels import align, numbering, renumber, shared
from softvq_cli.errors import InputError
from softvq_cli.evaluation.probe import probe
from softvq_cli.reporter import Reporter
from softvq_cli.results.source import Source

ANIMALS = ("ant", "bee", "cat")
CENTRES = {"ant": 0.0, "bee": 10.0, "cat": 20.0, "dog": 30.0}


def embedding(name: str, labels: Sequence[int] | None, names: tuple[str, ...]) -> Embedding:
    """One column, in which each class is elsewhere."""
    random = np.random.default_rng(0)
    rows = range(6) if labels is None else labels
    z = np.array([[CENTRES.get(names[i] if names else "", 0.0) + random.normal()] for i in rows], np.float32)
    return Embedding(Path(name), z, None if labels is None else np.array(labels), names, {})


def test_names_decide_and_new_ones_come_after() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"  # a folder copied from a Mac
    assert numbering((composed,), (decomposed,)) == (composed,)
    assert renumber(np.array([0]), (decomposed,), ("x", composed)).tolist() == [1]
    assert numbering(ANIMALS, ("dog", "bee", "cat")) == ("ant", "bee", "cat", "dog")
    assert shared(ANIMALS, ("dog", "cat", "bee")) == ("bee", "cat")
    assert renumber(np.array([0, 2, 1]), ("dog", "bee", "cat"), ("ant", "bee", "cat", "dog")).tolist() == [3, 2, 1]


def test_a_probe_across_numberings_is_as_good_as_within_one() -> None:
    train = embedding("a.npy", [0, 1, 2] * 5, ANIMALS)
    test = embedding("b.npy", [0, 1] * 5, ("bee", "cat"))
    (train, other), [note] = align([train, test])
    assert other.labels is not None and other.labels.tolist() == [1, 2] * 5
    assert all(word in note for word in ("b.npy", "a.npy", "bee, cat"))
    assert probe(train.z, train.labels, other.z, other.labels, class_names=train.class_names).accuracy == 1.0
    assert probe(train.z, train.labels, test.z, test.labels).accuracy == 0.0  # what would be reported otherwise


def test_what_agrees_or_has_no_names_stays_without_a_word() -> None:
    numbers = dataclasses.replace(embedding("c.npy", None, ()), labels=np.array([7, 1, 0, 0, 0, 0]))
    files = [embedding("a.npy", [0, 1], ANIMALS), embedding("b.npy", [2, 1], ANIMALS), numbers]
    aligned, notes = align([*files, embedding("d.npy", None, ())])
    assert not notes
    for before, after in zip(files, aligned, strict=False):
        assert np.array_equal(before.labels, after.labels) and before.class_names == after.class_names
    assert not align([embedding("a.npy", [0, 1], ("ant", "bee")), embedding("b.npy", [0, 2], ANIMALS)])[
        1
    ]  # a longer list


def test_files_without_a_common_class_are_refused() -> None:
    with pytest.raises(InputError, match=r"b\.npy.*dog.*a\.npy.*ant, bee, cat"):
        align([embedding("a.npy", [0, 1, 2], ANIMALS), embedding("b.npy", [0, 0], ("dog",))])


class _Trained:
    """As much of a checkpoint as a source needs."""

    path = Path("ckpt.pt")

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset


@pytest.mark.parametrize(
    ("names", "labels", "expected_names"),
    [
        (("bee", "cat"), [1, 2], ("ant", "bee", "cat")),
        (("bee", "dog"), [1, 3], ("ant", "bee", "cat", "dog")),
        (("elk", "fox"), [0, 1], ("elk", "fox")),
    ],
)
def test_embed_numbers_classes_as_the_checkpoint_does(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], labels: list[int], expected_names: tuple[str, ...]
) -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    trained = Dataset("abc", "train", images, np.array([0, 1]), ANIMALS)
    other = Dataset("other", "test", images, np.array([0, 1]), names)
    monkeypatch.setattr(Source, "_load", lambda self, split: other)
    warnings: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "warn", warnings.append)
    checkpoint: Any = _Trained(trained)
    found = Source(checkpoint, data="other", reporter=reporter).load("test")
    assert found.labels is not None and found.labels.tolist() == labels
    assert found.class_names == expected_names
    assert len(warnings) == 1
