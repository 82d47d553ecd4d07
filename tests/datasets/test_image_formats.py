"""Every image format becomes 8-bit grey or colour, upright, on white and in its range, or is refused clearly."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli.config import RunConfig
from softvq_cli.errors import InputError, UsageError
from tests.helpers import encoded, grey_files, notes, pixels, read, scaled, write_folder

GREY, COLOUR, ALPHA = pixels(0), pixels(1, (6, 5, 3)), pixels(2)
RANDOM = np.random.default_rng(0)
CAMERA = RANDOM.integers(0, 4096, (10, 6, 5)).astype(np.uint16)
CAMERA[3, 0, :2] = (0, 4095)
"""Twelve bits in files of sixteen."""
CAMERA_COLOUR = RANDOM.integers(0, 4096, (6, 5, 3), dtype=np.uint16)
DEEP_ALPHA = RANDOM.integers(0, 65536, (6, 5, 2), dtype=np.uint16)


def on_white(image: np.ndarray, alpha: np.ndarray, most: float = 255.0) -> np.ndarray:
    """Compositing in float64."""
    share = alpha.reshape(*alpha.shape, *[1] * (image.ndim - 2)) / most
    return image * share + most * (1.0 - share)


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per sample, uint16 (H, W, 2, 3 or 4), which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, samples = values.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[samples], 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bmp_with_alpha(colour: np.ndarray, alpha: np.ndarray) -> bytes:
    rows = np.dstack([colour[::-1, :, ::-1], alpha[::-1]]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, colour.shape[1], colour.shape[0], 1, 32, 3, len(rows), 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(108 - 56)
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + header + rows


FRAMES = [Image.fromarray(pixels(seed)) for seed in range(3)]
READ = {
    "grey PNG": (encoded(GREY), GREY),
    "grey GIF, a palette of greys": (encoded(GREY, "GIF"), GREY),
    "grey palette PNG": (encoded(Image.fromarray(GREY).convert("P")), GREY),
    "black and white": (encoded(Image.fromarray(GREY > 127)), np.where(GREY > 127, 255, 0)),
    "16-bit PNG": (encoded(GREY.astype(np.uint16) * 257), GREY),
    "16-bit TIFF": (encoded(GREY.astype(np.uint16) * 257, "TIFF"), GREY),
    "16-bit PGM": (b"P5 5 6 65535\n" + (GREY.astype(">u2") * 257).astype(">u2").tobytes(), GREY),
    "colour PNG": (encoded(COLOUR), COLOUR),
    "colour BMP": (encoded(COLOUR, "BMP"), COLOUR),
    "colour PPM": (encoded(COLOUR, "PPM"), COLOUR),
    "colour TIFF": (encoded(COLOUR, "TIFF"), COLOUR),
    "colour palette": (
        encoded(Image.fromarray(COLOUR).quantize(30)),
        np.asarray(Image.fromarray(COLOUR).quantize(30).convert("RGB")),
    ),
    "CMYK TIFF": (
        encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"),
        np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")),
    ),
    "an animation": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), GREY),
    "colour with alpha": (encoded(np.dstack([COLOUR, ALPHA])), on_white(COLOUR, ALPHA)),
    "grey with alpha": (encoded(np.dstack([GREY, ALPHA])), on_white(GREY, ALPHA)),
    "a transparent grey": (encoded(GREY, transparency=int(GREY[2, 2])), np.where(GREY[2, 2] == GREY, 255, GREY)),
}


@pytest.mark.parametrize("kind", READ)
def test_the_pixels_of_every_lossless_kind(tmp_path: Path, kind: str) -> None:
    data, expected = READ[kind]
    image = read(write_folder(tmp_path, {"a.png": data}), pixel_range="full").images[0]
    rounding = 1.0 if expected.dtype.kind == "f" else 0.0
    assert np.abs(image.astype(float) - expected.reshape(image.shape)).max() <= rounding


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_kinds_are_read(tmp_path: Path, kind: str) -> None:
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10)), -1).astype(np.uint8)
    smooth = np.dstack([smooth, np.full_like(smooth[..., :1], 90)])
    result = read(write_folder(tmp_path, {"a.png": encoded(smooth, kind, quality=95)})).images[0]
    assert np.abs(result.astype(int) - smooth).mean() < 6


OPAQUE = np.full((6, 5, 1), 65535, np.uint16)
SIXTEEN = {
    "colour": (CAMERA_COLOUR, CAMERA_COLOUR),
    "colour with alpha": (np.dstack([CAMERA_COLOUR, OPAQUE]), CAMERA_COLOUR),
    "grey with alpha": (DEEP_ALPHA, np.rint(on_white(DEEP_ALPHA[..., 0], DEEP_ALPHA[..., 1], 65535))),
}


@pytest.mark.parametrize("kind", SIXTEEN)
def test_sixteen_bits_per_sample_in_a_png(tmp_path: Path, kind: str) -> None:
    """Pillow returns only the upper eight bits of colour, in which twelve-bit colour has 16 levels."""
    stored, values = SIXTEEN[kind]
    write_folder(tmp_path, {"a.png": png16(stored)})
    assert np.array_equal(read(tmp_path).images[0].squeeze(), scaled(values))
    full = read(tmp_path, pixel_range="full")
    upper = values >> 8 if values.ndim == 3 else scaled(values, 0, 65535)
    assert np.array_equal(full.images[0].squeeze(), upper)
    assert any(note.startswith("1 of 1 images") and "16" in note for note in full.notes) == (values.ndim == 3)


@pytest.mark.parametrize("visible", [0, 1, 30])
def test_a_bmp_with_an_alpha_of_zeros_is_opaque(tmp_path: Path, visible: int) -> None:
    colour, alpha = pixels(1, (16, 12, 3)), np.zeros((16, 12), np.uint8)
    alpha.reshape(-1)[:visible] = 255
    data = read(write_folder(tmp_path, {"a.bmp": bmp_with_alpha(colour, alpha)}))
    expected = colour if visible < 30 else on_white(colour, alpha)
    assert np.array_equal(data.images[0], expected)
    assert any("1 of 1" in note and "alpha" in note for note in data.notes) == (visible < 30)


def test_the_pages_of_a_tiff(tmp_path: Path) -> None:
    tiff = encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:])
    write_folder(tmp_path, grey_files(["ant/1.png", "bee/1.png"]) | {"ant/2.tif": tiff})
    first, every = read(tmp_path), read(tmp_path, pages="all")
    assert len(first) == 3 and len(notes(first)) == 1 and "pages all" in notes(first)[0]
    assert every.file_names == ("ant/1.png", "ant/2.tif#1", "ant/2.tif#2", "ant/2.tif#3", "bee/1.png")
    assert every.labels.tolist() == [0, 0, 0, 0, 1]
    assert np.array_equal(every.images[1:4, ..., 0], np.stack([pixels(seed) for seed in range(3)]))


REFUSED = {
    "floating point": encoded(GREY.astype(np.float32), "TIFF"),
    "32 bits": encoded(GREY.astype(np.int32) * 100_000, "TIFF"),
    "text": b"an image",
    "nothing": b"",
    "PostScript, which is a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n",
    "cut": encoded(COLOUR)[:-30],
    "a bomb": encoded(Image.new("1", (10_000, 9_000))),
    "a larger bomb": encoded(Image.new("1", (20_000, 10_000))),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"a\.png") as error:
        read(write_folder(tmp_path, {"a.png": REFUSED[kind]}), pixel_range="full")
    assert ("pixel_range" in str(error.value)) == (kind in ("floating point", "32 bits"))


# ---- the values that become black and white


def png_folder(root: Path, images: np.ndarray) -> Path:
    return write_folder(root, {f"{number}.png": encoded(image) for number, image in enumerate(images)})


def test_the_range_of_the_training_split_becomes_black_to_white(tmp_path: Path) -> None:
    bright = CAMERA[:4] // 2
    png_folder(tmp_path / "train", bright)
    png_folder(tmp_path / "test", CAMERA)
    train, test = (read(tmp_path, split) for split in ("train", "test"))
    low, high = int(bright.min()), int(bright.max())
    assert train.pixel_range == test.pixel_range == f"{low},{high}"
    assert np.array_equal(train.images[..., 0], scaled(bright)) and len(np.unique(train.images)) > 100
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
    images = CAMERA * np.arange(1, 11, dtype=np.uint16)[:, None, None]
    path = png_folder(tmp_path, images)
    for seed in range(4):
        train = read(path, "train", split_seed=seed)
        values = images[[int(Path(name).stem) for name in train.file_names]]
        assert train.pixel_range == f"{values.min()},{values.max()}"
        assert np.array_equal(train.images[..., 0], scaled(values))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.int32, np.uint32, np.int64])
def test_arrays_of_any_type_and_range(tmp_path: Path, kind: type) -> None:
    values = (CAMERA.astype(np.float64) / 4 - 300).astype(kind) if np.dtype(kind).kind != "u" else CAMERA.astype(kind)
    np.savez(tmp_path / "a.npz", images=values)
    data, train = read(tmp_path / "a.npz"), read(tmp_path / "a.npz", "train")
    assert np.array_equal(data.images[..., 0], scaled(values, *map(float, data.pixel_range.split(","))))
    assert (train.images.min(), train.images.max()) == (0, 255)


@pytest.mark.parametrize("most", [1, 16])
def test_bytes_that_are_as_good_as_black_are_said_to_be(tmp_path: Path, most: int) -> None:
    np.savez(tmp_path / "a.npz", images=np.minimum(CAMERA, most).astype(np.uint8))
    (note,) = notes(read(tmp_path / "a.npz"))
    assert note.endswith(f"pixel_range 0,{most}")
    assert read(tmp_path / "a.npz", pixel_range=f"0,{most}").images.max() == 255


def test_eight_bits_and_more_are_read_by_their_types_or_refused(tmp_path: Path) -> None:
    deep = pixels(1).astype(np.uint16) * 257
    data = read(write_folder(tmp_path, {"a.png": encoded(pixels(0)), "b.png": encoded(deep)}))
    assert np.array_equal(data.images[..., 0], np.stack([pixels(0), pixels(1)]))
    assert "pixel_range" in data.notes[0] and data.pixel_range is None
    write_folder(tmp_path, {"b.png": encoded(CAMERA[0])})  # of twelve bits, which would be nearly black
    with pytest.raises(InputError, match="pixel_range") as error:
        read(tmp_path)
    assert str(CAMERA[0].max()) in str(error.value)
    full = read(tmp_path, pixel_range="full")
    assert np.array_equal(full.images[:, ..., 0], [pixels(0), np.rint(CAMERA[0] / 257)])


@pytest.mark.parametrize("deep, mentioned", [(0, 0), (2, 8), (9, 1)])
def test_twelve_bits_next_to_sixteen_are_mentioned(tmp_path: Path, deep: int, mentioned: int) -> None:
    images = CAMERA.copy()
    images[-deep or 10 :] *= 16
    png_folder(tmp_path / "train", images)
    png_folder(tmp_path / "test", images[:1])
    note = read(tmp_path).notes[0]
    assert (f"{mentioned} of 10" in note and "pixel_range" in note) == (mentioned > 1)


@pytest.mark.parametrize("text", ["dim", "1", "5,1", "1,1", "0,nan", "0,1,2", ",", "inf,1"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="pixel_range"):
        RunConfig.from_flat({"pixel_range": text})


def test_masks_and_dark_images_have_a_range_of_their_own(tmp_path: Path) -> None:
    mask = np.zeros((4, 60, 50), np.int32)
    mask[:, 5:20] = 7
    np.save(tmp_path / "mask.npy", mask)
    assert set(np.unique(read(tmp_path / "mask.npy").images)) == {0, 255}
    np.save(tmp_path / "even.npy", np.full((4, 60, 50), 3.5))
    assert read(tmp_path / "even.npy").pixel_range == "3.5,4.5"
