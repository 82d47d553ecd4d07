"""Process-wide settings that several threads may change at once: warnings, numbers of threads, TF32.

After a public call all of them have their old values, whatever other threads do. The command line and workers, which
own their process, also change some of them permanently.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Shared:
    """A process-wide setting that several threads may hold at once: the first sets it, the last restores it."""

    def __init__(self, setting: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._setting, self._lock, self._users = setting, threading.RLock(), 0
        self._set = contextlib.ExitStack()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the setting within the block."""
        with self._lock:
            if not self._users:
                self._set.enter_context(self._setting())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._set.close()


# ---- warnings


class _Quiet:
    """Replaces the text in a warnings filter; it matches in threads that are within a block."""

    def __init__(self, category: type[Warning]) -> None:
        self._depth = threading.local()
        self._filter: Any = ("ignore", self, category, None, 0)
        self._there = Shared(self._inserted)

    def match(self, text: str) -> bool:
        return getattr(self._depth, "value", 0) > 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._there.held():
            self._depth.value = getattr(self._depth, "value", 0) + 1
            try:
                yield
            finally:
                self._depth.value -= 1

    @contextlib.contextmanager
    def _inserted(self) -> Iterator[None]:
        # catch_warnings() is not used: if two overlap, the filters of the first remain permanently.
        filters: Any = warnings.filters
        filters.insert(0, self._filter)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # other code has restored the previous filters
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]


def quiet(category: type[Warning] = Warning) -> contextlib.AbstractContextManager[None]:
    """Within the block, suppress warnings of this category in the current thread."""
    return _quiet.setdefault(category, _Quiet(category)).held()


_quiet: dict[type[Warning], _Quiet] = {}


# ---- environment


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Within the block, environment variables have these values; None: not set."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set_environment(changes)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# ---- numbers of threads


@functools.cache
def _library() -> Any:
    """PyTorch's library, which provides the OpenMP and MKL functions that it calls."""
    import torch

    return ctypes.CDLL(torch._C.__file__)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, PyTorch uses ``count`` CPU threads for calls from this thread.

    ``torch.set_num_threads`` would also change other Python threads: those started meanwhile and, with MKL, all.
    """
    import torch

    before, restore = torch.get_num_threads(), contextlib.ExitStack()
    try:
        _library().omp_set_num_threads(count)
        restore.callback(_library().omp_set_num_threads, before)
        if local := getattr(_library(), "MKL_Set_Num_Threads_Local", None):
            restore.callback(local, local(count))
    except (AttributeError, OSError):  # PyTorch built with other libraries
        torch.set_num_threads(count)
        restore.callback(torch.set_num_threads, before)
    with restore:
        yield


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    import scipy.linalg  # noqa: F401 (SciPy's OpenBLAS: once it is loaded it can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


one_blas_thread = Shared(_one_blas_thread)
"""NumPy and SciPy products use one thread."""


# ---- accelerators


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


whole_float32 = Shared(_whole_float32)
"""CUDA convolutions use full float32; by default they round to 10 bits."""
