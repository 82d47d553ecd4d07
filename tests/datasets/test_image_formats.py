"""Every image format becomes 8-bit grey or colour, or is refused clearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softvq_cli.errors import InputError
from tests.helpers import encoded, pixels, read

GREY, COLOUR, ALPHA = pixels(0), pixels(1, (6, 5, 3)), pixels(2)


def on_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Eight-bit compositing, in float64."""
    share = alpha.reshape(*alpha.shape, *[1] * (image.ndim - 2)) / 255.0
    return image * share + 255.0 * (1.0 - share)


def only_image(path: Path, data: bytes, name: str = "a.png") -> np.ndarray:
    """All that the file's type can hold is its range."""
    (path / name).write_bytes(data)
    return read(path, pixel_range="full").images[0]


LOSSLESS = {
    "grey PNG": (encoded(GREY), GREY),
    "grey GIF, a palette of greys": (encoded(GREY, "GIF"), GREY),
    "grey palette PNG": (encoded(Image.fromarray(GREY).convert("P")), GREY),
    "black and white": (encoded(Image.fromarray(GREY > 127)), np.where(GREY > 127, 255, 0)),
    "16-bit PNG": (encoded(GREY.astype(np.uint16) * 257), GREY),
    "16-bit TIFF": (encoded(GREY.astype(np.uint16) * 257, "TIFF"), GREY),
    "16-bit PGM": (b"P5 5 6 65535\n" + (GREY.astype(">u2") * 257).astype(">u2").tobytes(), GREY),
    "colour PNG": (encoded(COLOUR), COLOUR),
    "colour BMP": (encoded(COLOUR, "BMP"), COLOUR),
    "colour PPM": (encoded(COLOUR, "PPM"), COLOUR),
    "colour TIFF": (encoded(COLOUR, "TIFF"), COLOUR),
    "colour palette": (
        encoded(Image.fromarray(COLOUR).quantize(30)),
        np.asarray(Image.fromarray(COLOUR).quantize(30).convert("RGB")),
    ),
    "CMYK TIFF": (
        encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"),
        np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")),
    ),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_of_lossless_kinds_are_exact(tmp_path: Path, kind: str) -> None:
    data, expected = LOSSLESS[kind]
    image = only_image(tmp_path, data)
    assert np.array_equal(image, expected.reshape(image.shape))


@pytest.mark.parametrize("kind", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(tmp_path: Path, kind: str) -> None:
    image = COLOUR if kind == "RGBA" else GREY
    result = only_image(tmp_path, encoded(np.dstack([image, ALPHA])))
    assert result.shape[2] == (3 if kind == "RGBA" else 1)
    assert np.abs(result - on_white(image, ALPHA).reshape(result.shape)).max() <= 1.0


def test_a_transparent_colour_of_a_grey_png_becomes_white(tmp_path: Path) -> None:
    result = only_image(tmp_path, encoded(GREY, transparency=int(GREY[2, 2])))[..., 0]
    assert np.array_equal(result, np.where(GREY[2, 2] == GREY, 255, GREY))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_kinds_are_read(tmp_path: Path, kind: str) -> None:
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10)), -1).astype(np.uint8)
    smooth = np.dstack([smooth, np.full_like(smooth[..., :1], 90)])
    result = only_image(tmp_path, encoded(smooth, kind, quality=95))
    assert np.abs(result.astype(int) - smooth).mean() < 6


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(only_image(tmp_path, data, "a.gif")[..., 0], pixels(0))


REFUSED = {
    "floating point": encoded(GREY.astype(np.float32), "TIFF"),
    "32 bits": encoded(GREY.astype(np.int32) * 100_000, "TIFF"),
    "text": b"an image",
    "nothing": b"",
    "PostScript, which is a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n",
    "cut": encoded(COLOUR)[:-30],
    "a bomb": encoded(Image.new("1", (10_000, 9_000))),
    "a larger bomb": encoded(Image.new("1", (20_000, 10_000))),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"a\.png") as error:
        only_image(tmp_path, REFUSED[kind])
    assert ("pixel_range" in str(error.value)) == (kind in ("floating point", "32 bits"))
