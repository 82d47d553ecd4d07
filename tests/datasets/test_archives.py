"""Archives: the same result as the folder, hostile ones refused; and WebDataset, samples by base name in .tar files."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.webdataset import expand
from softvq_cli.errors import InputError, UsageError
from tests.helpers import (
    TARS,
    encoded,
    grey_files,
    make,
    make_tar,
    make_zip,
    notes,
    pixels,
    read,
    seeds_of,
    seen,
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
    with monkeypatch.context() as patch:
        patch.setattr("softvq_cli.datasets.naming.FREE_BYTES", 1 << 20)
        unusable(make_tar(tmp_path / "a.tar.gz", {"a.png": bytes(20 << 20)}, "w:gz"), "a.tar.gz")
    # More files than its bytes can hold.
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
    data[124:136] = b"-00000001000"  # backwards by a block, for ever
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    unusable(path, "a.tar")


def named_in_bytes(path: Path, names: dict[bytes, bytes]) -> Path:
    """A .zip with these bytes as names, without a flag for their encoding, as old tools create."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(names.items()):
            archive.writestr(f"{number}".rjust(len(name), "x"), data)  # in its place, of its length
    content = path.read_bytes()
    for number, name in enumerate(names):
        content = content.replace(f"{number}".rjust(len(name), "x").encode(), name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "cp866", "utf-8"])
def test_names_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    kinds = {"shift_jis": ("ねこ", "犬"), "cp866": ("кот", "пёс")}.get(encoding, ("猫", "狗"))
    files = {f"{kind}/1.png".encode(encoding): encoded(pixels(seed)) for seed, kind in enumerate(kinds)}
    path = named_in_bytes(tmp_path / "a.zip", files)
    if encoding == "utf-8":
        assert read(path).class_names == tuple(sorted(kinds))
    else:
        unusable(path, "name_encoding")
    assert read(path, name_encoding=encoding).class_names == tuple(sorted(kinds))
    unusable(path, "name_encoding", "klingon", kind=UsageError, name_encoding="klingon")


def test_names_of_a_tar_in_another_encoding(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="gbk") as archive:
        for kind in ("猫", "狗"):
            info = tarfile.TarInfo(f"{kind}/1.png")
            info.size = len(encoded(pixels(0)))
            archive.addfile(info, io.BytesIO(encoded(pixels(0))))
    unusable(tmp_path / "a.tar", "a.tar")
    assert read(tmp_path / "a.tar", name_encoding="gbk").class_names == ("狗", "猫")
    unusable(tmp_path / "a.tar", "name_encoding", kind=UsageError, name_encoding="klingon")


