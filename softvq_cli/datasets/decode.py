"""Decode image files to uint8 pixels, several in parallel.

Large files are decoded by threads, because Pillow's decoders release Python's lock. For files of a few kilobytes, most
time is spent in Python itself, so threads do not help and processes are used. For large images, sending pixels between
processes would take longer than decoding them.
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
from softvq_cli.datasets.pixel_range import DeepError, Raster, Scale, Tally, as_bytes, extent_of, values_of
from softvq_cli.errors import InputError, SoftVQError, one_line
from softvq_cli.process import quiet

Item = tuple[int, str, bytes, int]
"""(row, name for messages, bytes of the file, page)."""
Extent = tuple[float, float, str]
"""(smallest value, largest value, kind) of one image, from :func:`softvq_cli.datasets.pixel_range.extent_of`."""
Result = TypeVar("Result")

_READABLE = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Excluded are formats whose reader starts another program (EPS) or accepts any bytes as an image (TGA)."""
_BLOCK_ITEMS = 256
_BLOCK_BYTES = 16 << 20
_WORTH_PROCESSES = 10_000
"""Number of small files from which worker processes are worth their start of about a second."""
_LARGE_FILE = 16 << 10
_ORIENTATION = 0x0112
"""EXIF tag of the orientation."""
_RAW = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".pef", ".raf", ".srw", ".3fr")
"""File name suffixes of camera RAW files."""
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
"""HEIF brands at the start of a file."""


class ColourError(Exception):
    """A colour image after only grey ones."""


@dataclass(frozen=True)
class Form:
    """The common form of all images."""

    height: int
    width: int
    channels: int
    resize: bool
    """Whether images of other sizes are resized to this one; otherwise they are an error."""
    first: str
    """The file that determined the size."""
    scale: Scale = "full"
    """The values that are mapped to black and white."""


def decode(items: Iterable[Item], form: Form, put: Put, *, count: int, size: int, tick: Callable[[int], None]) -> Tally:
    """Decode ``items`` and pass the pixels to ``put``, in the order of the items."""
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
    """The value range of each image, in the order of the rows; raises InputError like :func:`decode`."""
    by_row: dict[int, Extent] = {}
    for block, values in _worked(items, 64, _survey_block, count, size):
        by_row.update(zip((item[0] for item in block), values, strict=True))
        tick(len(by_row))
    return [by_row[row] for row in sorted(by_row)]


def _executor(count: int, size: int, workers: int) -> Executor | None:
    """The executor for decoding ``count`` files with ``size`` bytes in total; None: decode in this thread."""
    if size > count * _LARGE_FILE:
        return ThreadPoolExecutor(workers)
    if count < _WORTH_PROCESSES or multiprocessing.current_process().daemon:  # daemons cannot have children
        return None
    from joblib.externals.loky import get_reusable_executor

    executor: Executor = get_reusable_executor(max_workers=workers, timeout=20, initializer=_start_worker)
    return executor


