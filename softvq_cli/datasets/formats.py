"""TIFF: what a page holds, and tifffile for the pages that Pillow does not read right."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.datasets.pixel_range import Raster, Tally, to_bytes
from softvq_cli.errors import InputError, one_line

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, 3: 1, 5: 4, 6: 3}
"""Photometric interpretation → samples that are colour; 3 palette, 5 CMYK, 6 YCbCr."""


@dataclass(frozen=True)
class Tags:
    """One page's description of itself."""

    photometric: int
    bits: int
    kind: int
    """1 unsigned, 2 signed, 3 floating point."""
    samples: int
    alphas: int
    unassociated: bool
    """Its one alpha is not multiplied into the colours."""
    planar: bool
    """The samples stand one after the other."""
    packed: bool
    big: bool
    """Big-endian."""
    orientation: int
    nodata: float | None
    """The value of pixels without data, as GDAL writes it."""


def is_tiff(data: bytes) -> bool:
    """Whether the file begins as a TIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pages_of(data: bytes) -> tuple[list[int], int]:
    """(which of the file's directories are images, how many of them are smaller copies or masks of another one)."""
    kinds = [_subfile_of(data, offset) for offset in _offsets(data)]
    pages = [number for number, kind in enumerate(kinds) if number == 0 or not kind & (_REDUCED | _MASK)]
    return pages, len(kinds) - len(pages)


def tags_of(name: str, data: bytes, number: int) -> Tags:
    """Read the tags of one directory (any error: it is damaged)."""
    from PIL import TiffImagePlugin

    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if _is_bigtiff(data) else data[:8])
    file = io.BytesIO(data)
    file.seek(_offsets(data)[number])
    directory.load(file)
    # A RAW file begins with a thumbnail and has its image in a subdirectory; a DNG says what it is.
    if data[8:10] == b"CR" or 50706 in directory or (directory.get(254, 0) & _REDUCED and 330 in directory):
        raise InputError(raw_refused(name))
    extra = directory.get(338, ())
    return Tags(
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
        nodata=_number(directory.get(42113)),
    )


def raw_refused(name: str) -> str:
    """What to say of a camera's RAW file."""
    return f"{name} is a camera's RAW file, which is not read: develop it to TIFF, PNG or JPEG first"


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def check_tiff(name: str, tags: Tags) -> None:
    """Refuse what is neither grey nor colour (InputError)."""
    if tags.photometric not in _COLOURS:
        kind = "CIELab" if tags.photometric in (8, 9, 10) else f"photometric interpretation {tags.photometric}"
        raise InputError(f"{name} is a TIFF in {kind}, which is not read; save it as grey or RGB")
    more = tags.samples - _COLOURS[tags.photometric] - tags.alphas
    if more and not (more == 1 and tags.photometric == RGB and tags.bits == 8):
        raise InputError(
            f"{name} is a TIFF of {tags.samples} bands, and it is unknown which of them are the image; "
            "save only the one "
            "(grey) or three (RGB) bands that you want"
        )


def pillow_reads(tags: Tags) -> bool:
    """Whether Pillow gives this page's own numbers."""
    if tags.bits <= 8:
        return tags.kind == 1 and not (tags.photometric == WHITE_IS_ZERO and tags.bits == 8 and tags.samples > 1)
    if tags.samples == 1 and tags.photometric == BLACK_IS_ZERO:
        known = {(16, 1), (16, 2), (32, 2), (32, 3)} | (set() if tags.big else {(12, 1), (32, 1)})
        return (tags.bits, tags.kind) in known and not (tags.big and tags.packed and tags.kind != 1)
    return tags.bits == 16 and tags.kind == 1 and tags.photometric == RGB and not tags.planar


