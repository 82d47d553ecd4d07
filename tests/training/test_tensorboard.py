"""TensorBoard compared with metrics.jsonl; its files are read by TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softvq_cli import datasets
from softvq_cli.errors import SoftVQError, UsageError
from softvq_cli.model import represent
from softvq_cli.reporter import Reporter
from softvq_cli.training import checkpoint, run_directory, train
from tests.helpers import stopped

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return reader.Reload()


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    reader = events(folder)
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def assert_same_curves(folder) -> None:
    """TensorBoard shows the content of metrics.jsonl, each step once."""
    lines = run_directory.read_metrics(folder)
    found = scalars(folder)
    assert set(found) == {name for line in lines for name in line} - {"step"}
    for name, points in found.items():
        assert [step for step, _ in points] == [line["step"] for line in lines]
        np.testing.assert_allclose([value for _, value in points], [line[name] for line in lines], rtol=1e-6)


class Killed(BaseException):
    """Ends a process without a word."""


class KillsAt(Reporter):
    def __init__(self, step: int) -> None:
        self.last = step

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        if metrics.get("step") == self.last:
            raise Killed


@pytest.fixture
def settings(small):
    return {**small, "log_every": 5, "checkpoint_every": 10}


def test_scalars_pictures_and_the_projector_are_there_and_change_nothing_of_the_run(settings, tmp_path):
    run = train(settings, out=tmp_path / "run", device="cpu", logs=["tensorboard"])
    assert_same_curves(run.folder)
    reader = events(run.folder)
    assert set(reader.Tags()["images"]) == {"reconstructions", "codebook"}
    assert [one.step for one in reader.Images("reconstructions")] == [10, 20, 30]
    folder = run.folder / "tensorboard" / "00030" / "z_e"
    model = checkpoint.load(run.path)
    test = datasets.load(model.config.data, "test")
    np.testing.assert_allclose(np.loadtxt(folder / "tensors.tsv"), represent(model.model, test.images), rtol=1e-5)
    names = [test.class_names[label] for label in test.labels]
    assert (folder / "metadata.tsv").read_text().splitlines() == names
    assert Image.open(folder / "sprite.png").size[0] >= 8
    assert "z_e/tensors.tsv" in (run.folder / "tensorboard" / "projector_config.pbtxt").read_text()
    without = train(settings, out=tmp_path / "b", device="cpu")
    first, second = (checkpoint.load(each.path).model.state_dict() for each in (run, without))
    assert all((first[name] == second[name]).all() for name in first)
    assert not (without.folder / "tensorboard").exists()


def test_a_killed_run_goes_on_in_the_same_curves_without_a_double_step(settings, tmp_path):
    with pytest.raises(Killed):  # at step 25: the checkpoint has step 20, and what came after is done again
        train(settings, out=tmp_path / "run", device="cpu", reporter=KillsAt(25), logs=["tensorboard"])
    assert scalars(tmp_path / "run")["loss"][-1][0] >= 20
    train(settings, out=tmp_path / "run", device="cpu", resume=True, logs=["tensorboard"])
    assert [step for step, _ in scalars(tmp_path / "run")["loss"]] == [5, 10, 15, 20, 25, 30]
    assert_same_curves(tmp_path / "run")


def test_a_run_gets_its_curves_from_the_start_and_a_replaced_one_leaves_none(settings, tmp_path):
    stopped(settings, tmp_path / "run", 17, device="cpu")
    stopped(settings, tmp_path / "run", 23, device="cpu", resume=True, logs=["tensorboard"])
    assert_same_curves(tmp_path / "run")
    train({**settings, "lr": 1e-4}, out=tmp_path / "run", device="cpu", overwrite=True, logs=["tensorboard"])
    assert_same_curves(tmp_path / "run")


def test_an_unknown_logger_and_missing_packages_are_named_before_anything_is_done(settings, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="tensorboard"):
        train(settings, out=tmp_path / "run", logs=["tensorbord"])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SoftVQError, match=r"pip install 'softvq\[tensorboard\]'"):
        train(settings, out=tmp_path / "run", logs=["tensorboard"])
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_for_tensorboard_costs_no_checkpoint(settings, tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    def full(self, tag, value, step):
        if step == 20:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(SoftVQError, match="tensorboard"):
        train(settings, out=tmp_path / "run", device="cpu", logs=["tensorboard"])
    assert checkpoint.load(tmp_path / "run" / "ckpt.pt").step == 20
