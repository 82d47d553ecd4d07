"""Images that do not fit into the cache, decoded row by row when they are asked for, several at a time.

Their files are read where they lie, or, where a row cannot be reached without all before it (a table, a compressed
archive), from a copy in the cache that holds them one after the other, still encoded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from softvq_cli.datasets import decode
from softvq_cli.datasets.dataset import blocks
from softvq_cli.datasets.records import Fetch


class OnDemand:
    """What an array of the decoded images would be, as far as it is read: rows, runs of rows, all of them."""

    itemsize, ndim, dtype = 1, 4, np.dtype(np.uint8)

    def __init__(self, count: int, form: decode.Form, fetch: Fetch, name: Callable[[int], tuple[str, int]]) -> None:
        """``name`` says what to call a row in messages, and which page of its file it is."""
        self.shape = (count, form.height, form.width, form.channels)
        self.nbytes = math.prod(self.shape)
        self._form, self._fetch, self._name = form, fetch, name
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            images: np.ndarray = self[key[0]][(slice(None), *key[1:])]
            return images
        rows = np.arange(len(self))[key]
        if rows.ndim == 0:
            return self._decoded(int(rows))
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, decoded in zip(pixels, self._map(rows.tolist()), strict=True):
            image[...] = decoded
        return pixels

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in blocks(self):  # type: ignore[arg-type]
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def _map(self, rows: list[int]) -> Iterator[np.ndarray]:
        import joblib

        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(joblib.cpu_count(), "softvq-decode")
        return self._threads.map(self._decoded, rows)

    def _decoded(self, row: int) -> np.ndarray:
        name, page = self._name(row)
        pixels, _ = decode.decode_block([(row, name, self._fetch(row), page)], self._form)
        image: np.ndarray = pixels[0]
        return image
