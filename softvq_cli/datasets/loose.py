"""Image files given by name, as a model takes them: its size, its channels, its range of values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from softvq_cli.datasets import decode, pixel_range
from softvq_cli.datasets.folder import open_folder
from softvq_cli.datasets.naming import check_file_size, is_image_name
from softvq_cli.datasets.pixel_range import DeepError
from softvq_cli.errors import InputError
from softvq_cli.files import as_utf8
from softvq_cli.reporter import Reporter

_GREY = np.array([19595, 38470, 7471])
"""Of 65536: the weights of red, green and blue in ITU-R BT.601's luma, as Pillow has them."""


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images among ``paths`` and in the folders among them, in this order."""
    files = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names = [name for name in sorted(open_folder(path).listing.files.names) if is_image_name(name)]
        if not names:
            raise InputError(f"{path} holds no image files")
        files += [path / name for name in names]
    return files


def read_images(
    files: Sequence[Path], shape: tuple[int, ...], setting: str, reporter: Reporter | None = None
) -> np.ndarray:
    """uint8 (N, H, W, C) of image files, each fitted into ``shape``; a note says what had to be done."""
    reporter, (height, width, channels) = reporter or Reporter(), shape
    sizes: Counter[tuple[int, int]] = Counter()

    def attempt(form: decode.Form) -> np.ndarray:
        images = np.empty((len(files), form.height, form.width, form.channels), np.uint8)

        def put(row: int, pixels: np.ndarray) -> None:
            images[row : row + len(pixels)] = pixels

        tally = decode.decode(
            *(_items(files), form, put),
            count=len(files),
            size=sum(map(_size, files)),
            tick=lambda done: reporter.progress("decoding", done, len(files)),
        )
        if channels == 1:
            tally["grey"] = 0  # they become grey again
        for note in pixel_range.notes_of(tally, len(files), "first"):
            reporter.note(note)
        return images

    form = decode.Form(height, width, channels, True, str(files[0]), pixel_range.scale_of(setting))
    try:
        try:
            images = attempt(form)
        except decode.ColourError:
            colour = attempt(decode.Form(height, width, 3, True, str(files[0]), form.scale))
            images = grey_of(colour)
            reporter.note("colour images for a model of grey images: converted to grey")
    except DeepError as error:
        raise InputError("these images have more than 8 bits, but the model was trained on 8-bit images") from error
    for file in files:
        sizes[_image_size(file)] += 1
    others = sum(count for size, count in sizes.items() if size not in ((width, height), (0, 0)))
    if others:
        reporter.note(f"{others} of {len(files)} images were resized to the model's {width}x{height}")
    return images


def grey_of(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 1) of colour images, uint8 (N, H, W, 3)."""
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for start in range(0, len(images), 1024):
        block = np.asarray(images[start : start + 1024]).astype(np.int64)
        grey[start : start + len(block), ..., 0] = (block @ _GREY + 0x8000) >> 16
    return grey


def _items(files: Sequence[Path]) -> Iterator[decode.Item]:
    for row, file in enumerate(files):
        try:
            check_file_size(file.parent, file.name, _size(file))
            yield row, as_utf8(str(file)), file.read_bytes(), 0
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from error


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error


def _image_size(file: Path) -> tuple[int, int]:
    """(width, height) as the file says; (0, 0) where only another reader knows."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size
    except Exception:  # a DICOM file, which has been read before
        return 0, 0
