"""DICOM files, with their window; pydicom reads them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from softvq_cli.datasets.pixel_range import Raster, Tally, to_bytes
from softvq_cli.errors import InputError, one_line


def is_dicom(data: bytes) -> bool:
    """Whether the file begins as a DICOM file does."""
    return data[128:132] == b"DICM"


def frame_count(name: str, data: bytes) -> int:
    """How many frames it has; InputError: it is damaged, or pydicom is not installed."""
    return int(_dataset(name, data, pixels=False).get("NumberOfFrames") or 1)


def read(name: str, data: bytes, frame: int, tally: Tally) -> Raster:
    """One frame in the modality's units (Hounsfield's in CT).

    It is displayed by the first VOI window, by its function (DICOM PS3.3, C.11.2).

    Raises:
        InputError: it is damaged, compressed in a way that needs another package, or pydicom is not installed.
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
            raise InputError(f"{name} is a DICOM file of {values.dtype} {values.shape}; grey and 8-bit colour are read")
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
