"""TIFF pages, with tifffile for those that Pillow does not read correctly, and DICOM files, by pydicom."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

from softvq_cli.datasets.pixel_range import Raster, Tally, to_bytes
from softvq_cli.errors import InputError, one_line

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, 3: 1, 5: 4, 6: 3}
"""Photometric interpretation → number of colour samples; 3 is palette, 5 CMYK, 6 YCbCr."""
_REDUCED, _MASK = 1, 4
"""Bits of the NewSubfileType field."""


@dataclass(frozen=True)
class Page:
    """One image of a TIFF, as described by its directory."""

    number: int
    """Index of the directory in the file."""
    photometric: int
    bits: int
    kind: int
    """1 unsigned, 2 signed, 3 floating point."""
    samples: int
    alphas: int
    unassociated: bool
    """Whether its single alpha channel is not premultiplied into the colours."""
    planar: bool
    """Whether the samples are stored as separate planes."""
    packed: bool
    big: bool
    """Whether it is big-endian."""
    orientation: int
    nodata: float | None
    """The value of pixels without data, from GDAL's tag, as the readers return it; None: no pixel can have it."""


def is_tiff(data: bytes) -> bool:
    """Whether the file starts like a TIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def directories_of(data: bytes) -> tuple[list[tuple[int, Directory]], int]:
    """(directories of images, with their indices; number of thumbnails and masks, which are skipped)."""
    head = data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8]
    file, offset = io.BytesIO(data), Directory(head).next
    directories: dict[int, Directory] = {}
    while offset and offset not in directories:
        directories[offset] = directory = Directory(head)
        file.seek(offset)
        directory.load(file)
        offset = directory.next
    images = [
        (number, directory)
        for number, directory in enumerate(directories.values())
        if number == 0
        or not (directory.get(254, 0) & (_REDUCED | _MASK) or directory.get(255) == 2)  # as older files mark copies
    ]
    return images, len(directories) - len(images)


def page_of(name: str, data: bytes, number: int, directory: Directory) -> Page:
    """The page of a directory (any error: it is damaged); pages that are neither grey nor colour are refused."""
    # A RAW file starts with a thumbnail and has its image in a subdirectory; DNG files are recognised by their tags.
    if data[8:10] == b"CR" or 50706 in directory or (directory.get(254, 0) & _REDUCED and 330 in directory):
        raise InputError(raw_refused(name))
    extra = directory.get(338, ())
    page = Page(
        number=number,
        photometric=int(directory.get(262, WHITE_IS_ZERO)),
        bits=int(max({*directory.get(258, (1,))})),
        kind=int(max({*directory.get(339, (1,))})),
        samples=int(directory.get(277, 1)),
        alphas=sum(value in (1, 2) for value in (extra if isinstance(extra, tuple) else (extra,))),
        unassociated=extra in (2, (2,)),
        planar=directory.get(284, 1) == 2,
        packed=directory.get(259, 1) != 1,
        big=data[:1] == b"M",
        orientation=int(directory.get(274, 1)),
        nodata=None,
    )
    page = replace(page, nodata=_nodata(page, directory.get(42113)))
    if page.photometric not in _COLOURS:
        kind = "CIELab" if page.photometric in (8, 9, 10) else f"photometric interpretation {page.photometric}"
        raise InputError(f"{name} is a TIFF in {kind}, which is not read; save it as grey or RGB")
    more = page.samples - _COLOURS[page.photometric] - page.alphas
    if more and not (more == 1 and page.photometric == RGB and page.bits == 8):
        raise InputError(
            f"{name} is a TIFF of {page.samples} bands, and it is unknown which of them are the image; save only the "
            "one (grey) or three (RGB) bands that you want"
        )
    return page


def raw_refused(name: str) -> str:
    """The message for a camera's RAW file."""
    return f"{name} is a camera's RAW file, which is not read: develop it to TIFF, PNG or JPEG first"


def _nodata(page: Page, text: object) -> float | None:
    try:
        value = float(str(text).strip("\0 "))
    except ValueError:
        return None
    white = page.photometric == WHITE_IS_ZERO  # such pixels are inverted when they are read
    if page.kind == 3:
        return 1.0 - value if white else value
    low, high = (-(1 << page.bits - 1), (1 << page.bits - 1) - 1) if page.kind == 2 else (0, (1 << page.bits) - 1)
    if not (low <= value <= high and value.is_integer()):
        return None
    return low + high - value if white else value


