"""Files whose pixels are often misread: orientation, outliers, missing data, RAW, alpha, pages without an image."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from softvq_cli.errors import InputError
from tests.helpers import dicom, encoded, pixels, read, unusable, write_folder

tifffile: Any = pytest.importorskip("tifffile")
DEEP = np.random.default_rng(0).integers(0, 65536, (6, 5, 3)).astype(np.uint16)
HEIGHTS = np.random.default_rng(1).normal(300, 40, (60, 50)).astype(np.float32)
"""Metres above the sea."""


def tiff(path: Path, values: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, **{"photometric": "rgb" if values.ndim == 3 else "minisblack"} | options)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


TURNED = {
    "8 bits": (DEEP >> 8).astype(np.uint8),
    "colour of 16 bits": DEEP,
    "grey of 16 bits": DEEP[..., 0],
    "floats": (DEEP[..., 0] / 65535).astype(np.float32),
    "doubles": DEEP[..., 0] / 65535,
}


@pytest.mark.parametrize("kind", TURNED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(tmp_path: Path, orientation: int, kind: str) -> None:
    tiff(tmp_path / "plain" / "a.tif", TURNED[kind])
    tiff(tmp_path / "turned" / "a.tif", TURNED[kind], extratags=[(274, "H", 1, orientation, True)])
    for setting in ("auto", "full", "0,1" if TURNED[kind].dtype.kind == "f" else "0,65535"):
        plain, turned = (read(tmp_path / name, pixel_range=setting) for name in ("plain", "turned"))
        image = Image.fromarray(plain.images[0].squeeze())
        image.getexif()[0x0112] = orientation
        assert np.array_equal(turned.images[0].squeeze(), np.asarray(ImageOps.exif_transpose(image)))
        assert any("EXIF" in note for note in turned.notes) == (orientation > 1)


# ---- the range


@pytest.mark.parametrize("nodata", ["-9999", "nan"])
def test_pixels_without_data_are_black_and_have_no_part_in_the_range(tmp_path: Path, nodata: str) -> None:
    values = HEIGHTS.copy()
    values[:10] = float(nodata)
    tiff(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, nodata, True)])
    low, high = float(values[10:].min()), float(values[10:].max())
    data = read(tmp_path)
    assert [float(text) for text in data.pixel_range.split(",")] == pytest.approx([low, high])
    assert np.array_equal(data.images[0, 10:, :, 0], scaled(values[10:], low, high))
    assert not data.images[0, :10].any() and any("1 of 1" in note for note in data.notes)


OUTLIERS = {"no data without its tag": -9999.0, "a hot pixel": 65535.0}


@pytest.mark.parametrize("kind", OUTLIERS)
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_range_that_few_pixels_decide_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    values = HEIGHTS.copy()
    values[3, 4] = OUTLIERS[kind]
    path = tmp_path / "a" / f"a{suffix}"
    tiff(path, values)
    if suffix == ".npy":
        np.save(path, values[None])
    path = path if suffix == ".npy" else path.parent
    with pytest.raises(InputError, match="pixel_range") as error:
        read(path)
    given = re.findall(r"-?[\d.]+(?:e[+-]\d+)?,-?[\d.]+(?:e[+-]\d+)?", str(error.value))[-1]
    low, high = map(float, given.split(","))
    assert low < HEIGHTS.min() + 200 and high > HEIGHTS.max() - 200 and high - low < 1600
    assert len(np.unique(read(path, pixel_range=given).images)) > 40


def test_masks_and_dark_images_have_a_range_of_their_own(tmp_path: Path) -> None:
    mask = np.zeros((4, 60, 50), np.int32)
    mask[:, 5:20] = 7
    np.save(tmp_path / "mask.npy", mask)
    assert set(np.unique(read(tmp_path / "mask.npy").images)) == {0, 255}
    np.save(tmp_path / "even.npy", np.full((4, 60, 50), 3.5))
    assert read(tmp_path / "even.npy").pixel_range == "3.5,4.5"


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_nan_is_refused_until_a_range_is_given(tmp_path: Path, suffix: str) -> None:
    values = HEIGHTS.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    path = tmp_path / "a" / f"a{suffix}"
    tiff(path, values)
    if suffix == ".npy":
        np.save(path, values[None])
    path = path if suffix == ".npy" else path.parent
    for setting in ("auto", "full"):
        unusable(path, "pixel_range LOW,HIGH", pixel_range=setting)
    data = read(path, pixel_range="200,400")
    assert data.images[0, 0, :3, 0].tolist() == [0, 255, 0] and any("NaN" in note for note in data.notes)
    assert np.array_equal(data.images[0, 1:, :, 0], scaled(values[1:], 200, 400))


def test_twelve_bits_next_to_eight_are_refused(tmp_path: Path) -> None:
    camera = (DEEP[..., 0] >> 4).astype(np.uint16)
    write_folder(tmp_path, {"a.png": encoded(pixels(0)), "b.png": encoded(camera)})
    with pytest.raises(InputError, match="pixel_range") as error:
        read(tmp_path)
    assert str(camera.max()) in str(error.value)
    full = read(tmp_path, pixel_range="full")
    assert np.array_equal(full.images[:, ..., 0], [pixels(0), np.rint(camera / 257)])


def test_dicom_windows_that_differ_are_said(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    values = (DEEP[..., 0] >> 4).astype(np.uint16)
    files = {f"{n}.dcm": dicom(values, WindowCenter=str(n), WindowWidth="2000") for n in (1000, 2000)}
    data = read(write_folder(tmp_path / "two", files))
    (note,) = [note for note in data.notes if "pixel_range" in note]
    assert note.startswith("2 ") and not np.array_equal(*data.images)
    one = read(tmp_path / "two", pixel_range="0,4095")
    assert np.array_equal(*one.images) and not any("window" in note for note in one.notes)
    same = {name: dicom(values, WindowCenter="1000", WindowWidth="2000") for name in ("a.dcm", "b.dcm")}
    assert not any("pixel_range" in note for note in read(write_folder(tmp_path / "one", same)).notes)


# ---- what is no image, or another one


def dng(path: Path) -> None:
    """A thumbnail in the first directory, the sensor's values in a subdirectory."""
    with tifffile.TiffWriter(path) as file:
        file.write(pixels(0, (6, 5, 3)), photometric="rgb", subfiletype=1, subifds=1)
        file.write(DEEP[..., 0], photometric="cfa", extratags=[(33421, "H", 2, (2, 2), True)])


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.tif"])
def test_a_cameras_raw_file_is_refused(tmp_path: Path, name: str) -> None:
    dng(tmp_path / name)
    unusable(tmp_path, name, "RAW")


