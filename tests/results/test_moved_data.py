"""Data that were moved, or a command called from elsewhere: found by place and fingerprint, or reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.errors import InputError, UsageError
from softvq_cli.files import read_json
from softvq_cli.reporter import Reporter
from softvq_cli.results.source import Source
from softvq_cli.training import train
from tests.helpers import outcome, stopped

SMALL: dict[str, Any] = {"latent_dim": 2, "K": 3, "iterations": 4, "batch_size": 4, "log_every": 2}


def images(seed: int) -> dict[str, np.ndarray]:
    return {"images": np.random.default_rng(seed).integers(0, 256, (20, 8, 8), np.uint8), "labels": np.arange(20) % 2}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos.npz and a run in runs/one that was trained on it by a relative path."""
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    np.savez("photos.npz", **images(0))
    train(SMALL | {"data": "photos.npz"}, out=Path("runs/one"), device="cpu")
    return tmp_path / "project"


def embed(checkpoint: Path, **more: Any) -> tuple[int, list[str], list[str]]:
    warned: list[str] = []
    noted: list[str] = []
    reporter = Reporter()
    reporter.warn, reporter.note = warned.append, noted.append  # type: ignore[method-assign]
    source = Source.open(checkpoint, device="cpu", reporter=reporter, **more)
    return len(source.embed("test", Path("e.npy"))), warned, noted


@pytest.mark.parametrize("moved", [False, True])
def test_data_are_found_next_to_the_run_or_where_they_were(project, monkeypatch, moved) -> None:
    run = project / "runs" / "one"
    if moved:
        run = Path(shutil.move(run, project.parent / "elsewhere" / "one"))
    monkeypatch.chdir(project.parent / "elsewhere")
    if not moved:
        np.savez("photos.npz", **images(1))  # of two places the one with the fingerprint
    rows, warned, noted = embed(run)
    assert (rows, warned) == (4, []) and len(noted) == 1 and str(project / "photos.npz") in noted[0]


def test_data_that_are_nowhere_are_asked_for(project: Path) -> None:
    Path("photos.npz").rename(project.parent / "elsewhere" / "pictures.npz")
    with pytest.raises(InputError, match=r"photos\.npz.* data"):
        embed(project / "runs" / "one")
    rows, warned, _ = embed(project / "runs" / "one", data=str(project.parent / "elsewhere" / "pictures.npz"))
    assert rows == 4 and warned == []


def test_other_images_under_the_old_name_are_said_to_be_others(project: Path) -> None:
    np.savez("photos.npz", **images(1))
    _, warned, _ = embed(project / "runs" / "one")
    assert len(warned) == 1 and "photos.npz is not the data that" in warned[0]


def test_what_lies_next_to_embeddings_names_no_folder(project: Path) -> None:
    train(SMALL | {"data": str(project / "photos.npz")}, out=Path("runs/two"), device="cpu")
    source = Source.open(Path("runs/two"), device="cpu")
    source.embed("test", Path("e.npy"))
    text = Path("e.json").read_text()
    info = json.loads(text)
    assert str(project) not in text
    assert (info["config"]["data"]["data"], info["dataset"]) == ("photos.npz", "photos")
    assert info["fingerprint"] == source.load("test").fingerprint


def unfinished(folder: Path) -> None:
    """Make the run of ``folder`` one that was stopped at step 2."""
    shutil.rmtree(folder)
    stopped(SMALL | {"data": "photos.npz"}, folder, 2, device="cpu")


def test_a_run_whose_data_were_moved_goes_on_to_the_same_end(project: Path) -> None:
    run = Path("runs/one")
    expected = outcome(run)
    unfinished(run)
    Path("photos.npz").rename("pictures.npz")
    with pytest.raises(InputError, match="data"):
        train({}, out=run, resume=True, device="cpu")
    train({"data": "pictures.npz"}, out=run, resume=True, device="cpu")
    assert outcome(run) == expected
    assert read_json(run / "config.json")["data"]["data"] == "photos.npz"


def test_a_run_does_not_go_on_with_other_images(project: Path) -> None:
    run = Path("runs/one")
    unfinished(run)
    np.savez("others.npz", **images(1))
    with pytest.raises(InputError, match=" data "):
        train({"data": "others.npz"}, out=run, resume=True, device="cpu")
    with pytest.raises(UsageError, match="data digits"):
        train({"data": "digits"}, out=run, resume=True, device="cpu")


def test_a_run_goes_on_from_elsewhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished(Path("runs/one"))
    monkeypatch.chdir(project.parent / "elsewhere")
    assert train({}, out=project / "runs" / "one", resume=True, device="cpu").metrics["step"] == 4
