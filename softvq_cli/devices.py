"""Devices, threads and memory: the CPU or an accelerator, and how this process uses it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.errors import Message, UsageError, unknown_name
from softvq_cli.process import one_blas_thread, threads, whole_float32
from softvq_cli.version import __version__
from softvq_cli.words import DEVICES

if TYPE_CHECKING:
    import numpy as np
    import torch


def pick(device: str = "auto") -> torch.device:
    """The device to use; for ``auto`` the accelerator, if there is one (UsageError: the device is not available)."""
    import torch

    if device not in DEVICES:
        raise UsageError(unknown_name(Message("value of {device}"), device, DEVICES))
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, is_here in here.items() if is_here]
    name = present[0] if device == "auto" else device
    if name not in present:
        there = " and ".join(present)
        raise UsageError("{device} {}: PyTorch finds no such device here; available: {}", name, there)
    return torch.device(name)


def torchrun() -> tuple[int, int] | None:
    """(index of this process, number of processes) if torchrun has started several, else None."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    return (int(os.environ["RANK"]), size) if size > 1 else None


def processors(jobs: int | None = None) -> int:
    """Number of threads for evaluation, in every command and function without a setting for it.

    It is ``jobs``, or else ``OMP_NUM_THREADS``, or else one per available processor. It never exceeds the processors
    allowed by the affinity of the process and by the limit of its container, which OpenMP does not know.
    """
    import joblib

    granted = int(joblib.cpu_count())
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the outermost level of a list
    return min(jobs or (int(first) if first.isdecimal() else 0) or granted, granted)


@contextlib.contextmanager
def evaluation_threads(jobs: int | None = None) -> Iterator[int]:
    """Within the block, OpenMP uses :func:`processors` threads, and a NumPy or SciPy product one.

    The OpenBLAS of NumPy and SciPy has its own threads, which busy-wait whatever ``OMP_WAIT_POLICY`` says: next to busy
    programs, the probe took fifty times as long with two (docs/PERFORMANCE.md). The last digits of a product depend on
    the number of its threads; with one, results are the same on all machines. Yields the number of threads for work
    that is split into parts independently of it.
    """
    from threadpoolctl import threadpool_limits

    count = processors(jobs)
    with one_blas_thread.held(), threadpool_limits(count, "openmp"):  # OpenMP's limit applies to this thread only
        yield count


@contextlib.contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Within the block, PyTorch computes in full float32, without gradients, and with at most one thread per processor.

    By default, PyTorch respects the affinity, but not the limit of a container.
    """
    import joblib
    import torch

    fewer: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        granted = int(joblib.cpu_count())
        fewer = threads(granted) if granted < torch.get_num_threads() else fewer
    with whole_float32.held(), fewer, torch.inference_mode():
        yield


_KEPT = {-3: 32 << 20, -1: 1 << 30}
"""Parameters of mallopt, in bytes: M_MMAP_THRESHOLD (the maximum in every glibc) and M_TRIM_THRESHOLD."""
_DECIDED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Environment variables with which users configure how glibc treats freed memory."""


@functools.cache
def keep_freed_memory() -> None:
    """Configure glibc to keep memory that a training step frees for the next step.

    By default, glibc returns the gradients' memory to the system at every step, which must clear and map it again: up
    to a fifth of the time of a step of the small networks (docs/PERFORMANCE.md). With other C libraries, or if the
    environment configures this, nothing changes.
    """
    if any(name in os.environ for name in _DECIDED):
        return
    with contextlib.suppress(OSError, TypeError, AttributeError):  # other C libraries lack the function
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _KEPT.items():
            mallopt(parameter, value)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether matrix products use bfloat16: on request, or for ``auto`` if the processor supports it natively."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # missing in some supported torch releases
        return any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def machine(device: str = "auto") -> dict[str, str]:
    """``host``, ``processor`` (that of the device from :func:`pick`), and the versions of softvq and torch."""
    import platform

    import torch

    target = pick(device)
    name = torch.cuda.get_device_name(target) if target.type == "cuda" else _processor()
    return {"host": platform.node(), "processor": name, "softvq": __version__, "torch": torch.__version__}


def _processor() -> str:
    """The processor's name as given by its maker, if the system provides it."""
    import platform

    with contextlib.suppress(OSError):
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if name := re.search(r"^model name\s*:\s*(.+?)\s*$", information, re.MULTILINE):
            return name[1]
    return platform.processor() or platform.machine()


def free_memory(device: torch.device) -> int | None:
    """Free memory of an accelerator in bytes; None on the CPU, where the data are already in memory."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """A tensor that shares the memory of the array, which may be a read-only map: it is never written."""
    import numpy as np
    import torch

    return torch.from_numpy(images if images.flags.writeable else np.asarray(_Writable(images)))


class _Writable:
    """Presents an array as writable, because PyTorch would warn about a read-only one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        there = array.__array_interface__
        self.__array_interface__ = {**there, "data": (there["data"][0], False)}