@pytest.mark.parametrize("setting", ["auto", "full"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_grey_of_sixteen_bits_with_alpha(tmp_path: Path, kind: str, setting: str) -> None:
    values = DEEP[..., :2].copy()
    if kind == "tif":
        tiff(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    else:
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 16, 4, 0, 0, 0))]
        chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)))]
        content = b"".join(
            struct.pack(">I", len(data)) + mark + data + struct.pack(">I", zlib.crc32(mark + data))
            for mark, data in (*chunks, (b"IEND", b""))
        )
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    share = values[..., 1] / 65535
    on_white = np.rint(values[..., 0] * share + 65535 * (1 - share))
    limits = (on_white.min(), on_white.max()) if setting == "auto" else (0, 65535)
    assert np.array_equal(read(tmp_path, pixel_range=setting).images[0, ..., 0], scaled(on_white, *limits))


def test_a_bmp_with_an_alpha_of_zeros_is_opaque(tmp_path: Path) -> None:
    colour = pixels(0, (6, 5, 3))
    alpha = np.zeros((6, 5, 1), np.uint8)
    rows = np.concatenate([colour[::-1, :, ::-1], alpha], axis=2).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 5, 6, 1, 32, 3, len(rows), 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(108 - 56)
    content = b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + header + rows
    (tmp_path / "a.bmp").write_bytes(content)
    data = read(tmp_path)
    assert np.array_equal(data.images[0], colour) and any("1 of 1" in note and "alpha" in note for note in data.notes)


def test_the_overviews_of_a_tiff_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in range(2):
            file.write(pixels(page, (8, 8)), photometric="minisblack", metadata=None)
            file.write(pixels(page, (8, 8))[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    data = read(tmp_path, pages="all")
    assert data.file_names == ("a.tif#1", "a.tif#2") and any("copies" in note for note in data.notes)
    assert np.array_equal(data.images[..., 0], [pixels(0, (8, 8)), pixels(1, (8, 8))])


def test_heic_is_read_upright(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    colour = np.full((64, 48, 3), (200, 40, 40), np.uint8)
    colour[:, 24:] = (20, 30, 220)
    image = Image.fromarray(colour)
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "a.heic", "HEIF", quality=95, exif=image.getexif().tobytes())
    assert np.abs(read(tmp_path).images[0].astype(int) - np.rot90(colour, -1)).mean() < 8
