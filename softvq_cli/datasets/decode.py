"""Encoded image files → uint8 pixels, several at a time.

Large files are decoded by threads, as Pillow's decoders let go of Python's lock. With files of a few kilobytes
most of the time is spent in Python itself, so that threads gain nothing and processes are used; sending
the pixels of large images between processes would cost more than decoding them.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from softvq_cli.datasets import formats
from softvq_cli.datasets.cache import Put
from softvq_cli.datasets.pixel_range import DeepError, Raster, Scale, Tally, as_bytes, extent_of
from softvq_cli.errors import InputError, SoftVQError, one_line
from softvq_cli.process import quiet

Item = tuple[int, str, bytes, int]
"""(row, what to call the file in messages, its bytes, the page of it)."""
Extent = tuple[float, float, str]
"""(smallest value, largest value, kind) of one image, as :func:`softvq_cli.datasets.pixel_range.extent_of` has it."""
Result = TypeVar("Result")

_READABLE = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "HEIF")
"""No format whose reader starts another program (EPS), and none that takes any bytes for an image (TGA)."""
_BLOCK_ITEMS = 256
_BLOCK_BYTES = 16 << 20
_WORTH_PROCESSES = 10_000
"""From so many small files on, worker processes pay for their start of about a second."""
_LARGE_FILE = 16 << 10
_ORIENTATION = 0x0112
"""EXIF's tag."""
_RAW = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".pef", ".raf", ".srw", ".3fr")
"""How the names of cameras' RAW files end."""
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
"""Brands of HEIF, at the start of a file."""


class ColourError(Exception):
    """Images that looked grey so far include one with colour."""


@dataclass(frozen=True)
class Form:
    """What every image has to become."""

    height: int
    width: int
    channels: int
    resize: bool
    """Fit other sizes into this one; else they are an error."""
    first: str
    """The file whose size this is."""
    scale: Scale = "full"
    """Which values become black and white."""


def form_of(item: Item, image_size: int | None, scale: Scale) -> Form:
    """The form that the first image asks of the others; raises as :func:`read_image`."""
    _, name, data, page = item
    image = read_image(name, data, scale, page)
    height, width = image.shape[:2] if image_size is None else (image_size, image_size)
    return Form(height, width, 1 if image.ndim == 2 else 3, image_size is not None, name, scale)


