"""Read individual image files for a model: converted to its size, channels and value range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softvq_cli.datasets import cache, decode, pixel_range
from softvq_cli.datasets.folder import PathSource, open_folder
from softvq_cli.datasets.naming import check_file_size, is_image_name
from softvq_cli.datasets.pixel_range import DeepError
from softvq_cli.errors import InputError
from softvq_cli.files import as_utf8
from softvq_cli.reporter import Reporter

_GREY = np.array([19595, 38470, 7471])
"""Weights of red, green and blue (of 65536) in the luma of ITU-R BT.601, as in Pillow."""


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images among ``paths``, and in the folders among them, in this order."""
    files = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names = [name for name in sorted(open_folder(path).files.names) if is_image_name(name)]
        if not names:
            raise InputError(f"{path} holds no image files")
        files += [path / name for name in names]
    return files


def read_images(
    files: Sequence[Path], shape: tuple[int, ...], setting: str, reporter: Reporter | None = None
) -> np.ndarray:
    """Read image files as uint8 (N, H, W, C), each resized to ``shape``; a note reports conversions."""
    reporter, (height, width, channels) = reporter or Reporter(), shape
    sources = cache.Files()
    for file in files:
        check_file_size(file.parent, file.name, sources.add(as_utf8(str(file)), file))

    source, tally = PathSource(files[0].parent, "", sources), pixel_range.Tally()

    def attempt(channels: int) -> np.ndarray:
        def fill(put: cache.Put) -> None:
            form = decode.Form(height, width, channels, True, str(files[0]), pixel_range.scale_of(setting))
            items = ((row, sources.names[row], data, 0) for row, data in source.read(source.files))
            tick = lambda done: reporter.progress("decoding", done, len(files))  # noqa: E731
            size = int(sources.sizes.sum())
            tally.update(decode.decode(items, form, put, count=len(files), size=size, tick=tick))

        return cache.in_memory((len(files), height, width, channels), fill)

    try:
        try:
            images = attempt(channels)
        except decode.ColourError:
            images = grey_of(attempt(3))
            reporter.note("colour images for a model of grey images: converted to grey")
    except DeepError as error:
        raise InputError("these images have more than 8 bits, but the model was trained on 8-bit images") from error
    if channels == 1:
        tally["grey"] = 0  # they are converted back to grey
    for note in pixel_range.notes_of(tally, len(files), "first"):
        reporter.note(note)
    if tally["resized"]:
        reporter.note(f"{tally['resized']} of {len(files)} images were resized to the model's {width}x{height}")
    return images


def grey_of(images: np.ndarray) -> np.ndarray:
    """Convert colour images, uint8 (N, H, W, 3), to uint8 (N, H, W, 1)."""
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for start in range(0, len(images), 1024):
        block = np.asarray(images[start : start + 1024]).astype(np.int64)
        grey[start : start + len(block), ..., 0] = (block @ _GREY + 0x8000) >> 16
    return grey
