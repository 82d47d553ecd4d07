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
from itertools import islice

import numpy as np
from PIL import Image, ImageOps

from softvq_cli.datasets.cache import Put
from softvq_cli.datasets.pixels import be_strict, read_image, strict_warnings
from softvq_cli.errors import InputError, SoftVQError, param

Item = tuple[int, str, bytes]
"""(row, what to call the file in messages, its bytes)."""

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


def form_of(name: str, data: bytes, image_size: int | None) -> Form:
    """What the first image asks of the others.

    Raises:
        InputError: it is no image, or damaged.
    """
    with strict_warnings():
        image = read_image(name, data)
    channels = 1 if image.mode == "L" else 3
    if image_size is not None:
        return Form(image_size, image_size, channels, True, name)
    return Form(image.height, image.width, channels, False, name)


def decode(items: Iterable[Item], form: Form, put: Put, *, count: int, size: int, tick: Callable[[int], None]) -> None:
    """Decode ``items`` and hand the pixels to ``put``, in the order of the items.

    Args:
        items: read as they are needed, so that memory holds a few blocks only.
        form: what every image has to become.
        put: receives runs of rows.
        count: how many items there are.
        size: their bytes, all together.
        tick: called with the number of images done.

    Raises:
        InputError: a file is no image, is damaged, or has another size than the first.
        ColourError: the form is grey and an image is not; start again with three channels.
    """
    done = 0
    with strict_warnings():
        for block, pixels in _decoded(_blocks(items, form), form, *_executor(count, size)):
            for start, stop in _runs([row for row, _, _ in block]):
                put(block[start][0], pixels[start:stop])
            done += len(block)
            tick(done)
    if done != count:
        raise InputError(f"{form.first} and the files beside it changed while they were read; try again")


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


def _decoded(
    blocks: Iterable[list[Item]], form: Form, executor: Executor | None, workers: int
) -> Iterator[tuple[list[Item], np.ndarray]]:
    """Each block with its pixels, in order; while others decode, this thread reads the next blocks."""
    if executor is None:
        yield from ((block, decode_block(block, form)) for block in blocks)
        return
    pending: deque[tuple[list[Item], Future[np.ndarray]]] = deque()
    try:
        for block in blocks:
            pending.append((block, executor.submit(decode_block, block, form)))
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


def _blocks(items: Iterable[Item], form: Form) -> Iterator[list[Item]]:
    """Lists of items, small enough that the pixels of many of them fit into memory."""
    most = max(1, min(_BLOCK_ITEMS, _BLOCK_BYTES // (form.height * form.width * form.channels)))
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


def decode_block(block: list[Item], form: Form) -> np.ndarray:
    """uint8 (n, H, W, C) of n files; runs in a worker."""
    pixels = np.empty((len(block), form.height, form.width, form.channels), np.uint8)
    for row, (_, name, data) in zip(pixels, block, strict=True):
        image = read_image(name, data)
        if image.mode == "RGB" and form.channels == 1:
            raise ColourError
        if form.channels == 3 and image.mode == "L":
            image = image.convert("RGB")
        if image.size != (form.width, form.height):
            if not form.resize:
                raise InputError(
                    f"images of different sizes: {form.first} has {form.width}x{form.height} pixels, "
                    f"{name} has {image.width}x{image.height}; resize them with {param('image_size')}"
                )
            image = ImageOps.fit(image, (form.width, form.height), method=Image.Resampling.BICUBIC)
        row[...] = np.asarray(image).reshape(row.shape)
    return pixels
