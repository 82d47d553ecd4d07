"""Convert the numbers of an image file to bytes: upright, on white, with a value range mapped to black and white."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from softvq_cli.config import pixel_range
from softvq_cli.errors import InputError, Message

Range = tuple[float, float]
Scale = Range | Literal["auto", "full"]
"""(black, white), or how to determine them."""
Tally = Counter[str]
"""Number of files per conversion: the keys of :data:`NOTES`, ``pages:N`` for files with N pages, ``window:C,W``."""
NOTES = {
    "transparent": "transparent, put on white",
    "frames": "animated, only the first frame is used",
    "upright": "turned upright by their EXIF orientation",
    "CMYK": "CMYK, converted to RGB without the colour profile",
    "bands": "RGB with a fourth band, which is not used",
    "sixteen": "16 bits per colour channel, only the upper 8 are used",
    "rounded": "more than 8 bits, mapped from the range of their type to black and white",
    "nodata": "pixels marked as missing in the file, made black",
    "nan": "NaN and infinity are black or white, as the smallest and the largest value of the range",
    "opaque": "an alpha channel of (nearly) only zeros, as Windows writes it, ignored",
    "overviews": "TIFF with smaller copies or masks of its image, which are skipped",
    "clipped": "pixels outside the range, clipped",
    "grey": "grey among colour images, repeated to three channels",
    "cropped": "not square, cropped to the middle",
}


class DeepError(Exception):
    """A file has more than 8 bits per sample, and its value range is not known yet."""


@dataclass(frozen=True)
class Raster:
    """One image as stored in its file: every reader creates one, and :func:`as_bytes` converts it."""

    pixels: Image.Image | np.ndarray
    """An 8-bit image in any mode, or numbers of any type (H, W) or (H, W, C): 1 or 3 colours, optionally alpha."""
    orientation: int = 1
    """The EXIF orientation; 1 is upright."""
    shown: np.ndarray | None = None
    """For numbers only: uint8 pixels, as the file says that they are to be displayed."""
    window: tuple[float | None, float | None] | None = None
    """Centre and width of the window used for ``shown``."""
    inverted: bool = False
    """For numbers only: whether larger values are darker."""
    nodata: float | None = None
    """The value of pixels without data."""


def as_bytes(name: str, raster: Raster, scale: Scale, tally: Tally) -> np.ndarray:
    """Convert to uint8 (H, W) or (H, W, 3)."""
    values, missing = _settled(raster, tally)
    if not isinstance(scale, tuple) and raster.shown is not None:
        if raster.window is not None:
            tally["window:{},{}".format(*raster.window)] += 1
        return _upright(raster.shown, raster.orientation)
    if not isinstance(scale, tuple) and isinstance(raster.pixels, Image.Image):
        return values
    if scale == "auto":
        raise DeepError
    data = values if missing is None else values[~missing]
    limits = full_of(data, name) if scale == "full" else scale
    if scale != "full" and not np.isfinite(data).all():  # with an explicit range, their mapping is intended
        tally["nan"] += 1
        data = data[np.isfinite(data)]
    low, high = extent(data, name)
    tally["rounded"] += scale == "full"
    tally["clipped"] += low < limits[0] or high > limits[1]
    result = to_bytes(values, limits)
    result = np.invert(result) if raster.inverted else result
    if missing is not None:
        result[missing] = 0
    return result


def extent_of(name: str, raster: Raster) -> tuple[float, float, str]:
    """(smallest value, largest value, kind): ``f``, ``u``, ``window`` if displayed by one, or empty for 8 bits."""
    if isinstance(raster.pixels, Image.Image) or raster.shown is not None:
        return 0.0, 255.0, "" if raster.window is None else "window"
    values = values_of(raster)
    return *extent(values, name), "f" if values.dtype.kind == "f" else "u"


def values_of(raster: Raster) -> np.ndarray:
    """The numbers of all pixels that have data, in any shape."""
    values, missing = _settled(raster, Tally())
    return values if missing is None else values[~missing]


def _settled(raster: Raster, tally: Tally) -> tuple[np.ndarray, np.ndarray | None]:
    """The values (H, W) or (H, W, 3), upright and on white; and which pixels have no data, bool (H, W)."""
    tally["upright"] += raster.orientation in _TURNS
    missing = None
    if raster.nodata is not None:
        missing = _upright(_missing(np.asarray(raster.pixels), raster.nodata), raster.orientation)
        missing = missing if missing.any() else None
        tally["nodata"] += missing is not None
    if isinstance(raster.pixels, Image.Image):
        values = _upright(np.asarray(_on_white(raster.pixels, tally)), raster.orientation)
        if missing is not None:
            values = values.copy()
            values[missing] = 0
        return values, missing
    values = raster.pixels
    if values.ndim == 3 and values.shape[2] in (2, 4):
        tally["transparent"] += 1
        most = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        share = values[..., -1:] / most
        on_white = values[..., :-1] * share + most * (1.0 - share)
        values = (on_white if values.dtype.kind == "f" else np.rint(on_white)).astype(values.dtype)
        values = values[..., 0] if values.shape[2] == 1 else values
    return _upright(values, raster.orientation), missing


def _missing(values: np.ndarray, nodata: float) -> np.ndarray:
    """Which pixels have no data: bool (H, W)."""
    if values.ndim == 3:  # all colours, without alpha
        bands = [_missing(values[..., band], nodata) for band in range(values.shape[2])]
        return np.asarray(np.all(bands[:-1] if len(bands) in (2, 4) else bands, axis=0))
    if values.dtype.kind == "f":  # the tag is a text, such as -3.40282e+38 for the smallest float32
        return np.asarray(np.isclose(values, values.dtype.type(nodata), rtol=2e-6, atol=0.0, equal_nan=True))
    return np.asarray(values == int(nodata))


def _on_white(image: Image.Image, tally: Tally) -> Image.Image:
    """Convert any 8-bit mode to L or RGB; transparent pixels become white."""
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        grey = bool((colours == colours[:, :1]).all())
    tally["CMYK"] += image.mode == "CMYK"
    if image.has_transparency_data:
        tally["transparent"] += 1
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    if grey and image.mode not in ("1", "L"):
        return image.convert("RGB").getchannel(0)  # all channels are equal; a weighted sum might round
    return image.convert("L" if grey else "RGB")


_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
"""EXIF orientation → (quarter turns, whether to mirror first)."""


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    turns, mirror = _TURNS.get(orientation, (0, False))
    return np.rot90(np.fliplr(values) if mirror else values, turns)


# ---- ranges


def scale_of(setting: str) -> Scale:
    """Parse the setting ``pixel_range``."""
    limits = pixel_range(setting)
    return limits if limits is not None else "full" if setting == "full" else "auto"


def text_of(limits: Range) -> str:
    """Format a range as in the setting: ``0,4095``."""
    return ",".join(str(int(value)) if value == int(value) else repr(float(value)) for value in limits)


def of_training(low: float, high: float, *, floats: bool) -> Range:
    """The range for training values from ``low`` to ``high``.

    Floats within [0, 1] get the range [0, 1], the usual one for images. If all values are equal, the range has width 1.
    """
    if floats and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1.0)


def full_of(values: np.ndarray, name: str) -> Range:
    """The full range of the type of ``values``: 16 bits for integers, [0, 1] for floats."""
    low, high = extent(values, name)
    limit = 1.0 if values.dtype.kind == "f" else 255.0 if values.dtype.itemsize == 1 else 65535.0
    if low < 0 or high > limit:
        kind = "floating-point pixels" if values.dtype.kind == "f" else f"{values.dtype.itemsize * 8}-bit pixels"
        raise InputError(
            "{} holds {} from {:.6g} to {:.6g}, outside 0 to {:g}: give their range with {pixel_range}",
            *(name, kind, low, high, limit),
        )
    return 0.0, limit


def extent(values: np.ndarray, name: str) -> Range:
    """The smallest and the largest value, (inf, -inf) for no values (InputError: one is NaN or infinite)."""
    if not values.size:
        return np.inf, -np.inf
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(
            "{} holds NaN or infinity: with {pixel_range} LOW,HIGH they become black, and infinity white", name
        )
    return low, high


def to_bytes(values: np.ndarray, limits: Range) -> np.ndarray:
    """Convert to uint8 with the same shape: ``limits`` become 0 and 255, values outside are clipped."""
    low, high = limits
    shares = np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    return np.rint(np.nan_to_num(shares, copy=False) * 255.0).astype(np.uint8)


_BULK, _LEVELS = 0.999, 16
_SAMPLE = 1024
"""Sample size for images that are decoded on demand."""
_IMAGES, _PIXELS = 64, 1 << 14
"""Number of images, and of pixels in each, whose values are compared with their levels."""


def check_contrast(
    name: str, images: Any, rows: np.ndarray, limits: Range, values: Callable[[np.ndarray], Iterable[np.ndarray]]
) -> None:
    """Refuse a range that outliers, padding or no-data values determine, so that few grey levels are left for the rest.

    ``values`` returns the numbers of the images of some rows, from which the bytes in ``images`` were made.
    """
    numbers, counts = np.flatnonzero(rows), np.zeros(256, np.int64)
    if not isinstance(images, np.ndarray):  # decoded on demand, which takes as long as training on them
        numbers = numbers[:: -(-len(numbers) // _SAMPLE)]
    for start in range(0, len(numbers), 256):
        counts += np.bincount(images[numbers[start : start + 256]].reshape(-1), minlength=256)
    if len(_bulk(counts)) >= _LEVELS or np.ptp(np.flatnonzero(counts)) < _LEVELS - 1:
        return
    some = [image.reshape(-1) for image in values(numbers[:: -(-len(numbers) // _IMAGES)])]
    sample = np.concatenate([image[:: (image.size // _PIXELS) | 1] for image in some])
    distinct, counts = np.unique(sample.round(6) if limits == (0.0, 1.0) else sample, return_counts=True)
    levels = to_bytes(distinct, limits)
    used = np.sort(_bulk(np.bincount(levels, counts, minlength=256)))
    if len(_bulk(counts)) <= len(used):  # masks and other images of few values, none of which is lost
        return
    parts = np.split(used, np.flatnonzero(np.diff(used) >= _LEVELS) + 1)
    inside = max((np.isin(levels, part) for part in parts), key=np.count_nonzero)
    raise InputError(
        "{}: the range {} leaves {} of 256 grey levels for 99.9 % of the pixels, because of outliers, padding or "
        "pixels without data. Give a range with {pixel_range}, such as {:.6g},{:.6g}, that of {:.1%} of the pixels",
        *(name, text_of(limits), len(used), distinct[inside][0], distinct[inside][-1]),
        counts[inside].sum() / counts.sum(),
    )


def _bulk(counts: np.ndarray) -> np.ndarray:
    """The most frequent values, as few as hold 99.9 % of the pixels: their indices."""
    order = np.argsort(-counts, kind="stable")
    return order[: 1 + int(np.searchsorted(np.cumsum(counts[order]), _BULK * counts.sum()))]


def notes_of(tally: Tally, count: int, pages: str) -> list[str]:
    """Notes on the conversions of ``count`` images, one line each; ``pages`` is the setting of that name."""
    lines = [f"{tally[key]} of {count} images: {text}" for key, text in NOTES.items() if tally[key]]
    most, files = 0, 0
    for key, number in tally.items():
        if key.startswith("pages:") and number:
            most, files = max(most, int(key.removeprefix("pages:"))), files + number
    if files and pages == "first":
        text = "{} of {} files have several pages, up to {}: the first is used; {pages} all reads each as an image"
        lines.append(Message(text, files, count, most))
    windows = sum(key.startswith("window:") for key in tally)
    if windows > 1:
        text = "{} different windows: each DICOM file uses its own; {pixel_range} LOW,HIGH sets one range for all"
        lines.append(Message(text, windows))
    return lines


def described(kind: str, limits: Range, setting: str) -> str:
    """A note on the range that was used."""
    source = {"auto": "the range of the training split", "full": "the range of their type"}
    if setting == "auto" and limits == (0.0, 1.0):
        source = {"auto": "the smallest that holds the training split"}
    return f"{kind}: {text_of(limits).replace(',', ' to ')} ({source.get(setting, 'as given')}) become black to white"