def read_tiff(name: str, data: bytes, number: int, tags: Tags) -> np.ndarray:
    """(H, W) or (H, W, 3), of the file's own type; where white is zero, larger numbers are made the lighter ones."""
    kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(tags.kind, "odd")
    what = f"a TIFF of {tags.bits}-bit {kind} samples{', big-endian' if tags.big else ''}"
    try:
        import tifffile
    except ImportError as error:
        raise InputError(f"{name} is {what}, which needs tifffile: pip install 'softvq[tiff]'") from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        try:
            values = np.asarray(file.pages[number].asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise InputError(f"{name} is {what}: {one_line(error)}: pip install 'softvq[tiff]'") from error
    if tags.planar and tags.samples > 1:
        values = np.moveaxis(values, 0, -1)
    alphas = tags.samples - _COLOURS[tags.photometric] if tags.unassociated else 0
    values = values[..., : _COLOURS[tags.photometric] + alphas] if tags.samples > 1 else values
    values = values.reshape(*values.shape[:2], -1)[..., 0] if values.shape[2:] == (1,) else values
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiu":
        raise InputError(f"{name} is {what} with the shape {values.shape}, which is not an image")
    return _inverted(values) if tags.photometric == WHITE_IS_ZERO else values


def _inverted(values: np.ndarray) -> np.ndarray:
    """Whole numbers within their type, floats within [0, 1]."""
    if values.dtype.kind == "f":
        return 1.0 - values
    limits = np.iinfo(values.dtype)
    return (limits.max + limits.min - values.astype(np.int64)).astype(values.dtype)


def _is_bigtiff(data: bytes) -> bool:
    return data[2:4] in (b"+\0", b"\0+")


_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType."""


def _subfile_of(data: bytes, offset: int) -> int:
    """NewSubfileType of the directory there; 0 where it has none."""
    order, big = ">" if data[:1] == b"M" else "<", _is_bigtiff(data)
    head, size, value = (8, 20, 12) if big else (2, 12, 8)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
    for entry in range(offset + head, offset + head + size * min(count, 1024), size):
        if struct.unpack_from(order + "H", data, entry)[0] == 254:
            return int(struct.unpack_from(order + "L", data, entry + value)[0])
    return 0


def _offsets(data: bytes) -> list[int]:
    """Where the directory of each page stands."""
    order = ">" if data[:1] == b"M" else "<"
    big = _is_bigtiff(data)
    pointer, entry = ("Q", 20) if big else ("L", 12)
    (offset,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    offsets: list[int] = []
    while offset and offset not in offsets:
        offsets.append(offset)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
        (offset,) = struct.unpack_from(order + pointer, data, offset + (8 if big else 2) + entry * count)
    return offsets


# ---- DICOM


def is_dicom(data: bytes) -> bool:
    """Whether the file begins as a DICOM file does."""
    return data[128:132] == b"DICM"


def frame_count(name: str, data: bytes) -> int:
    """How many frames it has; InputError: it is damaged, or pydicom is not installed."""
    return int(_dataset(name, data, pixels=False).get("NumberOfFrames") or 1)


def read_dicom(name: str, data: bytes, frame: int, tally: Tally) -> Raster:
    """One frame in the modality's units (Hounsfield's in CT).

    It is displayed by the first VOI window, by its function (DICOM PS3.3, C.11.2).
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
            raise InputError(
                f"{name} is a DICOM file of {values.dtype} {values.shape}; only grey and 8-bit colour can be read"
            )
        return Raster(values, shown=values)
    inverted = kind == "MONOCHROME1"
    window = _window(values, dataset)
    if window is None:
        return Raster(values, inverted=inverted)
    shown = to_bytes(1.0 - window if inverted else window, (0.0, 1.0))
    return Raster(values, shown=shown, window=_window_of(dataset), inverted=inverted)


def _window(values: np.ndarray, dataset: Any) -> np.ndarray | None:
    """(H, W) in [0, 1], black to white, where the file has a window."""
    centre, width = _window_of(dataset)
    if centre is None or width is None or width <= 0:
        return None
    x, function = values.astype(np.float64), str(dataset.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (x - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((x - centre) / width + 0.5, 0.0, 1.0)
    return np.clip((x - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5, 0.0, 1.0)


def _window_of(dataset: Any) -> tuple[float | None, float | None]:
    """(centre, width)."""
    return _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))


def _first(value: Any) -> float | None:
    """A number, or the first of several windows."""
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _dataset(name: str, data: bytes, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise InputError(f"{name} is a DICOM file, which needs pydicom: pip install 'softvq[dicom]'") from error
    try:
        return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
    except Exception as error:  # pydicom raises many kinds
        raise InputError(f"{name} is a damaged DICOM file: {one_line(error)}") from error
