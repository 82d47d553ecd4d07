"""TIFF by tifffile, DICOM by pydicom, HEIC and RAW: numbers, orientation, missing data, outliers, pages and windows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from softvq_cli.errors import InputError
from tests.helpers import dicom, notes, pixels, read, scaled, unusable, write_folder

tifffile: Any = pytest.importorskip("tifffile")
pytest.importorskip("pydicom")

DEEP = np.random.default_rng(0).integers(0, 65536, (6, 5, 3)).astype(np.uint16)
GREY = DEEP[..., 0] >> 4
UNIT = (GREY / 5000).astype(np.float32)
HEIGHTS = np.random.default_rng(1).normal(300, 40, (60, 50)).astype(np.float32)
"""Metres above the sea."""


def tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, **{"photometric": "rgb" if values.ndim == 3 else "minisblack"} | options)
    return path


BANDS = {"photometric": "minisblack", "planarconfig": "contig"}
SHARE = DEEP[..., 1] / 65535
TIFFS = {
    "16 bits": (GREY, {}, GREY),
    "16 bits, white is zero": (GREY, {"photometric": "miniswhite"}, 65535 - GREY.astype(int)),
    "signed 16 bits": (GREY.astype(np.int16) - 2000, {}, GREY.astype(int) - 2000),
    "32 bits": (GREY.astype(np.uint32) * 1_000_000, {}, GREY.astype(np.int64) * 1_000_000),
    "signed 32 bits": (GREY.astype(np.int32) * 500_000 - 9, {}, GREY.astype(np.int64) * 500_000 - 9),
    "floats": (UNIT * 7 - 3, {}, (UNIT * 7 - 3).astype(np.float64)),
    "doubles": (GREY / 7.0, {}, GREY / 7.0),
    "signed 8 bits": ((GREY // 20).astype(np.int8) - 100, {}, (GREY // 20).astype(np.int8) - 100),
    "colour": (DEEP >> 4, {}, DEEP >> 4),
    "colour in planes": ((DEEP >> 4).transpose(2, 0, 1), {"planarconfig": "separate"}, DEEP >> 4),
    "grey with alpha": (
        DEEP[..., :2],
        BANDS | {"extrasamples": ["unassalpha"]},
        np.rint(DEEP[..., 0] * SHARE + 65535 * (1 - SHARE)),
    ),
}


@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TIFFS)
def test_the_numbers_in_a_tiff(tmp_path: Path, kind: str, order: str, packed: str | None) -> None:
    array, options, expected = TIFFS[kind]
    tiff(tmp_path / "a.tif", array, byteorder=order, compression=packed, **options)
    data = read(tmp_path)
    assert np.abs(data.images[0].reshape(expected.shape).astype(int) - scaled(expected)).max() <= 1
    limits = float(expected.min()), float(expected.max())
    assert [float(text) for text in data.pixel_range.split(",")] == pytest.approx(limits)
    if kind in ("16 bits", "grey with alpha"):
        full = read(tmp_path, pixel_range="full").images[0, ..., 0]
        assert np.array_equal(full, scaled(expected, 0, 65535))


REFUSED = {
    "CIELab": (pixels(0, (6, 5, 3)), {"photometric": "cielab"}),
    "2 bands": (pixels(0, (6, 5, 2)), BANDS | {"extrasamples": ["unspecified"]}),
    "5 bands": (pixels(0, (6, 5, 5)), BANDS),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tiff_that_is_neither_grey_nor_colour_is_said_to_be_so(tmp_path: Path, kind: str) -> None:
    array, options = REFUSED[kind]
    unusable(tiff(tmp_path / "a.tif", array, **options).parent, "a.tif ", kind)


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


@pytest.mark.parametrize("nodata", ["-9999", "nan"])
def test_pixels_without_data_are_black_and_have_no_part_in_the_range(tmp_path: Path, nodata: str) -> None:
    values = HEIGHTS.copy()
    values[:10] = float(nodata)
    data = read(tiff(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, nodata, True)]).parent)
    limits = float(values[10:].min()), float(values[10:].max())
    assert [float(text) for text in data.pixel_range.split(",")] == pytest.approx(limits)
    assert np.array_equal(data.images[0, 10:, :, 0], scaled(values[10:]))
    assert not data.images[0, :10].any() and any("1 of 1" in note for note in data.notes)


BYTES, SHORT = (DEEP >> 8).astype(np.uint8), DEEP[..., 0]
BYTES[0, :3], BYTES[1, :2, 0] = 200, 9
LOWEST = np.where(GREY < 1000, np.finfo(np.float32).min, UNIT)
WHITE = {"photometric": "miniswhite"}
TAGS: dict[str, tuple[np.ndarray, str, dict[str, Any], str, np.ndarray]] = {
    "bytes": (BYTES[..., 0], "9", {}, "auto", BYTES[..., 0] == 9),
    "bytes, white is zero": (BYTES[..., 0], "9", WHITE, "auto", BYTES[..., 0] == 9),
    "colour": (BYTES, "200", {}, "auto", (BYTES == 200).all(axis=2)),
    "white is zero": (SHORT, str(SHORT[1, 1]), WHITE, "0,65535", np.equal(SHORT, SHORT[1, 1])),
    "a rounded float32": (LOWEST, "-3.40282e+38", {}, "-1,1", LOWEST < 0),
    "outside the type": (SHORT, "-9999", {}, "full", np.zeros((6, 5), bool)),
    "a fraction": (GREY.astype(np.int16), f"{GREY[1, 1]}.5", {}, "auto", np.zeros((6, 5), bool)),
}


@pytest.mark.parametrize("case", TAGS)
def test_only_pixels_of_the_tagged_value_have_no_data(tmp_path: Path, case: str) -> None:
    values, nodata, options, limits, missing = TAGS[case]
    expected = read(tiff(tmp_path / "a" / "a.tif", values, **options).parent, pixel_range=limits).images[0].copy()
    expected[missing] = 0
    path = tiff(tmp_path / "b" / "b.tif", values, extratags=[(42113, "s", 0, nodata, True)], **options)
    data = read(path.parent, pixel_range=limits)
    assert np.array_equal(data.images[0], expected)
    assert any("missing" in note for note in data.notes) == missing.any()


def saved(folder: Path, suffix: str, values: np.ndarray) -> Path:
    """The same numbers as a folder of a TIFF, or as an array."""
    if suffix == ".tif":
        return tiff(folder / "a" / "a.tif", values).parent
    np.save(folder / "a.npy", values[None])
    return folder / "a.npy"


@pytest.mark.parametrize("outlier", [-9999.0, 65535.0])  # no data without its tag, a hot pixel
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_range_that_few_pixels_decide_is_refused(tmp_path: Path, outlier: float, suffix: str) -> None:
    values = HEIGHTS.copy()
    values[3, 4] = outlier
    path = saved(tmp_path, suffix, values)
    with pytest.raises(InputError, match="pixel_range") as error:
        read(path)
    given = re.findall(r"-?[\d.]+(?:e[+-]\d+)?,-?[\d.]+(?:e[+-]\d+)?", str(error.value))[-1]
    low, high = map(float, given.split(","))
    assert low < HEIGHTS.min() + 200 and high > HEIGHTS.max() - 200 and high - low < 1600
    assert len(np.unique(read(path, pixel_range=given).images)) > 40


FEW = np.random.default_rng(2).random((60, 50))
OUTLIERS: dict[str, tuple[np.ndarray, float, float]] = {
    "5 % without data": (HEIGHTS, 0.05, -9999),
    "30 % without data": (HEIGHTS, 0.3, -9999),
    "30 % without data, whole numbers": (HEIGHTS.astype(np.int16), 0.3, -9999),
    "the smallest float32": (HEIGHTS, 0.2, np.finfo(np.float32).min),
    "white padding": (HEIGHTS.astype(np.uint16), 0.2, 65535),
    "black padding": (HEIGHTS.astype(np.uint16) + np.uint16(60000), 0.2, 0),
    "hot pixels": (HEIGHTS.astype(np.uint16), 0.004, 60000),
    "tiny numbers": (HEIGHTS * np.float32(1e-7), 0.1, -9999),
    "classes": ((FEW * 8).astype(np.int32), 0.1, 65535),
}


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("case", OUTLIERS)
def test_a_range_that_leaves_few_levels_is_refused(tmp_path: Path, case: str, suffix: str) -> None:
    bulk, share, outlier = OUTLIERS[case]
    path = saved(tmp_path, suffix, np.where(share > FEW[::-1], bulk.dtype.type(outlier), bulk))
    with pytest.raises(InputError, match="pixel_range") as error:
        read(path)
    given = re.findall(r"-?[\d.]+(?:e[+-]\d+)?,-?[\d.]+(?:e[+-]\d+)?", str(error.value))[-1]
    levels = np.unique(read(path, pixel_range=given).images)
    assert len(levels) == 8 if case == "classes" else len(levels) > 100


READABLE = {
    "fractions, black and white": np.where(FEW > 0.3, 1, 0).astype(np.float32),
    "almost black and white": np.where(FEW > 0.3, np.float32(0.99999994), np.where(FEW > 0.1, 0, 1e-9)),
    "few edges": np.where(FEW < 0.0005, FEW * 1000, np.where(FEW > 0.3, 1, 0)).astype(np.float32),
    "a constant and a hot pixel": np.where(FEW.max() == FEW, 60000, 500).astype(np.uint16),
    "classes with an ignored one": np.where(FEW > 0.9, 255, FEW * 12).astype(np.int32),
    "dark fractions": (FEW / 25).astype(np.float32),
    "uneven": (FEW**9 * 60000).astype(np.uint16),
}


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("case", READABLE)
def test_images_of_few_values_are_read(tmp_path: Path, case: str, suffix: str) -> None:
    values = READABLE[case]
    image = read(saved(tmp_path, suffix, values)).images[0, ..., 0]
    limits = (0, 1) if values.dtype.kind == "f" else (values.min(), values.max())
    assert np.array_equal(image, scaled(values, *limits))


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_nan_is_refused_until_a_range_is_given(tmp_path: Path, suffix: str) -> None:
    values = HEIGHTS.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    path = saved(tmp_path, suffix, values)
    for setting in ("auto", "full"):
        unusable(path, "pixel_range LOW,HIGH", pixel_range=setting)
    data = read(path, pixel_range="200,400")
    assert data.images[0, 0, :3, 0].tolist() == [0, 255, 0] and any("NaN" in note for note in data.notes)
    assert np.array_equal(data.images[0, 1:, :, 0], scaled(values[1:], 200, 400))


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.tif"])
def test_a_cameras_raw_file_is_refused(tmp_path: Path, name: str) -> None:
    with tifffile.TiffWriter(tmp_path / name) as file:  # a thumbnail, and the sensor's values in a subdirectory
        file.write(pixels(0, (6, 5, 3)), photometric="rgb", subfiletype=1, subifds=1)
        file.write(DEEP[..., 0], photometric="cfa", extratags=[(33421, "H", 2, (2, 2), True)])
    unusable(tmp_path, name, "RAW")


@pytest.mark.parametrize("tag", [{"subfiletype": 1}, {"extratags": [(255, "H", 1, 2, True)]}])
def test_the_overviews_of_a_tiff_are_no_pages(tmp_path: Path, tag: dict[str, Any]) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in range(2):
            file.write(pixels(page, (8, 8)), photometric="minisblack", metadata=None)
            file.write(pixels(page, (8, 8))[::2, ::2], photometric="minisblack", metadata=None, **tag)
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


# ---- DICOM


def windowed(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """DICOM PS3.3, C.11.2.1.2.1, one value after the other."""
    result = np.empty(x.shape)
    for place, value in np.ndenumerate(x):
        if value <= centre - 0.5 - (width - 1) / 2:
            result[place] = 0
        elif value > centre - 0.5 + (width - 1) / 2:
            result[place] = 255
        else:
            result[place] = ((value - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(result).astype(np.uint8)


WINDOW = {"WindowCenter": "1000", "WindowWidth": "1500"}
UNITS = {"RescaleSlope": "1", "RescaleIntercept": "-500"}
TWO = {"WindowCenter": ["1000", "50"], "WindowWidth": ["1500", "9"]}
DICOMS: dict[str, tuple[str, dict[str, Any], dict[str, str], np.ndarray]] = {
    "the first window, in units": ("MONOCHROME2", TWO | UNITS, {}, windowed(GREY.astype(int) - 500, 1000, 1500)),
    "no window": ("MONOCHROME2", {}, {}, scaled(GREY)),
    "a given range": ("MONOCHROME2", WINDOW, {"pixel_range": "0,4095"}, scaled(GREY, 0, 4095)),
    "inverted": ("MONOCHROME1", WINDOW, {}, 255 - windowed(GREY, 1000, 1500)),
    "inverted, no window": ("MONOCHROME1", {}, {}, 255 - scaled(GREY)),
}


@pytest.mark.parametrize("case", DICOMS)
def test_a_dicom_file_is_shown_as_it_says(tmp_path: Path, case: str) -> None:
    kind, tags, settings, expected = DICOMS[case]
    image = read(write_folder(tmp_path, {"a.dcm": dicom(GREY, kind, **tags)}), **settings).images[0, ..., 0]
    rounding = 1 if kind == "MONOCHROME1" else 0
    assert np.abs(image.astype(int) - expected).max() <= rounding and len(np.unique(image)) > 5


def test_the_frames_of_a_dicom_file(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.dcm": dicom(np.stack([GREY, GREY // 2]), **WINDOW)})
    first, every = read(tmp_path), read(tmp_path, pages="all")
    assert len(first) == 1 and "pages all" in notes(first)[0]
    assert np.array_equal(every.images[1, ..., 0], windowed(GREY // 2, 1000, 1500))


@pytest.mark.parametrize("end", [133, 200, 400, -10])
def test_a_damaged_dicom_file_is_one_line(tmp_path: Path, end: int) -> None:
    unusable(write_folder(tmp_path, {"a.dcm": dicom(GREY)[:end]}), "a.dcm")


def test_windows_that_differ_are_said(tmp_path: Path) -> None:
    windows = {n: dicom(GREY, WindowCenter=str(n), WindowWidth="2000") for n in (1000, 2000)}
    data = read(write_folder(tmp_path / "two", {f"{n}.dcm": file for n, file in windows.items()}))
    (note,) = [note for note in data.notes if "pixel_range" in note]
    assert note.startswith("2 ") and not np.array_equal(*data.images)
    one = read(tmp_path / "two", pixel_range="0,4095")
    assert np.array_equal(*one.images) and not any("window" in note for note in one.notes)
    plain = {"c.dcm": dicom(GREY), "d.dcm": windows[1000]}
    unusable(write_folder(tmp_path / "some", plain), "1 of 2", "window", "pixel_range")
    assert np.array_equal(*read(tmp_path / "some", pixel_range="0,4095").images)
    same = read(write_folder(tmp_path / "one", dict.fromkeys(("a.dcm", "b.dcm"), windows[1000])))
    assert not any("pixel_range" in note for note in same.notes)