def decode(items: Iterable[Item], form: Form, put: Put, *, count: int, size: int, tick: Callable[[int], None]) -> Tally:
    """Decode ``items`` and hand the pixels to ``put``, in the order of the items."""
    done, tally = 0, Tally()
    most = max(1, min(_BLOCK_ITEMS, _BLOCK_BYTES // (form.height * form.width * form.channels)))
    for block, (pixels, counted) in _worked(items, most, partial(decode_block, form=form), count, size):
        for (row, *_), image in zip(block, pixels, strict=True):
            put(row, image[None])
        done += len(block)
        tally.update(counted)
        tick(done)
    if done != count:
        raise InputError(f"{form.first} and the files next to it changed while they were read; try again")
    return tally


def extents(items: Iterable[Item], *, count: int, size: int, tick: Callable[[int], None]) -> list[Extent]:
    """The values that each image has, in the order of the rows; raises InputError as :func:`decode`."""
    by_row: dict[int, Extent] = {}
    for block, values in _worked(items, 64, _survey_block, count, size):
        by_row.update(zip((item[0] for item in block), values, strict=True))
        tick(len(by_row))
    return [by_row[row] for row in sorted(by_row)]


def _executor(count: int, size: int, workers: int) -> Executor | None:
    """Who decodes ``count`` files of ``size`` bytes in all; None: this thread."""
    if size > count * _LARGE_FILE:
        return ThreadPoolExecutor(workers)
    if count < _WORTH_PROCESSES or multiprocessing.current_process().daemon:  # which may have no children
        return None
    from joblib.externals.loky import get_reusable_executor

    executor: Executor = get_reusable_executor(max_workers=workers, timeout=20, initializer=_start_worker)
    return executor


def _worked(
    items: Iterable[Item], most: int, work: Callable[[list[Item]], Result], count: int, size: int
) -> Iterator[tuple[list[Item], Result]]:
    """Blocks of items with the result of ``work``, in order; while others work, this thread reads the next blocks."""
    import joblib

    items, workers = iter(items), joblib.cpu_count()
    blocks = iter(lambda: list(islice(items, most)), [])
    executor = _executor(count, size, workers)
    if executor is None:
        yield from ((block, work(block)) for block in blocks)
        return
    pending: deque[tuple[list[Item], Future[Result]]] = deque()
    try:
        for block in blocks:
            pending.append((block, executor.submit(work, block)))
            if len(pending) > 2 * workers:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    except BrokenExecutor as error:
        text = "a process that decodes images was killed, perhaps because memory ran out; try again"
        raise SoftVQError(text) from error
    finally:
        for _, future in pending:
            future.cancel()


def _start_worker() -> None:
    """Ctrl-C reaches every process of a terminal; a worker would answer with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decode_block(block: list[Item], form: Form) -> tuple[np.ndarray, Tally]:
    """uint8 (n, H, W, C) of n files, and what had to be done to them; runs in a worker."""
    pixels, tally = np.empty((len(block), form.height, form.width, form.channels), np.uint8), Tally()
    for row, (_, name, data, page) in zip(pixels, block, strict=True):
        image = read_image(name, data, form.scale, page, tally)
        if image.ndim == 3 and form.channels == 1:
            raise ColourError
        tally["grey"] += image.ndim == 2 and form.channels == 3
        height, width = image.shape[:2]
        if (height, width) != (form.height, form.width):
            if not form.resize:
                raise InputError(
                    "images of different sizes: {} has {}x{} pixels, {} has {}x{}; resize them with {image_size}",
                    *(form.first, form.width, form.height, name, width, height),
                )
            tally["cropped"] += width != height
            tally["resized"] += 1
            size = form.width, form.height
            image = np.asarray(ImageOps.fit(Image.fromarray(image), size, method=Image.Resampling.BICUBIC))
        row[...] = image if image.ndim == 3 else image[..., None]
    return pixels, tally


def _survey_block(block: list[Item]) -> list[Extent]:
    """The values that n files have; runs in a worker."""
    extents = []
    for _, name, data, page in block:
        with _errors(name):
            extents.append(extent_of(name, _open(name, data, page, Tally(), deep=True)))
    return extents


# ---- one file


def read_image(name: str, data: bytes, scale: Scale = "full", page: int = 0, tally: Tally | None = None) -> np.ndarray:
    """One image file as uint8 (H, W) or (H, W, 3), upright; of an animation the first frame."""
    tally = Tally() if tally is None else tally
    with _errors(name):
        return as_bytes(name, _open(name, data, page, tally, deep=scale != "full"), scale, tally)


def page_count(name: str, data: bytes) -> int:
    """How many images a file holds: 1 for everything but TIFF and DICOM; InputError: it is damaged."""
    with _errors(name):
        if formats.is_tiff(data):
            return len(formats.directories_of(data)[0])
        return formats.frame_count(name, data) if formats.is_dicom(data) else 1


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        with quiet():  # about odd metadata
            yield
    except (InputError, DeepError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} cannot be read as an image (PNG, JPEG, …); remove it") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds on damaged bytes
        raise InputError(f"{name} is a damaged image ({one_line(error)}); replace or remove it") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the readable formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def _open(name: str, data: bytes, page: int, tally: Tally, *, deep: bool) -> Raster:
    """What the file holds. Colour of 16 bits is read with all of them only if ``deep``: Pillow gives the upper 8."""
    if formats.is_dicom(data):
        return formats.read_dicom(name, data, page, tally)
    if name.lower().endswith(_RAW):
        raise InputError(formats.raw_refused(name))
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        _register_heif(name)
    if not formats.is_tiff(data):
        return _open_with_pillow(data, page, tally, deep=deep)
    directories, others = formats.directories_of(data)
    tally[f"pages:{len(directories)}"] += len(directories) > 1
    tally["overviews"] += others > 0
    tiff = formats.page_of(name, data, *directories[page])
    if not formats.pillow_reads(tiff):
        return Raster(formats.read_tiff(name, data, tiff), tiff.orientation, nodata=tiff.nodata)
    tally["bands"] += tiff.samples == 4 and tiff.photometric == formats.RGB and not tiff.alphas
    tally["upright"] += tiff.orientation in range(2, 9)  # loading the image turns it
    raster = _open_with_pillow(data, tiff.number, tally, deep=deep)
    if isinstance(raster.pixels, np.ndarray) and (tiff.bits, tiff.kind) == (32, 1):
        raster = replace(raster, pixels=raster.pixels.view(np.uint32))
    return replace(raster, nodata=tiff.nodata)


def _open_with_pillow(data: bytes, page: int, tally: Tally, *, deep: bool) -> Raster:
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        image.seek(page)
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError  # of which Pillow only warns up to twice as many
        if _raw_modes(image) == ["LA;16B"]:
            return _grey_and_alpha(image)
        if image.mode in ("RGB", "RGBA") and any(";16" in mode for mode in _raw_modes(image)):
            if deep:
                return _sixteen_bits(data, page)
            tally["sixteen"] += 1  # Pillow's mode has no place for the lower 8
        tally["frames"] += image.format not in ("TIFF", "MPO") and getattr(image, "n_frames", 1) > 1
        image.load()
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image)
            return Raster(values.astype(values.dtype.newbyteorder("=")), _orientation(image))
        if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
            tally["opaque"] += 1
            return Raster(image.convert("RGB"))
        return Raster(image, _orientation(image))


def _register_heif(name: str) -> None:
    """Have Pillow read HEIC files as iPhones write them."""
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(f"{name} is a HEIC file, which needs pillow-heif: pip install 'softvq[heif]'") from error
    if "HEIF" not in _formats():
        pillow_heif.register_heif_opener()
        _formats.cache_clear()


def _orientation(image: Image.Image) -> int:
    """Of an image that is loaded: loading a TIFF has turned it upright already."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return int(orientation) if orientation in range(2, 9) else 1


def _raw_mode(args: object) -> str:
    """How a decoder is told to read the pixels, by its arguments."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _raw_modes(image: Image.Image) -> list[str]:
    return [_raw_mode(tile.args) for tile in image.tile] if isinstance(image, ImageFile.ImageFile) else []


def _grey_and_alpha(image: Image.Image) -> Raster:
    """uint16 (H, W, 2) of a PNG: its four bytes a pixel are read as if they were the channels of RGBA."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    image.load()
    return Raster(np.ascontiguousarray(image).view(">u2").astype(np.uint16), _orientation(image))


def _sixteen_bits(data: bytes, page: int) -> Raster:
    """uint16 (H, W, 3 or 4): the file is decoded twice, the second time as if its bytes stood the other way round."""
    halves, orientation = [], 1
    for swap in (False, True):
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            image.seek(page)
            if swap and isinstance(image, ImageFile.ImageFile):
                image.tile = [*map(_swapped, image.tile)]
            image.load()
            halves.append(np.asarray(image).astype(np.uint16))
            orientation = _orientation(image)
    return Raster(halves[0] * np.uint16(256) + halves[1], orientation)


def _swapped(tile: Any) -> Any:
    """What a decoder is told, with the other order of bytes."""
    raw = _raw_mode(tile.args)
    order = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}[raw[-1]]
    return tile._replace(args=(raw[:-1] + order, *tile.args[1:]) if isinstance(tile.args, tuple) else raw[:-1] + order)
