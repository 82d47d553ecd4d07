"""Images are decoded once; a damaged or unwritable cache costs time and nothing else."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli.datasets import cache, decode
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import InputError
from tests.helpers import CATS_AND_DOGS, Listener, encoded, grey_files, make_zip, pixels, read, write_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures, and an empty cache."""
    monkeypatch.setenv("SOFTVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_COMPARED_BYTES", cache._COMPARED_BYTES)
    return write_folder(tmp_path / "pets", grey_files(CATS_AND_DOGS))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are decoded."""
    names: list[str] = []
    real = decode.read_image

    def spy(name: str, *rest: object) -> object:
        names.append(name)
        return real(name, *rest)

    monkeypatch.setattr(decode, "read_image", spy)
    return names  # type: ignore[return-value]


def entries(folder: Path, suffix: str) -> list[Path]:
    return sorted((folder.parent / "cache" / "decoded").glob(f"*{suffix}"))


def same(first: Dataset, second: Dataset) -> bool:
    return (first.fingerprint, first.class_names, first.file_names) == (
        second.fingerprint,
        second.class_names,
        second.file_names,
    )


def test_the_second_time_nothing_is_decoded(folder: Path, decoded: list[str]) -> None:
    first = read(folder)
    assert isinstance(first.images, np.memmap) and not first.images.flags.writeable
    decoded.clear()
    assert same(read(folder), first) and len(read(folder, "test")) == 2 and decoded == []


def test_progress_is_told_while_decoding(folder: Path) -> None:
    from softvq_cli.config import DataConfig
    from softvq_cli.datasets import load

    listener = Listener()
    load(DataConfig(data=str(folder)), "all", reporter=listener)
    assert listener.told == [("decoding pets", 10, 10)]


@pytest.mark.parametrize("change", ["another image", "one more", "one fewer", "another name"])
def test_a_changed_folder_is_decoded_again(folder: Path, change: str) -> None:
    before = read(folder)
    if change == "another image":
        (folder / "cat" / "0.png").write_bytes(encoded(pixels(99)))
        os.utime(folder / "cat" / "0.png", (1, 1))
    elif change == "one more":
        (folder / "cat" / "9.png").write_bytes(encoded(pixels(99)))
    elif change == "one fewer":
        (folder / "cat" / "0.png").unlink()
    else:
        (folder / "cat" / "0.png").rename(folder / "cat" / "7.png")
    assert not same(read(folder), before)


STALE = ["two class folders swapped", "a file replaced, times kept", "written again within the clock's grain"]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("change", STALE)
def test_what_changed_without_name_size_and_time_is_seen(
    folder: Path, change: str, hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hashed:
        monkeypatch.setattr("softvq_cli.datasets.cache.HASHED_BYTES", 0)
    for path in folder.rglob("*.png"):  # all of one size and time
        Image.fromarray(pixels(int(path.stem) + 10 * (path.parent.name == "dog"))).save(path, "BMP")
        os.utime(path, (1, 1))
    before = read(folder)
    if change == STALE[0]:
        (folder / "cat").rename(folder / "x")
        (folder / "dog").rename(folder / "cat")
        (folder / "x").rename(folder / "dog")
    else:
        target = folder / "cat" / "0.png"
        status = target.stat()
        Image.fromarray(pixels(99)).save(target, "BMP")
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (target.stat().st_size, target.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = read(folder)
    expected = np.stack([np.asarray(Image.open(folder / name)) for name in after.file_names])
    assert np.array_equal(after.images[..., 0], expected) and not same(before, after)


def test_an_archive_written_again_with_its_times_kept_is_seen(folder: Path) -> None:
    path = folder.parent / "pets.zip"
    for seed in (0, 1):
        make_zip(path, {"a.png": encoded(pixels(seed), "BMP"), "b.png": encoded(pixels(7), "BMP")}, zipfile.ZIP_STORED)
        os.utime(path, (1, 1))
        assert np.array_equal(read(path).images[0, ..., 0], pixels(seed))


def test_a_copy_elsewhere_needs_no_decoding(folder: Path, decoded: list[str]) -> None:
    read(folder)
    decoded.clear()
    shutil.copytree(folder, folder.parent / "copy")
    assert read(folder.parent / "copy").name == "copy" and decoded == []


def damage_images(folder: Path) -> None:
    (path,) = entries(folder, ".npy")
    path.write_bytes(path.read_bytes()[:-7])


def zero_half(folder: Path) -> None:
    (path,) = entries(folder, ".npy")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))


def zero_half_of_a_large_one(folder: Path) -> None:
    cache._COMPARED_BYTES = 0  # restored by the fixture
    zero_half(folder)


def damage_header(folder: Path) -> None:
    (path,) = entries(folder, ".npy")
    path.write_bytes(path.read_bytes().replace(b"(10, 6, 5, 1)", b"(10, 5, 6, 2)"))


def damage_notes(folder: Path) -> None:
    (path,) = entries(folder, ".json")
    path.write_text(path.read_text().replace("cat/0.png", "cat/1.png"))


def empty_notes(folder: Path) -> None:
    entries(folder, ".json")[0].write_text("{}")


def remove_notes(folder: Path) -> None:
    entries(folder, ".json")[0].unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_images, zero_half, zero_half_of_a_large_one, damage_header, damage_notes, empty_notes, remove_notes],
)
def test_a_damaged_cache_is_made_again(folder: Path, damage: object) -> None:
    before = read(folder)
    expected = before.fingerprint
    damage(folder)  # type: ignore[operator]
    after = read(folder)
    assert after.fingerprint == expected and after.file_names == before.file_names
    assert len(entries(folder, ".npy")) == len(entries(folder, ".json")) == 1


@pytest.mark.parametrize("obstacle", ["a file in its place", "a full disk"])
def test_a_cache_that_cannot_be_written_is_no_error(
    folder: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if obstacle == "a file in its place":
        (folder.parent / "cache").write_text("in the way")
    else:
        monkeypatch.setattr(os, "fsync", _no_space)
    data = read(folder)
    assert not isinstance(data.images, np.memmap)
    assert np.array_equal(data.images[..., 0], np.stack([pixels(seed) for seed in range(10)]))
    assert len(read(folder, "train")) == 8
    assert entries(folder, ".tmp") == []


def _no_space(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_an_error_in_the_images_leaves_no_cache(folder: Path) -> None:
    (folder / "dog" / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError):
        read(folder)
    assert list((folder.parent / "cache" / "decoded").iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 5 * 19360)

    def used(size: int) -> None:
        read(folder, image_size=size)
        cache._sound.clear()  # as another process has

    used(44)
    (kept,) = entries(folder, ".npy")
    for size in (40, 41, 42, 43):
        used(size)
    os.utime(kept.with_suffix(".sum"), (1, 1))
    used(44)  # used again just now
    oldest = min(entries(folder, ".sum"), key=lambda path: path.stat().st_mtime)
    used(45)
    assert kept.exists() and not [*oldest.parent.glob(f"{oldest.stem}.*")]


def test_what_killed_processes_left_is_removed_after_a_day(folder: Path) -> None:
    left = folder.parent / "cache" / "decoded" / ".x.npy.abc.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    read(folder)
    assert left.exists()
    os.utime(left, (1, 1))
    read(folder, image_size=3)
    assert not left.exists()