@pytest.mark.parametrize("outer", ["", "{}/", "./"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_for_each_split(tmp_path: Path, suffix: str, outer: str) -> None:
    (tmp_path / "own").mkdir()
    for split, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        names = {seed: f"{outer.format(split)}{'cat' if seed % 2 else 'dog'}/{seed}.png" for seed in seeds}
        make(tmp_path / "own" / f"{split}{suffix}", {name: encoded(pixels(seed)) for seed, name in names.items()})
    assert seen(read(tmp_path / "own", "train")) == ([1, 0, 2], [0, 1, 1], ("cat", "dog"))
    assert seen(read(tmp_path / "own", "test")) == ([3, 4], [0, 1], ("cat", "dog"))


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("form", ["{}/a{}: {}/{}.png", "{}/{}{}: {}.png", "{}/{}-0{}: {}.png"])
def test_archives_in_the_folder_of_a_split(tmp_path: Path, suffix: str, form: str) -> None:
    files: dict[str, dict[str, bytes]] = {}
    for seed, (split, kind) in enumerate((split, kind) for split in ("train", "test") for kind in ("cat", "dog") * 2):
        values = (split, suffix, kind, seed) if "/a" in form else (split, kind, suffix, seed)
        archive, name = form.format(*values).split(": ")
        files.setdefault(archive, {})[name] = encoded(pixels(seed))
    for archive, members in files.items():
        (tmp_path / archive).parent.mkdir(exist_ok=True)
        make(tmp_path / archive, members)
    assert seen(read(tmp_path, "train")) == ([0, 2, 1, 3], [0, 0, 1, 1], ("cat", "dog"))
    assert seen(read(tmp_path, "test")) == ([4, 6, 5, 7], [0, 0, 1, 1], ("cat", "dog"))


@pytest.mark.parametrize("form", ["", ".zip", ".tar"])
@pytest.mark.parametrize("ending", [".txt", ".json"])
def test_texts_next_to_images_are_passed_over_in_an_archive_as_in_its_folder(
    tmp_path: Path, form: str, ending: str
) -> None:
    files = grey_files(["cat/0.png", "dog/1.png", "cat/2.png"])
    files |= {name.replace(".png", ending): b'{"label": "x"}' for name in files}
    data = read(make(tmp_path / f"a{form}", files) if form else write_folder(tmp_path / "a", files))
    assert data.class_names == ("cat", "dog") and len(data) == 3 and f"cat/0{ending}" in data.notes[0]


# ---- WebDataset

LABELS = [number % 3 for number in range(12)]


def samples(numbers: range, kind: str = "cls") -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number in numbers:
        label = LABELS[number]
        texts = {"cls": str(label), "txt": "abc"[label], "json": json.dumps({"label": label, "name": "xyz"[label]})}
        files |= {f"{number:04}.png": encoded(pixels(number)), f"{number:04}.{kind}": texts[kind].encode()}
    return files


def shards(folder: Path, kind: str = "cls") -> Path:
    folder.mkdir()
    for name, numbers in (("train-000000", range(4)), ("train-000001", range(4, 8)), ("test-000000", range(8, 12))):
        make_tar(folder / f"{name}.tar", samples(numbers, kind))
    return folder


@pytest.mark.parametrize("kind, names", [("cls", "012"), ("txt", "abc"), ("json", "012")])
def test_one_tar(tmp_path: Path, kind: str, names: str) -> None:
    data = read(make_tar(tmp_path / "own.tar", samples(range(12), kind)))
    assert seen(data) == ([*range(12)], LABELS, tuple(names)) and data.notes == ()


def test_a_folder_or_a_pattern_of_shards_has_its_splits_in_their_names(tmp_path: Path) -> None:
    folder = shards(tmp_path / "own")
    train, test = read(folder, "train"), read(folder, "test")
    assert seeds_of(train) == [*range(8)]
    assert test.labels.tolist() == LABELS[8:] and test.file_names[0] == "test-000000.tar/0008.png"
    data = read(folder / "train-{000000..000001}.tar")
    assert data.name == "train" and len(data) == 8 and data.labels.tolist() == LABELS[:8]
    assert len(read(folder / "{train-000000,test-000000}.tar", "test")) == 4
    unusable(folder / "train-{000000..000002}.tar", "train-000002.tar")


def test_patterns() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    for pattern in ("{5..1}.tar", "{0..99999999}.tar"):
        with pytest.raises(InputError, match="100000"):
            expand(pattern)


def test_the_label_by_option(tmp_path: Path) -> None:
    files = samples(range(12), "json") | {f"{number:04}.cls": b"7" if number % 2 else b"8" for number in range(12)}
    path = make_tar(tmp_path / "own.tar", files)
    assert read(path).class_names == ("7", "8") and notes(read(path))[0].endswith(": json")
    assert read(path, label_column="name").class_names == ("x", "y", "z")
    unusable(path, "0000.json", "colour", "label_column", "label, name", label_column="colour")


ODD = {
    "two images": ({**samples(range(3)), "0001.jpg": b""}, "0001.jpg, 0001.png"),
    "no JSON": ({**samples(range(3), "json"), "0001.json": b"{"}, "0001.json"),
    "a list for a label": ({**samples(range(2), "json"), "0001.json": b'{"label": [1]}'}, "0001.json"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_samples_are_named(tmp_path: Path, case: str) -> None:
    files, words = ODD[case]
    unusable(make_tar(tmp_path / "own.tar", files), *words.split())


def test_a_sample_without_a_label_is_left_out(tmp_path: Path) -> None:
    data = read(make_tar(tmp_path / "own.tar", {**samples(range(3)), "0009.png": encoded(pixels(9))}))
    assert len(data) == 3 and "1 of 4" in data.notes[0] and "0009.png" in data.notes[0]


def test_names_of_samples_with_dots(tmp_path: Path) -> None:
    files = {}
    for row in range(3):
        files |= {f"img.v1.{row}.png": encoded(pixels(row)), f"img.v1.{row}.cls": str(row % 2).encode()}
    assert seen(read(make_tar(tmp_path / "a.tar", files))) == ([0, 1, 2], [0, 1, 0], ("0", "1"))
    files |= samples(range(3, 5)) | {"0003.seg.png": encoded(pixels(9)), "0009.seg.png": encoded(pixels(9))}
    data = read(make_tar(tmp_path / "b.tar", files))
    assert seen(data) == ([0, 1, 2, 3, 4], [0, 1, 0, *LABELS[3:5]], ("0", "1"))
    assert len(data.notes) == 2 and "seg.png" in data.notes[1] and data.notes[0].endswith(": 0009")


def test_shards_of_img2dataset(tmp_path: Path) -> None:
    for shard in (0, 1):
        files: dict[str, bytes] = {}
        for row in range(2 * shard, 2 * shard + 2):
            name = f"{row:09}"
            files |= {f"{name}.jpg": encoded(pixels(row), "JPEG"), f"{name}.json": b'{"caption": "a cat", "url": "x"}'}
            files |= {f"{name}.txt": b"a cat"}
        make_tar(tmp_path / f"0000{shard}.tar", files)
        (tmp_path / f"0000{shard}_stats.json").write_text("{}")
        (tmp_path / f"0000{shard}.parquet").write_bytes(b"PAR1")
    data = read(tmp_path, label_column="none")
    assert len(data) == 4 and data.labels is None and data.file_names[2] == "00001.tar/000000002.jpg"
