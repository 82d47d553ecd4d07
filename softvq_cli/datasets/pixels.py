"""One encoded image file → an 8-bit grey or colour image."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from softvq_cli.errors import InputError, one_line

_READABLE = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""No format whose reader starts another program (EPS), and none that takes any bytes for an image (TGA)."""


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


def read_image(name: str, data: bytes) -> Image.Image:
    """One image file as an 8-bit image of mode L or RGB, upright; of an animation the first frame.

    Raises:
        InputError: it is no image, damaged, implausibly large or of a kind whose range is unknown.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            image.load()
            return _eight_bits(name, ImageOps.exif_transpose(image))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read (PNG, JPEG, …); remove it") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds on damaged bytes
        raise InputError(f"{name} is a damaged image ({one_line(error)}); replace or remove it") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the readable formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def _eight_bits(name: str, image: Image.Image) -> Image.Image:
    """Any mode → L or RGB; what is transparent becomes white; 16 bits are divided by 257."""
    if image.mode.startswith("I"):
        return _from_sixteen_bits(name, image)
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    grey = image.mode in ("1", "L", "LA") or (image.mode in ("P", "PA") and _is_grey_palette(image))
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    if grey and image.mode not in ("1", "L"):
        return image.convert("RGB").getchannel(0)  # its channels are equal; a weighted sum may round
    return image.convert("L" if grey else "RGB")


def _is_grey_palette(image: Image.Image) -> bool:
    """Whether every colour of the palette has equal parts."""
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _from_sixteen_bits(name: str, image: Image.Image) -> Image.Image:
    """0..65535 → 0..255."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise InputError(f"{name} holds 32-bit pixels; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(pixels / 257).astype(np.uint8))