def _worked(
    items: Iterable[Item], most: int, work: Callable[[list[Item]], Result], count: int, size: int
) -> Iterator[tuple[list[Item], Result]]:
    """Yield blocks of items and their result in order; this thread reads the next blocks while workers decode."""
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
    """Ignore Ctrl-C, which a terminal sends to every process, so that workers print no traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decode_block(block: list[Item], form: Form) -> tuple[np.ndarray, Tally]:
    """Decode n files to uint8 (n, H, W, C) and count the conversions; runs in a worker."""
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
    extents = []
    for _, name, data, page in block:
        with _errors(name):
            extents.append(extent_of(name, _open(name, data, page, Tally(), deep=True)))
    return extents


def values(item: Item) -> np.ndarray:
    """The numbers of all pixels that have data, before they are mapped to bytes."""
    _, name, data, page = item
    with _errors(name):
        return values_of(_open(name, data, page, Tally(), deep=True))


# ---- one file


def read_image(name: str, data: bytes, scale: Scale = "full", page: int = 0, tally: Tally | None = None) -> np.ndarray:
    """Read one image file as upright uint8 (H, W) or (H, W, 3); for animations, the first frame."""
    tally = Tally() if tally is None else tally
    with _errors(name):
        return as_bytes(name, _open(name, data, page, tally, deep=scale != "full"), scale, tally)


def page_count(name: str, data: bytes) -> int:
    """The number of images in a file, which is 1 except for TIFF and DICOM (InputError: it is damaged)."""
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
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def _open(name: str, data: bytes, page: int, tally: Tally, *, deep: bool) -> Raster:
    """Read a file. 16-bit colour keeps all bits only if ``deep``; otherwise Pillow returns the upper 8."""
    if formats.is_dicom(data):
        return formats.read_dicom(name, data, page, tally)
    if name.lower().endswith(_RAW):
        raise InputError(formats.raw_refused(name))
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        pillow_heif = formats.package("pillow_heif", f"{name} is a HEIC file", "heif")
        if "HEIF" not in _formats():
            pillow_heif.register_heif_opener()
            _formats.cache_clear()
    if not formats.is_tiff(data):
        return _open_with_pillow(data, page, tally, deep=deep)
    directories, others = formats.directories_of(data)
    tally[f"pages:{len(directories)}"] += len(directories) > 1
    tally["overviews"] += others > 0
    tiff = formats.page_of(name, data, *directories[page])
    if not formats.pillow_reads(tiff):
        return Raster(formats.read_tiff(name, data, tiff), tiff.orientation, nodata=tiff.nodata)
    tally["bands"] += tiff.samples == 4 and tiff.photometric == formats.RGB and not tiff.alphas
    tally["upright"] += tiff.orientation in range(2, 9)  # Pillow rotates the image when it loads it
    raster = _open_with_pillow(data, tiff.number, tally, deep=deep)
    if isinstance(raster.pixels, np.ndarray) and (tiff.bits, tiff.kind) == (32, 1):
        raster = replace(raster, pixels=raster.pixels.view(np.uint32))
    return replace(raster, nodata=tiff.nodata)


def _open_with_pillow(data: bytes, page: int, tally: Tally, *, deep: bool) -> Raster:
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        image.seek(page)
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError  # Pillow only warns up to twice its limit
        if _raw_modes(image) == ["LA;16B"]:
            return _grey_and_alpha(image)
        if image.mode in ("RGB", "RGBA") and any(";16" in mode for mode in _raw_modes(image)):
            if deep:
                return _sixteen_bits(data, page)
            tally["sixteen"] += 1  # Pillow's mode cannot represent the lower 8 bits
        tally["frames"] += image.format not in ("TIFF", "MPO") and getattr(image, "n_frames", 1) > 1
        image.load()
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image)
            return Raster(values.astype(values.dtype.newbyteorder("=")), _orientation(image))
        invisible = image.getchannel("A").histogram()[0] if image.format == "BMP" and image.mode == "RGBA" else 0
        if invisible > 0.99 * image.width * image.height:
            tally["opaque"] += 1
            return Raster(image.convert("RGB"))
        return Raster(image, _orientation(image))


def _orientation(image: Image.Image) -> int:
    """The orientation of a loaded image; TIFF images are already upright."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return int(orientation) if orientation in range(2, 9) else 1


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _raw_modes(image: Image.Image) -> list[str]:
    return [_raw_mode(tile.args) for tile in image.tile] if isinstance(image, ImageFile.ImageFile) else []


def _grey_and_alpha(image: Image.Image) -> Raster:
    """The uint16 (H, W, 2) pixels of a PNG: its four bytes per pixel are read as if they were RGBA channels."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    image.load()
    return Raster(np.ascontiguousarray(image).view(">u2").astype(np.uint16), _orientation(image))


def _sixteen_bits(data: bytes, page: int) -> Raster:
    """The uint16 (H, W, 3 or 4) pixels: the file is decoded twice, the second time with swapped byte order."""
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
    raw = _raw_mode(tile.args)
    order = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}[raw[-1]]
    return tile._replace(args=(raw[:-1] + order, *tile.args[1:]) if isinstance(tile.args, tuple) else raw[:-1] + order)
