"""Data sets larger than the cache limit: images are decoded on demand, with the same bytes as from the cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.datasets import cache, decode
from softvq_cli.datasets.dataset import Rows
from softvq_cli.datasets.images import OnDemand
from softvq_cli.errors import InputError, UsageError
from softvq_cli.training import checkpoint, train
from tests.helpers import (
    CATS_AND_DOGS,
    encoded,
    facts,
    grey_files,
    make_tar,
    make_zip,
    parquet,
    pixels,
    read,
    rows_text,
    unusable,
    write_folder,
)

FILES = grey_files(CATS_AND_DOGS) | {"cat/9.png": encoded(pixels(99, (6, 5, 3)))}


def table(path: Path, files: dict[str, bytes]) -> Path:
    return parquet(path, image=[*files.values()], label=[name.split("/")[0] for name in files])


def listed(path: Path, files: dict[str, bytes]) -> Path:
    write_folder(path.parent, files)
    path.write_text(rows_text("csv", [{"path": name, "label": name.split("/")[0]} for name in sorted(files)]))
    return path


KINDS: dict[str, Any] = {
    "folder": write_folder,
    "a.tar": make_tar,
    "a.tar.gz": lambda path, files: make_tar(path, files, "w:gz"),
    "a.zip": make_zip,
    "a.parquet": table,
    "a.csv": listed,
}


def small_cache(monkeypatch: pytest.MonkeyPatch, folder: Path, limit: str) -> Path:
    monkeypatch.setenv("SOFTVQ_CACHE", str(folder))
    monkeypatch.setenv("SOFTVQ_CACHE_LIMIT", limit)
    return folder / "decoded"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "own").mkdir()
    path = KINDS[kind](tmp_path / "own" / kind, FILES)
    small_cache(monkeypatch, tmp_path / "large", "1GB")
    whole, *parts = (read(path, split) for split in ("all", "train", "test"))
    folder = small_cache(monkeypatch, tmp_path / "small", "600")
    for _ in range(2):  # the second time nothing is checked again
        again = read(path)
        assert (
            isinstance(again.images, Rows)
            and isinstance(again.images.images, OnDemand)
            and facts(again) == facts(whole)
        )
        assert np.array_equal(np.asarray(again.images), whole.images)
        assert np.array_equal(again.images[[3, 0, 3]], whole.images[[3, 0, 3]])
        assert all(facts(read(path, part.split)) == facts(part) for part in parts)
        monkeypatch.setattr(decode, "decode", None)
    monkeypatch.undo()
    packed = kind in ("a.tar.gz", "a.zip", "a.parquet")
    assert not list(folder.glob("*.npy")) and len(list(folder.glob("*.pack"))) == packed


def test_a_training_and_one_resumed_the_other_way_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_networks: None
) -> None:
    files = {f"{kind}/{row}.png": encoded(pixels(row)) for kind in "ab" for row in range(30)}
    settings: dict[str, Any] = {"latent_dim": 4, "K": 6, "batch_size": 8, "log_every": 4}
    settings["data"] = str(make_zip(tmp_path / "a.zip", files))
    decoded, on_demand = "1GB", "10"
    runs = []
    for number, limits in enumerate([(decoded,), (on_demand,), (decoded, on_demand), (on_demand, decoded)]):
        for part, limit in enumerate(limits, 1):
            small_cache(monkeypatch, tmp_path / limit, limit)
            iterations = 12 * part // len(limits)
            train(settings | {"iterations": iterations}, out=tmp_path / str(number), resume=part > 1)
        runs.append(checkpoint.load(tmp_path / str(number) / "ckpt.pt"))
    first, *others = runs
    for run in others:
        assert run.dataset == first.dataset and run.metrics["loss"] == first.metrics["loss"]
        for x, y in zip(first.model.state_dict().values(), run.model.state_dict().values(), strict=True):
            assert x.equal(y)


def test_the_test_split_is_kept_decoded_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_folder(tmp_path / "own", grey_files(CATS_AND_DOGS))
    folder = small_cache(monkeypatch, tmp_path / "cache", "299")  # 10 images of 30 bytes, 2 of them in the test split
    assert isinstance(read(path, "test").images, np.memmap) and isinstance(read(path, "train").images, Rows)
    assert [np.load(file).shape for file in folder.glob("*.npy")] == [(2, 6, 5, 1)]


def test_a_damaged_file_is_found_before_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_cache(monkeypatch, tmp_path / "cache", "0")
    files = grey_files(CATS_AND_DOGS) | {"dog/9.png": encoded(pixels(0))[:-30]}
    unusable(make_zip(tmp_path / "a.zip", files), "dog/9.png")
    assert not list((tmp_path / "cache" / "decoded").glob("*"))


def test_a_pack_that_is_gone_or_cut_is_made_again_or_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "a.zip", grey_files(CATS_AND_DOGS))
    folder = small_cache(monkeypatch, tmp_path / "cache", "0")
    first = read(path)
    (pack,) = folder.glob("*.pack")
    pack.unlink()
    assert np.array_equal(np.asarray(read(path).images), np.asarray(first.images))  # which is open still
    data = read(path)
    os.truncate(pack, 0)
    with pytest.raises(InputError, match=str(pack)):
        data.images[0]


def test_what_this_process_has_loaded_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_cache(monkeypatch, tmp_path / "cache", "350")
    for name in "abc":  # 300 bytes each: one fits
        read(write_folder(tmp_path / name, grey_files(CATS_AND_DOGS) | {"cat/0.png": encoded(pixels(ord(name)))}))
    assert len(list(folder.glob("*.npy"))) == 3
    cache._sound.clear()
    read(write_folder(tmp_path / "d", grey_files(CATS_AND_DOGS) | {"cat/0.png": encoded(pixels(77))}))
    assert len(list(folder.glob("*.npy"))) == 1


@pytest.mark.parametrize("text", ["much", "-1", "1e9", "12 parsecs"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    small_cache(monkeypatch, tmp_path / "cache", text)
    unusable(write_folder(tmp_path / "a", FILES), "SOFTVQ_CACHE_LIMIT", repr(text), kind=UsageError)
