"""Images with more than 8 bits, floats and TIFF: the values that become black and white, and the stored range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli.config import RunConfig
from softvq_cli.errors import UsageError
from tests.helpers import encoded, grey_files, notes, pixels, read, unusable, write_folder

CAMERA = np.random.default_rng(0).integers(0, 4096, (10, 6, 5)).astype(np.uint16)
CAMERA[3, 0, :2] = (0, 4095)
"""Twelve bits in files of sixteen."""


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def png_folder(root: Path, images: np.ndarray, names: str = "{}.png") -> Path:
    return write_folder(root, {names.format(number): encoded(image) for number, image in enumerate(images)})


def test_the_range_of_the_training_split_becomes_black_to_white(tmp_path: Path) -> None:
    bright = CAMERA[:4] // 2
    files = {f"train/{i}.png": encoded(image) for i, image in enumerate(bright)}
    files |= {f"test/{i}.png": encoded(image) for i, image in enumerate(CAMERA)}
    train, test = (read(write_folder(tmp_path, files), split) for split in ("train", "test"))
    low, high = int(bright.min()), int(bright.max())
    assert train.pixel_range == test.pixel_range == f"{low},{high}"
    assert np.array_equal(train.images[..., 0], scaled(bright, low, high)) and len(np.unique(train.images)) > 100
    assert np.array_equal(test.images[..., 0], scaled(CAMERA, low, high))
    assert f"{low} to {high}" in train.notes[0]
    assert train.notes[1].startswith(f"{int((CAMERA.reshape(10, -1).max(1) > high).sum())} of 14 images")


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_full_and_given_ranges(tmp_path: Path, kind: str) -> None:
    if kind == "npz":
        np.savez(tmp_path / "a.npz", images=CAMERA)
    path = tmp_path / "a.npz" if kind == "npz" else png_folder(tmp_path / "a", CAMERA)
    assert np.array_equal(read(path, pixel_range="full").images[..., 0], np.rint(CAMERA / 257).astype(np.uint8))
    given = read(path, pixel_range="100,3000")
    assert np.array_equal(given.images[..., 0], scaled(CAMERA, 100, 3000)) and given.pixel_range == "100,3000"
    assert len(given.notes) == 2 and any("100 to 3000" in note for note in given.notes)


def test_the_range_follows_the_split_that_is_drawn(tmp_path: Path) -> None:
    path = png_folder(tmp_path, CAMERA * np.arange(1, 11, dtype=np.uint16)[:, None, None])
    for seed in range(4):
        train = read(path, "train", split_seed=seed)
        rows = [int(Path(name).stem) for name in train.file_names]
        values = (CAMERA * np.arange(1, 11, dtype=np.uint16)[:, None, None])[rows]
        assert train.pixel_range == f"{values.min()},{values.max()}"
        assert np.array_equal(train.images[..., 0], scaled(values, values.min(), values.max()))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.int32, np.uint32, np.int64])
def test_arrays_of_any_type_and_range(tmp_path: Path, kind: type) -> None:
    values = (CAMERA.astype(np.float64) / 4 - 300).astype(kind) if np.dtype(kind).kind != "u" else CAMERA.astype(kind)
    np.savez(tmp_path / "a.npz", images=values)
    data = read(tmp_path / "a.npz")
    train = read(tmp_path / "a.npz", "train")
    low, high = (float(text) for text in data.pixel_range.split(","))
    assert np.array_equal(data.images[..., 0], scaled(values, low, high))
    assert (train.images.min(), train.images.max()) == (0, 255)


@pytest.mark.parametrize("most", [1, 16])
def test_bytes_that_are_as_good_as_black_are_said_to_be(tmp_path: Path, most: int) -> None:
    np.savez(tmp_path / "a.npz", images=np.minimum(CAMERA, most).astype(np.uint8))
    (note,) = notes(read(tmp_path / "a.npz"))
    assert note.endswith(f"pixel_range 0,{most}")
    assert read(tmp_path / "a.npz", pixel_range=f"0,{most}").images.max() == 255


def test_eight_and_sixteen_bits_together_are_read_by_their_types(tmp_path: Path) -> None:
    data = read(
        write_folder(tmp_path, {"a.png": encoded(pixels(0)), "b.png": encoded(pixels(1).astype(np.uint16) * 257)})
    )
    assert np.array_equal(data.images[..., 0], np.stack([pixels(0), pixels(1)]))
    assert "pixel_range" in data.notes[0] and data.pixel_range is None


@pytest.mark.parametrize("text", ["dim", "1", "5,1", "1,1", "0,nan", "0,1,2", ",", "inf,1"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="pixel_range"):
        RunConfig.from_flat({"pixel_range": text})


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_of_sixteen_bits_in_a_png(tmp_path: Path, mode: str) -> None:
    """Pillow returns only the upper eight bits, in which twelve-bit colour has 16 levels."""
    import struct
    import zlib

    colour = np.random.default_rng(1).integers(0, 4096, (6, 5, len(mode)), dtype=np.uint16)
    colour[..., 3:] = 65535

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    header = struct.pack(">IIBBBBB", 5, 6, 16, 2 if mode == "RGB" else 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    write_folder(tmp_path, {"a.png": png})
    colour = colour[..., :3]
    assert np.array_equal(read(tmp_path).images[0], scaled(colour, colour.min(), colour.max()))
    full = read(tmp_path, pixel_range="full")
    assert np.array_equal(full.images[0], (colour >> 8).astype(np.uint8))
    assert any(note.startswith("1 of 1 images") and "16" in note for note in full.notes)


# ---- TIFF, as another program writes it


@pytest.fixture
def tifffile() -> object:
    return pytest.importorskip("tifffile")


GREY = CAMERA[0]
UNIT = (GREY / 5000).astype(np.float32)
TIFFS = {
    "16 bits": (GREY, {}, GREY),
    "16 bits, white is zero": (GREY, {"photometric": "miniswhite"}, 65535 - GREY.astype(int)),
    "signed 16 bits": (GREY.astype(np.int16) - 2000, {}, GREY.astype(int) - 2000),
    "32 bits": (GREY.astype(np.uint32) * 1_000_000, {}, GREY.astype(np.int64) * 1_000_000),
    "signed 32 bits": (GREY.astype(np.int32) * 500_000 - 9, {}, GREY.astype(np.int64) * 500_000 - 9),
    "floats": (UNIT * 7 - 3, {}, (UNIT * 7 - 3).astype(np.float64)),
    "doubles": (GREY / 7.0, {}, GREY / 7.0),
    "signed 8 bits": (
        (GREY // 20).astype(np.int8) - 100,
        {"photometric": "minisblack"},
        (GREY // 20).astype(np.int8) - 100,
    ),
    "colour": (CAMERA[:3].transpose(1, 2, 0), {"photometric": "rgb"}, CAMERA[:3].transpose(1, 2, 0)),
    "colour in planes": (
        CAMERA[:3],
        {"photometric": "rgb", "planarconfig": "separate"},
        CAMERA[:3].transpose(1, 2, 0),
    ),
}


@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TIFFS)
def test_the_numbers_in_a_tiff(tmp_path: Path, tifffile: object, kind: str, order: str, packed: str | None) -> None:
    array, options, expected = TIFFS[kind]
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=order, compression=packed, **options)  # type: ignore[attr-defined]
    data = read(tmp_path)
    low, high = float(expected.min()), float(expected.max())
    assert np.abs(data.images[0].reshape(expected.shape).astype(int) - scaled(expected, low, high)).max() <= 1
    assert [float(text) for text in data.pixel_range.split(",")] == pytest.approx([low, high])


REFUSED = {
    "CIELab": (pixels(0, (6, 5, 3)), {"photometric": "cielab"}, "CIELab"),
    "two bands": (
        pixels(0, (6, 5, 2)),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unspecified"]},
        "2 bands",
    ),
    "five bands": (
        pixels(0, (6, 5, 5)),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "5 bands",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tiff_that_is_neither_grey_nor_colour_is_said_to_be_so(tmp_path: Path, tifffile: object, kind: str) -> None:
    array, options, message = REFUSED[kind]
    tifffile.imwrite(tmp_path / "a.tif", array, **options)  # type: ignore[attr-defined]
    unusable(tmp_path, "a.tif ", message)


def test_pages(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    files = grey_files(["ant/1.png", "bee/1.png"]) | {
        "ant/2.tif": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    }
    write_folder(tmp_path, files)
    first, every = read(tmp_path), read(tmp_path, pages="all")
    assert len(first) == 3 and len(notes(first)) == 1 and "pages all" in notes(first)[0]
    assert every.file_names == ("ant/1.png", "ant/2.tif#1", "ant/2.tif#2", "ant/2.tif#3", "bee/1.png")
    assert every.labels.tolist() == [0, 0, 0, 0, 1]
    assert np.array_equal(every.images[1:4, ..., 0], np.stack([pixels(seed) for seed in range(3)]))
