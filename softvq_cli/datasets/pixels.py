"""One encoded image file → an 8-bit grey or colour image."""

from __future__ import annotations

import functools
import io
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from softvq_cli.datasets import dicom, tiff
from softvq_cli.datasets.ranges import Range, Scale, extent, full_of, to_bytes
from softvq_cli.errors import InputError, one_line

_READABLE = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""No format whose reader starts another program (EPS), and none that takes any bytes for an image (TGA)."""

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


def be_strict() -> None:
    """Make Pillow's warning of a bomb an error in this process, and silence the others."""
    warnings.simplefilter("ignore")  # about odd metadata
    warnings.simplefilter("error", Image.DecompressionBombWarning)


@contextmanager
def strict_warnings() -> Iterator[None]:
    """:func:`be_strict` for a while. Around threads, not in them: the filters belong to the whole process."""
    with warnings.catch_warnings():
        be_strict()
        yield


def read_image(name: str, data: bytes, scale: Scale = "full", page: int = 0, tally: Tally | None = None) -> Image.Image:
    """One image file as an 8-bit image of mode L or RGB, upright; of an animation the first frame.

    Args:
        name: what to call it in messages.
        data: its bytes.
        scale: which values become black and white.
        page: of a TIFF or DICOM file.
        tally: is told what had to be done to it.

    Raises:
        InputError: it is no image, damaged, implausibly large or of a kind whose range is unknown.
        DeepError: ``scale`` is auto, and it has more than 8 bits a sample.
    """
    tally = Tally() if tally is None else tally
    with _errors(name):
        found = _open(name, data, page, tally, deep=scale != "full")
        if isinstance(found, dicom.Slice):
            return Image.fromarray(_dicom_bytes(name, found, scale, tally))
        if isinstance(found, np.ndarray):
            return Image.fromarray(_scaled(name, found, scale, tally))
        image = _eight_bits(found, tally)
        if isinstance(scale, tuple):
            image = Image.fromarray(_scaled(name, np.asarray(image), scale, tally))
        return image


def survey(name: str, data: bytes, page: int = 0) -> tuple[float, float, str]:
    """(smallest value, largest value, kind) of a file's pixels; the kind is ``f``, ``u`` or, with 8 bits, nothing.

    Raises:
        InputError: as :func:`read_image`.
    """
    with _errors(name):
        found = _open(name, data, page, Tally(), deep=True)
        if isinstance(found, dicom.Slice):
            if found.window is not None:
                return 0.0, 255.0, ""
            found = found.values
        if isinstance(found, np.ndarray):
            return *extent(found, name), "f" if found.dtype.kind == "f" else "u"
        return 0.0, 255.0, ""


def page_count(name: str, data: bytes) -> int:
    """How many images a file holds, each of which may be read; 1 for everything but TIFF and DICOM.

    Raises:
        InputError: it is damaged.
    """
    with _errors(name):
        if tiff.is_tiff(data):
            return tiff.page_count(data)
        return dicom.frame_count(name, data) if dicom.is_dicom(data) else 1


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, DeepError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read (PNG, JPEG, …); remove it") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds on damaged bytes
        raise InputError(f"{name} is a damaged image ({one_line(error)}); replace or remove it") from error


