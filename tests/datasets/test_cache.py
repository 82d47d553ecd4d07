"""Images are decoded once; a damaged or unwritable cache only costs time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli.datasets import cache, decode
from softvq_cli.errors import InputError
from tests.helpers import CATS_AND_DOGS, encoded, facts, grey_files, pixels, read, write_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures, and an empty cache."""
    monkeypatch.setenv("SOFTVQ_CACHE", str(tmp_path / "cache"))
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


def test_the_second_time_nothing_is_decoded(folder: Path, decoded: list[str]) -> None:
    first = read(folder)
    assert isinstance(first.images, np.memmap) and not first.images.flags.writeable
    decoded.clear()
    assert facts(read(folder)) == facts(first) and len(read(folder, "test")) == 2 and decoded == []


@pytest.mark.parametrize("change", ["another image", "one more", "one fewer", "another name"])
def test_a_changed_folder_is_decoded_again(folder: Path, change: str) -> None:
    before = read(folder)
    image = folder / "cat" / "0.png"
    if change == "another image":
        image.write_bytes(encoded(pixels(99)))
        os.utime(image, (1, 1))
    elif change == "one more":
        image.with_name("9.png").write_bytes(encoded(pixels(99)))
    elif change == "one fewer":
        image.unlink()
    else:
        image.rename(image.with_name("7.png"))
    assert facts(read(folder)) != facts(before)


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
    assert np.array_equal(after.images[..., 0], expected) and facts(before) != facts(after)


DAMAGE = {
    "cut": (".npy", lambda data: data[:-7]),
    "half of it zero": (".npy", lambda data: data[: len(data) // 2].ljust(len(data), b"\0")),
    "another shape": (".npy", lambda data: data.replace(b"(10, 6, 5, 1)", b"(10, 5, 6, 2)")),
    "another name": (".json", lambda data: data.replace(b"cat/0.png", b"cat/1.png")),
    "nothing in the notes": (".json", lambda data: b"{}"),
    "no notes": (".json", None),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(folder: Path, damage: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(cache, "_COMPARED_BYTES", 0)
    before = read(folder)
    suffix, change = DAMAGE[damage]
    (path,) = entries(folder, suffix)
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    expected = before.file_names
    after = read(folder)
    assert np.array_equal(after.images[..., 0], np.stack([pixels(seed) for seed in range(10)]))
    assert after.file_names == expected and len(entries(folder, ".npy")) == len(entries(folder, ".json")) == 1


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


def test_what_does_not_fit_into_memory_is_said_without_blame_of_the_cache() -> None:
    with pytest.raises(InputError, match=str(1 << 60)) as error:
        cache.in_memory((1 << 60,), lambda put: None)
    assert "cache" not in str(error.value)


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
