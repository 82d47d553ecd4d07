"""Where the numbers are crunched: the CPU, or an accelerator that is here."""

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
    """The device to work on: for ``auto`` the accelerator if there is one (UsageError: there is no such device)."""
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
    """(number of this process, number of processes) where torchrun has started several of this program."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    return (int(os.environ["RANK"]), size) if size > 1 else None


def processors(jobs: int | None = None) -> int:
    """How many threads evaluation takes, in every command and function that has no setting for it.

    ``jobs``; else what ``OMP_NUM_THREADS`` says; else one for each processor that this process was granted. Never more
    than those, counted by its affinity and by the limit of its container, which OpenMP does not know.
    """
    import joblib

    granted = int(joblib.cpu_count())
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # of a list: the outermost level
    return min(jobs or (int(first) if first.isdecimal() else 0) or granted, granted)


@contextlib.contextmanager
def evaluation_threads(jobs: int | None = None) -> Iterator[int]:
    """Within the block OpenMP has :func:`processors` threads, and a product of NumPy or SciPy one.

    Their OpenBLAS has threads of its own, which wait in a circle whatever ``OMP_WAIT_POLICY`` says: beside busy
    programs the probe took fifty times as long on two (docs/PERFORMANCE.md). And the last digits of a product depend
    on how many share it; with one, they do not depend on the machine's processors. Yields how many threads to take for
    work that is cut into parts of the same bytes.
    """
    from threadpoolctl import threadpool_limits

    count = processors(jobs)
    with one_blas_thread.held(), threadpool_limits(count, "openmp"):  # OpenMP's number is of this thread alone
        yield count


@contextlib.contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Within the block PyTorch computes in full float32, without gradients, and with no more threads than processors.

    By itself it asks the affinity alone how many there are, and not the container.
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
"""mallopt's M_MMAP_THRESHOLD, the most that every glibc takes, and M_TRIM_THRESHOLD: bytes."""
_DECIDED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Environment variables with which a user has said what glibc does with freed memory."""


@functools.cache
def keep_freed_memory() -> None:
    """Have this process keep the memory that a training step frees, for the next step.

    glibc gives the gradients' memory back to the system at every step, which has to clear it and map it again for the
    next: up to a fifth of a step of the small networks (docs/PERFORMANCE.md). Elsewhere, and where the environment
    says what is to be done with it, nothing happens.
    """
    if any(name in os.environ for name in _DECIDED):
        return
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no such function in other C libraries
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _KEPT.items():
            mallopt(parameter, value)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether matrix products are to run in bfloat16: asked for, or ``auto`` and the processor is built for it."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # not in every torch that we support
        return any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def machine(device: str = "auto") -> dict[str, str]:
    """``host``, the name of this machine, ``processor``, what :func:`pick` finds to work on, and who works there."""
    import platform

    import torch

    target = pick(device)
    name = torch.cuda.get_device_name(target) if target.type == "cuda" else _processor()
    return {"host": platform.node(), "processor": name, "softvq": __version__, "torch": torch.__version__}


def _processor() -> str:
    """The processor's name as its maker spells it, where the system tells."""
    import platform

    with contextlib.suppress(OSError):
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if name := re.search(r"^model name\s*:\s*(.+?)\s*$", information, re.MULTILINE):
            return name[1]
    return platform.processor() or platform.machine()


def free_memory(device: torch.device) -> int | None:
    """Bytes that an accelerator has left; None on the CPU, which works in the memory that the data lie in."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """The array as a tensor over the same memory, which may be a read-only map: it is never written."""
    import numpy as np
    import torch

    return torch.from_numpy(images if images.flags.writeable else np.asarray(_Writable(images)))


class _Writable:
    """An array as if it could be written: PyTorch, which has no tensors that cannot, would warn."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        there = array.__array_interface__
        self.__array_interface__ = {**there, "data": (there["data"][0], False)}
