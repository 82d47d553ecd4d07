"""From the numbers in an image file to bytes: on white, upright, and with a range of values as black to white."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from softvq_cli.config import pixel_range
from softvq_cli.errors import InputError

Range = tuple[float, float]
Scale = Range | Literal["auto", "full"]
"""(black, white), or how to find it."""
Tally = Counter[str]
"""What happened to how many files: the keys of :data:`NOTES`, and ``pages:N`` for the numbers of pages."""
NOTES = {
    "transparent": "transparent, white shows through",
    "frames": "animated, the first frame is the image",
    "upright": "turned upright, as the EXIF orientation says",
    "CMYK": "CMYK, turned into RGB without the colour profile",
    "bands": "RGB with a fourth band, which is not used",
    "sixteen": "colour of 16 bits a channel, of which the upper 8 are used",
    "rounded": "more than 8 bits, the range of their type becomes black to white",
    "clipped": "pixels outside of the range, cut off there",
    "grey": "grey among colour, repeated to three channels",
    "cropped": "not square, cropped to the middle",
}


class DeepError(Exception):
    """A file has more than 8 bits a sample, and which values become black and white is not known yet."""


@dataclass(frozen=True)
class Raster:
    """One image as its file has it: every reader makes one, and :func:`as_bytes` does the rest."""

    pixels: Image.Image | np.ndarray
    """An image of 8 bits in any mode, or numbers of any type (H, W) or (H, W, C): 1 or 3 colours, perhaps alpha."""
    orientation: int = 1
    """EXIF's: 1 is upright."""
    shown: np.ndarray | None = None
    """Numbers only: uint8, as the file says that they are to be displayed."""
    inverted: bool = False
    """Numbers only: the larger is the darker."""


def as_bytes(name: str, raster: Raster, scale: Scale, tally: Tally) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3).

    Args:
        name: what to call the file in messages.
        raster: the image.
        scale: which values become black and white.
        tally: is told what had to be done.

    Raises:
        InputError: the range is unknown, or a number is none.
        DeepError: ``scale`` is auto, and there are more than 8 bits a sample.
    """
    values = _settled(raster, tally)
    if not isinstance(scale, tuple) and raster.shown is not None:
        return _upright(raster.shown, raster.orientation)
    if not isinstance(scale, tuple) and isinstance(raster.pixels, Image.Image):
        return values
    if scale == "auto":
        raise DeepError
    limits = full_of(values, name) if scale == "full" else scale
    low, high = extent(values, name)
    tally["rounded"] += scale == "full"
    tally["clipped"] += low < limits[0] or high > limits[1]
    result = to_bytes(values, limits)
    return np.invert(result) if raster.inverted else result


def extent_of(name: str, raster: Raster) -> tuple[float, float, str]:
    """(smallest value, largest value, kind); the kind is ``f``, ``u`` or, where 8 bits are displayed, nothing.

    Raises:
        InputError: a number is none.
    """
    if isinstance(raster.pixels, Image.Image) or raster.shown is not None:
        return 0.0, 255.0, ""
    values = _settled(raster, Tally())
    return *extent(values, name), "f" if values.dtype.kind == "f" else "u"


def _settled(raster: Raster, tally: Tally) -> np.ndarray:
    """The values (H, W) or (H, W, 3), upright and on white."""
    tally["upright"] += raster.orientation in _TURNS
    if isinstance(raster.pixels, Image.Image):
        return _upright(np.asarray(_on_white(raster.pixels, tally)), raster.orientation)
    values = raster.pixels
    if values.ndim == 3 and values.shape[2] in (2, 4):
        tally["transparent"] += 1
        most = float(np.iinfo(values.dtype).max)
        share = values[..., -1:] / most
        values = np.rint(values[..., :-1] * share + most * (1.0 - share)).astype(values.dtype)
        values = values[..., 0] if values.shape[2] == 1 else values
    return _upright(values, raster.orientation)


def _on_white(image: Image.Image, tally: Tally) -> Image.Image:
    """Any mode of 8 bits → L or RGB; what is transparent becomes white."""
    grey = image.mode in ("1", "L", "LA") or (image.mode in ("P", "PA") and _is_grey_palette(image))
    tally["CMYK"] += image.mode == "CMYK"
    if image.has_transparency_data:
        tally["transparent"] += 1
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    if grey and image.mode not in ("1", "L"):
        return image.convert("RGB").getchannel(0)  # its channels are equal; a weighted sum may round
    return image.convert("L" if grey else "RGB")


def _is_grey_palette(image: Image.Image) -> bool:
    """Whether every colour of the palette has equal parts."""
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
"""EXIF orientation → (quarter turns, whether to mirror first)."""


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    turns, mirror = _TURNS.get(orientation, (0, False))
    return np.rot90(np.fliplr(values) if mirror else values, turns)


# ---- ranges


def scale_of(setting: str) -> Scale:
    """The setting ``pixel_range`` as it is used."""
    limits = pixel_range(setting)
    return limits if limits is not None else "full" if setting == "full" else "auto"


def text_of(limits: Range) -> str:
    """As the setting has it: ``0,4095``."""
    return ",".join(str(int(value)) if value == int(value) else repr(float(value)) for value in limits)


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
            "{} holds {} from {:.6g} to {:.6g}, beyond 0 to {:g}: give the range that they have with {pixel_range}",
            *(name, kind, low, high, limit),
        )
    return 0.0, limit


def extent(values: np.ndarray, name: str) -> Range:
    """The smallest and the largest value; InputError: one is NaN or infinite."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds NaN or infinity; pixels are numbers")
    return low, high


def to_bytes(values: np.ndarray, limits: Range) -> np.ndarray:
    """uint8 of the same shape: ``limits`` become 0 and 255, what lies beyond is cut off."""
    low, high = limits
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def described(kind: str, limits: Range, setting: str) -> str:
    """The note on a range that was used."""
    source = {"auto": "the range of the training split", "full": "the range of their type"}
    if setting == "auto" and limits == (0.0, 1.0):
        source = {"auto": "in which the training split lies"}
    return f"{kind}: {text_of(limits).replace(',', ' to ')} ({source.get(setting, 'as given')}) become black to white"
