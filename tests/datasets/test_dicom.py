"""DICOM files, as pydicom writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.errors import InputError
from tests import helpers
from tests.helpers import notes, read, write_folder

pydicom = pytest.importorskip("pydicom")

STORED = np.random.default_rng(0).integers(0, 4096, (6, 5)).astype(np.uint16)


def dicom(values: np.ndarray = STORED, kind: str = "MONOCHROME2", **tags: Any) -> bytes:
    return helpers.dicom(values, kind, **tags)


def only(folder: Path, data: bytes, **settings: Any) -> np.ndarray:
    return read(write_folder(folder, {"a.dcm": data}), **settings).images[0, ..., 0]


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


def test_the_window_of_the_file_is_used(tmp_path: Path) -> None:
    tags = {
        "WindowCenter": ["1000", "50"],
        "WindowWidth": ["1500", "9"],
        "RescaleSlope": "1",
        "RescaleIntercept": "-500",
    }
    assert np.array_equal(only(tmp_path, dicom(**tags)), windowed(STORED.astype(int) - 500, 1000, 1500))


@pytest.mark.parametrize("tags", [{"WindowCenter": "1000", "WindowWidth": "1500"}, {}])
def test_monochrome1_is_inverted(tmp_path: Path, tags: dict[str, str]) -> None:
    plain = only(tmp_path / "a", dicom(**tags)).astype(int)
    inverted = only(tmp_path / "b", dicom(kind="MONOCHROME1", **tags))
    assert np.abs(255 - plain - inverted).max() <= 1 and len(np.unique(inverted)) > 5


def test_without_a_window_and_with_a_range_that_is_given(tmp_path: Path) -> None:
    low, high = int(STORED.min()), int(STORED.max())
    expected = np.rint((STORED.astype(float) - low) / (high - low) * 255)
    assert np.array_equal(only(tmp_path / "a", dicom()), expected)
    given = only(tmp_path / "b", dicom(WindowCenter="9", WindowWidth="4"), pixel_range="0,4095")
    assert np.array_equal(given, np.rint(STORED / 4095 * 255))


def test_frames(tmp_path: Path) -> None:
    frames = np.stack([STORED, STORED // 2])
    write_folder(tmp_path, {"a.dcm": dicom(frames, WindowCenter="1000", WindowWidth="1500")})
    first, every = read(tmp_path), read(tmp_path, pages="all")
    assert len(first) == 1 and "pages all" in notes(first)[0]
    assert np.array_equal(every.images[1, ..., 0], windowed(STORED // 2, 1000, 1500))


@pytest.mark.parametrize("end", [133, 200, 400, -10])
def test_a_damaged_file_is_one_line(tmp_path: Path, end: int) -> None:
    with pytest.raises(InputError, match=r"a\.dcm") as error:
        only(tmp_path, dicom()[:end])
    assert "\n" not in str(error.value)
