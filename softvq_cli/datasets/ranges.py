"""Which values become black and white: more than 8 bits, and floats, as bytes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from softvq_cli.config import pixel_range
from softvq_cli.errors import InputError, param

Range = tuple[float, float]
Scale = Range | Literal["auto", "full"]
"""(black, white), or how to find it."""


def scale_of(setting: str) -> Scale:
    """The setting ``pixel_range`` as it is used."""
    found = pixel_range(setting)
    return found if found is not None else "full" if setting == "full" else "auto"


def text_of(found: Range) -> str:
    """As the setting has it: ``0,4095``."""
    return ",".join(str(int(value)) if value == int(value) else repr(float(value)) for value in found)


def of_training(low: float, high: float, *, floats: bool) -> Range:
    """The range for values of the training split from ``low`` to ``high``.

    Floats within [0, 1] have that range, by which everybody stores images; without any contrast it is one wide.
    """
    if floats and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1.0)


def full_of(values: np.ndarray, name: str) -> Range:
    """All that the type of ``values`` can hold: 16 bits for whole numbers, [0, 1] for floats.

    Raises:
        InputError: they lie outside.
    """
    low, high = extent(values, name)
    limit = 1.0 if values.dtype.kind == "f" else 255.0 if values.dtype.itemsize == 1 else 65535.0
    if low < 0 or high > limit:
        kind = "floating-point pixels" if values.dtype.kind == "f" else f"{values.dtype.itemsize * 8}-bit pixels"
        raise InputError(
            f"{name} holds {kind} from {low:.6g} to {high:.6g}, beyond 0 to {limit:g}: give the range that they have "
            f"with {param('pixel_range')}"
        )
    return 0.0, limit


def extent(values: np.ndarray, name: str) -> Range:
    """The smallest and the largest value.

    Raises:
        InputError: one is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds NaN or infinity; pixels are numbers")
    return low, high


def to_bytes(values: np.ndarray, found: Range) -> np.ndarray:
    """uint8 of the same shape: ``found`` becomes 0 and 255, what lies beyond is cut off."""
    low, high = found
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def said(what: str, found: Range, setting: str) -> str:
    """The note on a range that was used."""
    source = {"auto": "the range of the training split", "full": "the range of their type"}
    if setting == "auto" and found == (0.0, 1.0):
        source = {"auto": "in which the training split lies"}
    return f"{what}: {text_of(found).replace(',', ' to ')} ({source.get(setting, 'as given')}) become black to white"