def _open(name: str, data: bytes, page: int, tally: Tally, *, deep: bool) -> Image.Image | np.ndarray | dicom.Slice:
    """An 8-bit image of any mode, or the numbers of one with more bits: (H, W) or (H, W, 3).

    Colour of 16 bits is read with all of them only if ``deep``: Pillow gives the upper 8.
    """
    if dicom.is_dicom(data):
        found = dicom.read(name, data, page)
        tally[f"pages:{found.frames}"] += found.frames > 1
        return found
    invert, unsigned = False, False
    if tiff.is_tiff(data):
        pages = tiff.page_count(data)
        tally[f"pages:{pages}"] += pages > 1
        tags = tiff.tags_of(data, page)
        tiff.check(name, tags)
        if not tiff.pillow_reads(tags):
            return tiff.read_with_tifffile(name, data, page, tags)
        tally["bands"] += tags.samples == 4 and tags.photometric == tiff.RGB and not tags.alphas
        invert = tags.photometric == tiff.WHITE_IS_ZERO and tags.bits > 8
        unsigned = (tags.bits, tags.kind) == (32, 1)
        data = tiff.black_is_zero(data, page) if invert else data
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        if page:
            image.seek(page)
        if deep and _has_sixteen_bits(image):
            values = _sixteen_bits(data, page, image.mode)
            tally["transparent"] += values.shape[2] == 4
            return _turned(image, _on_white(values))
        tally["sixteen"] += _has_sixteen_bits(image)
        tally["frames"] += image.format not in ("TIFF", "MPO") and getattr(image, "n_frames", 1) > 1
        image.load()
        if not image.mode.startswith("I") and image.mode != "F":
            tally["upright"] += image.getexif().get(0x0112, 1) not in (0, 1)
            return ImageOps.exif_transpose(image)
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="))
        values = values.view(np.uint32) if unsigned else values
        return _turned(image, tiff.inverted(values) if invert else values)


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether it has colours of 16 bits, of which Pillow's mode has no place for the lower 8."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in ("RGB", "RGBA") and any(";16" in _raw_mode(tile.args) for tile in tiles)


def _sixteen_bits(data: bytes, page: int, mode: str) -> np.ndarray:
    """uint16 (H, W, 3 or 4): the file is decoded twice, the second time as if its bytes stood the other way round."""
    halves = []
    for swap in (False, True):
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            if page:
                image.seek(page)
            if swap and isinstance(image, ImageFile.ImageFile):
                image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]
            image.load()
            halves.append(np.asarray(image).reshape(image.height, image.width, len(mode)).astype(np.uint16))
    return halves[0] * np.uint16(256) + halves[1]


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _swapped(args: tuple[Any, ...] | str | None) -> tuple[Any, ...] | str:
    """A decoder's arguments with the other order of bytes."""
    raw = _raw_mode(args)
    native, other = ("L", "B") if np.little_endian else ("B", "L")
    order = {"B": "L", "L": "B", "N": other, native: other}[raw[-1]]
    return (raw[:-1] + order, *args[1:]) if isinstance(args, tuple) else raw[:-1] + order


def _on_white(values: np.ndarray) -> np.ndarray:
    """uint16 (H, W, 3) of RGB or RGBA."""
    if values.shape[2] == 3:
        return values
    share = values[..., 3:] / 65535.0
    return np.rint(values[..., :3] * share + 65535.0 * (1.0 - share)).astype(np.uint16)


def _turned(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """The numbers upright, as the EXIF orientation has it."""
    steps = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
    turns, mirror = steps.get(image.getexif().get(0x0112, 1), (0, False))
    values = np.fliplr(values) if mirror else values
    return np.rot90(values, turns)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the readable formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def _eight_bits(image: Image.Image, tally: Tally) -> Image.Image:
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


def _scaled(name: str, values: np.ndarray, scale: Scale, tally: Tally) -> np.ndarray:
    """uint8 of the same shape."""
    if scale == "auto":
        raise DeepError
    found: Range = full_of(values, name) if scale == "full" else scale
    low, high = extent(values, name)
    tally["rounded"] += scale == "full"
    tally["clipped"] += low < found[0] or high > found[1]
    return to_bytes(values, found)


def _dicom_bytes(name: str, found: dicom.Slice, scale: Scale, tally: Tally) -> np.ndarray:
    """By the range that was asked for, else by the file's own window."""
    if found.window is not None and not isinstance(scale, tuple):
        return to_bytes(found.window, (0.0, 1.0))
    pixels = _scaled(name, found.values, scale, tally)
    return np.invert(pixels) if found.inverted else pixels
