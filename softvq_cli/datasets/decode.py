"""Encoded image files → uint8 pixels, several at a time.

Large files are decoded by threads, as Pillow's decoders let go of Python's lock. With files of a few kilobytes
most of the time is spent in Python itself, so that threads gain nothing and processes are used; sending
the pixels of large images between processes would cost more than decoding them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from softvq_cli.datasets.cache import Put
from softvq_cli.datasets.pixels import Tally, be_strict, read_image, strict_warnings, survey
from softvq_cli.datasets.ranges import Scale
from softvq_cli.errors import InputError, SoftVQError, param

Item = tuple[int, str, bytes, int]
"""(row, what to call the file in messages, its bytes, the page of it)."""
Extent = tuple[float, float, str]
"""(smallest value, largest value, kind) of one image, as :func:`softvq_cli.datasets.pixels.survey` gives them."""
Result = TypeVar("Result")

_BLOCK_ITEMS = 256
_BLOCK_BYTES = 16 << 20
_WORTH_PROCESSES = 10_000
"""From so many small files on, worker processes pay for their start of about a second."""
_LARGE_FILE = 16 << 10


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
    """What the first image asks of the others.

    Raises:
        InputError: it is no image, or damaged.
        DeepError: ``scale`` is auto, and it has more than 8 bits a sample.
    """
    _, name, data, page = item
    with strict_warnings():
        image = read_image(name, data, scale, page)
    channels = 1 if image.mode == "L" else 3
    if image_size is not None:
        return Form(image_size, image_size, channels, True, name, scale)
    return Form(image.height, image.width, channels, False, name, scale)


def decode(items: Iterable[Item], form: Form, put: Put, *, count: int, size: int, tick: Callable[[int], None]) -> Tally:
    """Decode ``items`` and hand the pixels to ``put``, in the order of the items.

    Args:
        items: read as they are needed, so that memory holds a few blocks only.
        form: what every image has to become.
        put: receives runs of rows.
        count: how many items there are.
        size: their bytes, all together.
        tick: called with the number of images done.

    Returns:
        What had to be done to how many.

    Raises:
        InputError: a file is no image, is damaged, or has another size than the first.
        ColourError: the form is grey and an image is not; start again with three channels.
        DeepError: the range is to be found, and an image has more than 8 bits; start again with one.
    """
    done, tally = 0, Tally()
    most = max(1, min(_BLOCK_ITEMS, _BLOCK_BYTES // (form.height * form.width * form.channels)))
    with strict_warnings():
        work = _worked(_blocks(items, most), partial(decode_block, form=form), *_executor(count, size))
        for block, (pixels, counted) in work:
            for start, stop in _runs([item[0] for item in block]):
                put(block[start][0], pixels[start:stop])
            done += len(block)
            tally.update(counted)
            tick(done)
    if done != count:
        raise InputError(f"{form.first} and the files beside it changed while they were read; try again")
    return tally


def extents(items: Iterable[Item], *, count: int, size: int, tick: Callable[[int], None]) -> list[Extent]:
    """The values that each image has, in the order of the rows; raises InputError as :func:`decode`."""
    found: dict[int, Extent] = {}
    with strict_warnings():
        for block, values in _worked(_blocks(items, 64), survey_block, *_executor(count, size)):
            found.update(zip((item[0] for item in block), values, strict=True))
            tick(len(found))
    return [found[row] for row in sorted(found)]


def _executor(count: int, size: int) -> tuple[Executor | None, int]:
    """(who decodes ``count`` files of ``size`` bytes in all, how many at a time); None: this thread."""
    import joblib

    workers = joblib.cpu_count()
    if size > count * _LARGE_FILE:
        return ThreadPoolExecutor(workers), workers
    if count < _WORTH_PROCESSES or multiprocessing.current_process().daemon:  # which may have no children
        return None, 1
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(max_workers=workers, timeout=20, initializer=_start_worker), workers


def _worked(
    blocks: Iterable[list[Item]], work: Callable[[list[Item]], Result], executor: Executor | None, workers: int
) -> Iterator[tuple[list[Item], Result]]:
    """Each block with what ``work`` makes of it, in order; while others work, this thread reads the next blocks."""
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
        raise SoftVQError("a process that decodes images was killed, perhaps for want of memory; try again") from error
    finally:
        for _, future in pending:
            future.cancel()


def _start_worker() -> None:
    """Ctrl-C reaches every process of a terminal; a worker would answer with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_strict()


def _blocks(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Lists of so many items."""
    items = iter(items)
    while block := list(islice(items, most)):
        yield block


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each run of consecutive numbers."""
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop] != rows[stop - 1] + 1:
            yield start, stop
            start = stop


def decode_block(block: list[Item], form: Form) -> tuple[np.ndarray, Tally]:
    """uint8 (n, H, W, C) of n files, and what had to be done to them; runs in a worker."""
    pixels, tally = np.empty((len(block), form.height, form.width, form.channels), np.uint8), Tally()
    for row, (_, name, data, page) in zip(pixels, block, strict=True):
        image = read_image(name, data, form.scale, page, tally)
        if image.mode == "RGB" and form.channels == 1:
            raise ColourError
        if form.channels == 3 and image.mode == "L":
            tally["grey"] += 1
            image = image.convert("RGB")
        if image.size != (form.width, form.height):
            if not form.resize:
                raise InputError(
                    f"images of different sizes: {form.first} has {form.width}x{form.height} pixels, "
                    f"{name} has {image.width}x{image.height}; resize them with {param('image_size')}"
                )
            tally["cropped"] += image.width != image.height
            image = ImageOps.fit(image, (form.width, form.height), method=Image.Resampling.BICUBIC)
        row[...] = np.asarray(image).reshape(row.shape)
    return pixels, tally


def survey_block(block: list[Item]) -> list[Extent]:
    """The values that n files have; runs in a worker."""
    return [survey(name, data, page) for _, name, data, page in block]