def pillow_reads(page: Page) -> bool:
    """Whether Pillow returns the original values of this page."""
    if page.bits <= 8:
        return page.kind == 1 and not (page.photometric == WHITE_IS_ZERO and page.bits == 8 and page.samples > 1)
    if page.samples == 1 and page.photometric == BLACK_IS_ZERO:
        types = {(16, 1), (16, 2), (32, 2), (32, 3)} | (set() if page.big else {(12, 1), (32, 1)})
        return (page.bits, page.kind) in types and not (page.big and page.packed and page.kind != 1)
    return page.bits == 16 and page.kind == 1 and page.photometric == RGB and not page.planar


def read_tiff(name: str, data: bytes, page: Page) -> np.ndarray:
    """(H, W) or (H, W, 3), in the type of the file; if white is zero, the values are inverted."""
    kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(page.kind, "odd")
    form = f"{name} is a TIFF of {page.bits}-bit {kind} samples{', big-endian' if page.big else ''}"
    tifffile = package("tifffile", form, "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        try:
            values = np.asarray(file.pages[page.number].asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise InputError(f"{form}: {one_line(error)}: pip install 'softvq[tiff]'") from error
    if page.planar and page.samples > 1:
        values = np.moveaxis(values, 0, -1)
    alphas = page.samples - _COLOURS[page.photometric] if page.unassociated else 0
    values = values[..., : _COLOURS[page.photometric] + alphas] if page.samples > 1 else values
    values = values.reshape(*values.shape[:2], -1)[..., 0] if values.shape[2:] == (1,) else values
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiu":
        raise InputError(f"{form} with the shape {values.shape}, which is not an image")
    if page.photometric != WHITE_IS_ZERO:
        return values
    if values.dtype.kind == "f":
        return 1.0 - values
    limits = np.iinfo(values.dtype)
    return (limits.max + limits.min - values.astype(np.int64)).astype(values.dtype)


def package(module: str, what: str, extra: str) -> Any:
    """Import an optional package that a file needs (InputError: it is not installed)."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        text = f"{what}, which needs {module.replace('_', '-')}: pip install 'softvq[{extra}]'"
        raise InputError(text) from error


# ---- DICOM


def is_dicom(data: bytes) -> bool:
    """Whether the file starts like a DICOM file."""
    return data[128:132] == b"DICM"


def frame_count(name: str, data: bytes) -> int:
    """The number of frames (InputError: the file is damaged, or pydicom is not installed)."""
    return int(_dataset(name, data, pixels=False).get("NumberOfFrames") or 1)


def read_dicom(name: str, data: bytes, frame: int, tally: Tally) -> Raster:
    """Read one frame in the units of the modality (Hounsfield units for CT).

    For display, it is mapped by the first VOI window with its function (DICOM PS3.3, C.11.2).
    """
    dataset = _dataset(name, data, pixels=True)
    frames = int(dataset.get("NumberOfFrames") or 1)
    tally[f"pages:{frames}"] += frames > 1
    kind = str(dataset.get("PhotometricInterpretation", ""))
    try:
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

        values = dataset.pixel_array
        values = values[frame] if frames > 1 else values
        if kind == "PALETTE COLOR":
            colours = apply_color_lut(values, dataset)
            values = np.rint(colours / (257 if colours.dtype.itemsize == 2 else 1)).astype(np.uint8)
        elif kind.startswith("MONOCHROME"):
            values = np.asarray(apply_modality_lut(values, dataset))
    except Exception as error:  # pydicom raises many kinds
        raise InputError(f"{name} is a DICOM file whose pixels cannot be read: {one_line(error)}") from error
    if values.ndim == 3:
        if values.dtype != np.uint8 or values.shape[2] != 3:
            form = f"{values.dtype} {values.shape}"
            raise InputError(f"{name} is a DICOM file of {form}; only grey and 8-bit colour can be read")
        return Raster(values, shown=values)
    inverted = kind == "MONOCHROME1"
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return Raster(values, inverted=inverted)
    window = _windowed(values.astype(np.float64), centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    shown = to_bytes(1.0 - window if inverted else window, (0.0, 1.0))
    return Raster(values, shown=shown, window=(centre, width), inverted=inverted)


def _windowed(x: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Apply a window: (H, W) in [0, 1], black to white."""
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (x - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((x - centre) / width + 0.5, 0.0, 1.0)
    return np.clip((x - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5, 0.0, 1.0)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _dataset(name: str, data: bytes, *, pixels: bool) -> Any:
    pydicom = package("pydicom", f"{name} is a DICOM file", "dicom")
    try:
        return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
    except Exception as error:  # pydicom raises many kinds
        raise InputError(f"{name} is a damaged DICOM file: {one_line(error)}") from error
