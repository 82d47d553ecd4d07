"""A checkpoint is valid or refused, and opening one executes nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.api import embed
from softvq_cli.config import SETTINGS
from softvq_cli.errors import InputError, SoftVQError
from softvq_cli.training import archive, checkpoint, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import with_seal


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory, npz: Path) -> Path:
    """A real checkpoint; read it, do not change it."""
    settings = {"data": str(npz), "latent_dim": 2, "K": 3, "iterations": 2, "batch_size": 8}
    return train(settings, out=tmp_path_factory.mktemp("run")).path


def changed(ckpt: Path, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy with a valid seal whose content was changed."""
    content, _ = archive.read(ckpt)
    change(content)
    archive.write(path, content)
    return path


def test_torch_alone_reads_it_without_running_code(ckpt: Path) -> None:
    content = torch.load(ckpt, weights_only=True)
    assert content["format"] == "softvq-checkpoint"
    assert content["version"] == checkpoint.VERSION
    assert zipfile.ZipFile(ckpt).testzip() is None


def variants() -> Iterator[tuple[str, str, Any]]:
    """Each bottleneck with each word or switch of each of its own settings that is not the default."""
    for bottleneck, entry in BOTTLENECKS.items():
        for name in entry.settings:
            setting = SETTINGS[name]
            for value in setting.words or ((True,) if setting.kind is bool else ()):
                if value != setting.default:
                    yield bottleneck, name, value


@pytest.mark.parametrize(("bottleneck", "setting", "value"), list(variants()))
def test_every_form_of_a_bottleneck_can_be_loaded_again(
    bottleneck: str, setting: str, value: object, npz: Path, tmp_path: Path
) -> None:
    settings = {"data": str(npz), "latent_dim": 4, "K": 3, "iterations": 2, "batch_size": 8}
    run = train({**settings, "bottleneck": bottleneck, setting: value}, out=tmp_path)
    rows = embed(checkpoint.load(run.path), np.load(npz)["images"], "z_q")
    assert rows.shape == (150, 4) and np.isfinite(rows).all()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed file of a few kilobytes, small enough to damage at every single byte."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    archive.write(path, {"format": "softvq-checkpoint", "weights": torch.arange(8.0)})
    return path


def test_a_flipped_bit_in_any_byte_and_a_cut_at_any_length_are_noticed(tiny: Path, ckpt: Path, tmp_path: Path) -> None:
    random.seed(0)
    path = tmp_path / "damaged.pt"
    for source, places, step in ((tiny, None, 1), (ckpt, 10, 5_000)):
        raw = source.read_bytes()
        flipped = []
        for place in range(len(raw)) if places is None else random.sample(range(len(raw)), places):
            flipped.append(bytearray(raw))
            flipped[-1][place] ^= 1 << random.randrange(8)
        for damaged in (*flipped, *(raw[:length] for length in range(0, len(raw), step))):
            path.write_bytes(damaged)
            with pytest.raises(InputError):
                archive.read(path)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_code_in_a_pickle_never_runs(ckpt: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Evil(trap)))
    zipped = tmp_path / "zipped.pt"
    torch.save({"format": "softvq-checkpoint", "model": Evil(trap)}, zipped)
    sealed = changed(ckpt, tmp_path / "sealed.pt", lambda content: content.update(extra=Evil(trap)))
    for path in (plain, zipped, sealed):
        with pytest.raises(InputError):
            checkpoint.load(path)
    assert not trap.exists()


def test_files_of_other_programs_and_newer_formats_are_refused(ckpt: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(3)}, other)
    newer = changed(ckpt, tmp_path / "newer.pt", lambda content: content.update(version=99))
    for path, value in ((other, ""), (newer, "99"), (tmp_path / "missing.pt", ""), (tmp_path, "")):
        with pytest.raises(InputError, match=f"{path.name}.*{value}"):
            checkpoint.load(path)


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


BROKEN = {
    "negative latent dimension": _set("config", "model", "latent_dim", value=-1),
    "astronomic latent dimension": _set("config", "model", "latent_dim", value=10**12),
    "large but allowed dimensions": _set("config", "model", "latent_dim", value=65536),
    "unknown bottleneck": _set("config", "model", "bottleneck", value="magic"),
    "text for a number": _set("config", "train", "lr", value="fast"),
    "not a number": _set("config", "train", "lr", value=float("nan")),
    "unknown setting": _set("config", "train", "colour", value=1),
    "no configuration": _set("config", value=None),
    "huge image": _set("dataset", "image_shape", value=[10**9, 10**9, 3]),
    "two channels": _set("dataset", "image_shape", value=[8, 8, 2]),
    "class names of numbers": _set("dataset", "class_names", value=[1, 2]),
    "step of text": _set("step", value="ten"),
    "step of a bool": _set("step", value=True),
    "weights missing": lambda content: content["model"].popitem(),
    "weights of another shape": _set("model", "to_latent.bias", value=torch.zeros(7)),
    "weights of another type": _set("model", "to_latent.bias", value=torch.zeros(2, dtype=torch.float64)),
    "weights that are no tensor": _set("model", "to_latent.bias", value=[0.0, 0.0]),
    "weights larger than their storage": _set("model", "to_latent.weight", value=torch.zeros(1, 1).expand(2, 2000)),
    "metrics of text": _set("metrics", value={"loss": "low"}),
    "no model": lambda content: content.pop("model"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_inconsistent_content_under_a_valid_seal_is_refused(name: str, ckpt: Path, tmp_path: Path) -> None:
    path = changed(ckpt, tmp_path / "broken.pt", BROKEN[name])
    with pytest.raises(InputError):
        checkpoint.load(path)


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(ckpt: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(50_000_000))
    bomb = tmp_path / "bomb.pt"
    body = buffer.getvalue()
    bomb.write_bytes(with_seal(body))
    with pytest.raises(InputError):
        checkpoint.load(bomb)


def test_a_failing_write_leaves_the_previous_checkpoint(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(ckpt.read_bytes())
    content, _ = archive.read(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(SoftVQError):
                archive.write(path, {**content, "step": 999})
        assert checkpoint.load(path).step == 2
        assert list(tmp_path.iterdir()) == [path]
