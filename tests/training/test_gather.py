"""Images that do not fit on the device, compared with images on the device."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.datasets.dataset import Rows
from softvq_cli.training import batches, train
from softvq_cli.training.batches import AHEAD, Batches, ResidentImages, StreamedImages, source_of
from tests.helpers import outcome, stopped

CPU = torch.device("cpu")


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """53 images in a file, as a read-only map."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (53, 4, 5, 3), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [None, np.random.default_rng(1).permutation(53)[:40]])
def test_streamed_batches_are_the_resident_ones_over_epochs_and_after_a_jump(
    rows: np.ndarray | None, mapped: np.ndarray
) -> None:
    batches = Batches(53 if rows is None else 40, 8, 3)
    resident = ResidentImages(mapped if rows is None else mapped[rows], batches, CPU)
    streamed = StreamedImages(mapped, batches, CPU) if rows is None else source_of(Rows(mapped, rows), batches, CPU)
    assert type(streamed) is StreamedImages
    for step in (*range(20), 7, 8, 40, 41):
        assert torch.equal(streamed.batch(step), resident.batch(step)), step


def test_the_next_batches_are_gathered_by_a_thread_and_no_more_than_that(
    mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    gather = StreamedImages._gather

    def watched(self: StreamedImages, indices: torch.Tensor) -> torch.Tensor:
        threads.append(threading.current_thread())
        return gather(self, indices)

    monkeypatch.setattr(StreamedImages, "_gather", watched)
    streamed = StreamedImages(mapped, Batches(53, 8, 3), CPU)
    for step in range(3):
        streamed.batch(step)
    streamed._waiting[-1][1].result()  # the thread has done all that it was given
    assert len(threads) == AHEAD + 2
    assert threading.current_thread() not in threads


def test_a_failure_of_the_thread_is_one_of_the_step(mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(StreamedImages, "_gather", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        StreamedImages(mapped, Batches(53, 8, 3), CPU).batch(0)


@pytest.mark.parametrize(("spare", "kind"), [(0, ResidentImages), (-1, StreamedImages), (None, ResidentImages)])
def test_images_go_to_the_device_while_they_leave_half_of_it(
    spare: int | None, kind: type, mapped: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda device: None if spare is None else 2 * mapped.nbytes + spare)
    assert type(source_of(mapped, Batches(53, 8, 3), CPU)) is kind


def test_a_run_whose_images_do_not_fit_ends_and_goes_on_with_the_same_bytes(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("the images went to the device")

    settings = {**small, "noise_std": 0.1}
    train(settings, out=tmp_path / "resident")
    monkeypatch.setattr(batches, "free_memory", lambda device: 1)
    monkeypatch.setattr(ResidentImages, "__init__", refused)
    train(settings, out=tmp_path / "whole")
    stopped(settings, tmp_path / "pieces", 13)
    train({}, out=tmp_path / "pieces", resume=True)
    ends = [outcome(tmp_path / name) for name in ("resident", "whole", "pieces")]
    assert ends[0] == ends[1] == ends[2]
