"""Archives of images: the same result as the folder, and hostile ones refused."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.errors import UsageError
from tests.helpers import (
    CATS_AND_DOGS,
    TARS,
    encoded,
    grey_files,
    make,
    make_tar,
    make_zip,
    pixels,
    read,
    unusable,
    write_folder,
)

pytestmark = pytest.mark.usefixtures("at_once")

FILES = grey_files(["cat/10.png", "dog/1.png", "cat/9.png", "dog/b/2.png"])  # not in the order of the names


@pytest.mark.parametrize("outer", ["", "pets/", "./", "./a/b/"])
@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_an_archive_gives_what_the_folder_gives(tmp_path: Path, suffix: str, outer: str) -> None:
    folder = read(write_folder(tmp_path / "pets", FILES))
    junk = {"__MACOSX/._x": b"", f"{outer}.DS_Store": b""}
    data = read(make(tmp_path / f"pets{suffix}", junk | {f"{outer}{name}": data for name, data in FILES.items()}))
    assert data.name == "pets" and data.class_names == folder.class_names
    assert data.fingerprint == folder.fingerprint
    prefix = outer.removeprefix("./")
    assert data.file_names == tuple(f"{prefix}{name}" for name in folder.file_names)


def test_an_archive_may_hold_train_and_test(tmp_path: Path) -> None:
    names = [f"{part}/{name}" for part in ("test", "train") for name in CATS_AND_DOGS]
    data = read(make(tmp_path / "a.tar.gz", grey_files(names)), "test")
    assert len(data) == 10 and np.array_equal(data.images[0, ..., 0], pixels(0))


def test_an_outer_folder_of_images_means_no_labels(tmp_path: Path) -> None:
    data = read(make_zip(tmp_path / "a.zip", grey_files(["photos/1.png", "photos/2.png"])))
    assert data.labels is None and data.file_names == ("photos/1.png", "photos/2.png")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_of_one_name_twice_the_last_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
            for seed in (0, 1):
                archive.writestr("a.png", encoded(pixels(seed)))
    else:
        with tarfile.open(path, "w") as archive:
            for seed in (0, 1):
                info = tarfile.TarInfo("a.png")
                info.size = len(encoded(pixels(seed)))
                archive.addfile(info, io.BytesIO(encoded(pixels(seed))))
    data = read(path)
    assert np.array_equal(data.images[..., 0], pixels(1)[None]) and data.notes[0].startswith("1 ")


OUTSIDE = ["../outside.png", "/etc/outside.png", "cat/../../outside.png", "C:/outside.png", "cat\\outside.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str, suffix: str) -> None:
    path = make(tmp_path / f"a{suffix}", FILES | {name: encoded(pixels(0))})
    unusable(path, repr(name))
    assert sorted(file.name for file in tmp_path.parent.rglob("outside.png")) == []


LINKS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}


@pytest.mark.parametrize("kind", LINKS)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: str) -> None:
    change = {"type": LINKS[kind], "linkname": "/etc/passwd", "size": 0}
    path = make_tar(tmp_path / "a.tar", FILES | {"cat/x.png": b""}, change=change)
    unusable(path, "cat/x.png")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/x.png")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    unusable(tmp_path / "a.zip", "cat/x.png")


# What the directory of a zip says of a member, at an offset behind its mark: it lies, or asks for too much.
LIES = {
    "encrypted": (8, b"\x01", 1, ["cat/10.png"]),
    "1 GiB each, together a bomb": (24, (1 << 30).to_bytes(4, "little"), 4, [str(4 << 30)]),
    "one huge member": (24, (300 << 20).to_bytes(4, "little"), 1, ["cat/10.png", str(300 << 20), str(256 << 20)]),
    "longer than it says": (24, (10).to_bytes(4, "little"), 1, ["a.zip", "CRC"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_zip_whose_directory_says_too_much_or_too_little_is_refused(tmp_path: Path, lie: str) -> None:
    offset, value, count, words = LIES[lie]
    data, position = bytearray(make_zip(tmp_path / "a.zip", FILES).read_bytes()), -1
    for _ in range(count):
        position = data.index(b"PK\x01\x02", position + 1)
        data[position + offset : position + offset + len(value)] = value
    (tmp_path / "a.zip").write_bytes(data)
    unusable(tmp_path / "a.zip", *words)


def test_a_compressed_tar_bomb_is_stopped_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softvq_cli.datasets.naming.FREE_BYTES", 1 << 20)
    path = make_tar(tmp_path / "a.tar.gz", {"a.png": bytes(20 << 20)}, "w:gz")
    unusable(path, "a.tar.gz")


def test_a_tar_of_more_files_than_its_bytes_can_hold_is_stopped_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softvq_cli.datasets.naming.DOUBTED_MEMBERS", 100)
    path = make_tar(tmp_path / "b.tar.gz", {"a": tarfile.TarInfo("a").tobuf() * 9000}, "w:gz")
    content = gzip.decompress(path.read_bytes())[tarfile.BLOCKSIZE :]  # the headers as members
    path.write_bytes(gzip.compress(content))
    unusable(path, str(path.stat().st_size))


def test_a_zip_is_counted_before_its_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.zip", FILES)
    monkeypatch.setattr("softvq_cli.datasets.naming.MAX_MEMBERS", 3)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    unusable(path, " 3 ")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ""])
def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("softvq_cli.datasets.naming.MAX_MEMBERS", 3)
    path = make(tmp_path / f"a{suffix}", FILES) if suffix else write_folder(tmp_path / "a", FILES)
    unusable(path, " 3 ")


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = make(tmp_path / f"a{suffix}", FILES).read_bytes()
    useful = len(whole) if suffix != ".tar" else 512 * (len(whole.rstrip(b"\0")) // 512 + 1)
    path = tmp_path / f"b{suffix}"
    for end in range(0, useful, max(1, useful // 40)):
        path.write_bytes(whole[:end])
        unusable(path)


def test_a_damaged_header_in_a_tar_does_not_end_it_silently(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", FILES)
    data = bytearray(path.read_bytes())
    second = data.index(b"dog/1.png")
    data[second + 148 : second + 156] = b"000000\0 "  # its checksum
    path.write_bytes(data)
    unusable(path, "a.tar")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".npz", ".npy"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"this is a letter to my aunt " * 40)
    unusable(path, f"a{suffix}")


def windows_zip(path: Path, names: dict[bytes, bytes]) -> Path:
    """A .zip with these bytes for names and the mark of Windows, as old tools there make them."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(names.items()):
            archive.writestr(f"{number}".rjust(len(name), "x"), data)  # in its place, of its length
    content = path.read_bytes()
    for number, name in enumerate(names):
        content = content.replace(f"{number}".rjust(len(name), "x").encode(), name)
    changed, position = bytearray(content), content.find(b"PK\x01\x02")
    while position >= 0:
        changed[position + 5] = 0  # the system that made it
        position = content.find(b"PK\x01\x02", position + 1)
    path.write_bytes(changed)
    return path


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    names = [b"pets\\cat\\1.png", b"pets\\cat\\2.png", b"pets\\dog\\1.png"]
    files = {name: encoded(pixels(seed)) for seed, name in enumerate(names)}
    data = read(windows_zip(tmp_path / "a.zip", files))
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 0, 1]
    assert len(data.notes) == 1 and data.notes[0].startswith("3 ")
    unusable(windows_zip(tmp_path / "b.zip", {b"..\\..\\x.png": encoded(pixels(0))}), "../../x.png")


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "cp866"])
def test_names_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    kinds = {"shift_jis": ("ねこ", "犬"), "gbk": ("猫", "狗"), "cp866": ("кот", "пёс")}[encoding]
    files = {f"{kind}/1.png".encode(encoding): encoded(pixels(seed)) for seed, kind in enumerate(kinds)}
    path = windows_zip(tmp_path / "a.zip", files)
    unusable(path, "name_encoding")
    assert read(path, name_encoding=encoding).class_names == tuple(sorted(kinds))
    unusable(path, "name_encoding", "klingon", kind=UsageError, name_encoding="klingon")


def test_names_of_utf8_without_the_mark(tmp_path: Path) -> None:
    files = {f"{kind}/1.png".encode(): encoded(pixels(seed)) for seed, kind in enumerate(("猫", "狗"))}
    data = read(windows_zip(tmp_path / "a.zip", files))
    assert data.class_names == ("狗", "猫")


def test_names_of_a_tar_in_another_encoding(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="gbk") as archive:
        for kind in ("猫", "狗"):
            info = tarfile.TarInfo(f"{kind}/1.png")
            info.size = len(encoded(pixels(0)))
            archive.addfile(info, io.BytesIO(encoded(pixels(0))))
    unusable(tmp_path / "a.tar", "a.tar")
    assert read(tmp_path / "a.tar", name_encoding="gbk").class_names == ("狗", "猫")
    unusable(tmp_path / "a.tar", "name_encoding", kind=UsageError, name_encoding="klingon")
