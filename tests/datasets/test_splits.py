"""Train and test splits of data without splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.dataset import held_out_rows
from tests.helpers import CATS_AND_DOGS, grey_files, pixels, read, unusable, write_folder

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies


@hypothesis.given(
    st.lists(st.integers(0, 6), min_size=1, max_size=120), st.floats(0.01, 0.9), st.integers(0, 2**31), st.booleans()
)
@hypothesis.settings(max_examples=80, deadline=None)
def test_every_class_gives_its_share(groups: list[int], fraction: float, seed: int, again: bool) -> None:
    classes = np.array(groups)
    held_out = held_out_rows(classes, fraction, seed)
    assert np.array_equal(held_out, held_out_rows(classes, fraction, seed))
    for value in set(groups):
        total, held = groups.count(value), int(held_out[classes == value].sum())
        if total == 1:
            assert held == 0
        else:
            assert 1 <= held <= total - 1
            assert abs(held - total * fraction) <= 1


def test_the_draw_does_not_change_between_versions() -> None:
    assert np.flatnonzero(held_out_rows(np.arange(20) % 2, 0.3, 7)).tolist() == [0, 5, 9, 14, 16, 17]


def test_train_and_test_are_disjoint_and_complete_and_keep_the_order(tmp_path: Path) -> None:
    write_folder(tmp_path, grey_files(CATS_AND_DOGS))
    parts = [read(tmp_path, split, test_fraction=0.4, split_seed=3) for split in ("train", "test", "all")]
    train, test, both = parts
    assert sorted([*train.file_names, *test.file_names]) == list(both.file_names)
    for part in parts:
        assert list(part.file_names) == sorted(part.file_names)
        assert [name.split("/")[0] for name in part.file_names] == [part.class_names[label] for label in part.labels]
        expected = np.stack([pixels(CATS_AND_DOGS.index(name)) for name in part.file_names])
        assert np.array_equal(part.images[..., 0], expected)
    assert np.bincount(test.labels).tolist() == [2, 2]


def test_a_single_image_cannot_be_divided(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", grey_files(["1.png"]))
    assert len(read(tmp_path / "one")) == 1
    for split in ("train", "test"):
        unusable(tmp_path / "one", "one", split=split)


def test_labels_that_are_all_different_are_doubted(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=pixels(0, (6, 8, 8)), labels=[f"a photo of {i}" for i in range(6)])
    unusable(tmp_path / "d.npz", " 6 ", split="train")


def arrays_with_a_copy(path: Path, rows: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), x_train=rows[:2], x_test=rows[[0, 2]])
    return path.with_suffix(".npz")


def table_with_a_copy(path: Path) -> Path:
    path.with_suffix(".csv").write_text("split,a,b\ntrain,1,2\ntrain,3,4\ntest,1,2\ntest,5,6\n")
    return path.with_suffix(".csv")


COPIED = grey_files(["train/a/1.png", "train/b/2.png", "test/a/3.png"])
COPIED["test/b/4.png"] = COPIED["train/a/1.png"]
WITH_A_COPY = {
    "a folder": lambda path: write_folder(path, COPIED),
    "an array of fractions": lambda path: arrays_with_a_copy(path, pixels(0, (3, 8, 8)) / 255),
    "an array of vectors": lambda path: arrays_with_a_copy(path, pixels(0, (3, 8)) / 255),
    "a table of vectors": table_with_a_copy,
}


@pytest.mark.parametrize("kind", WITH_A_COPY)
def test_what_the_test_split_shares_with_train_is_said(tmp_path: Path, kind: str) -> None:
    path = WITH_A_COPY[kind](tmp_path / "own")
    assert any(note.startswith("1 of 2 ") for note in read(path, "train").notes)
    assert not any(note.startswith("1 of 2 ") for note in read(path, "test").notes)
