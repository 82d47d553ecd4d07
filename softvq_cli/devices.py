"""Where the numbers are crunched: the CPU, or an accelerator that is here."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.errors import UsageError, param, unknown_name
from softvq_cli.words import DEVICES

if TYPE_CHECKING:
    import numpy as np
    import torch


def pick(device: str = "auto") -> torch.device:
    """The device to work on.

    Args:
        device: ``auto`` takes the accelerator if there is one; ``cpu``, ``cuda`` and ``mps`` are taken at their word.

    Raises:
        UsageError: an unknown name, or an accelerator that this machine or this PyTorch does not have.
    """
    import torch

    if device not in DEVICES:
        raise UsageError(unknown_name(f"value of {param('device')}", device, DEVICES))
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, is_here in here.items() if is_here]
    name = present[0] if device == "auto" else device
    if name not in present:
        there = " and ".join(present)
        raise UsageError(f"{param('device')} {name}: PyTorch finds no such device here; there is {there}")
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32: by default convolutions round to 10 bits
    return torch.device(name)


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


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, PyTorch computes on the CPU with ``count`` threads, whatever the machine has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    """``host``, the name of this machine, and ``processor``, what :func:`pick` finds to work on."""
    import platform

    import torch

    target = pick(device)
    name = torch.cuda.get_device_name(target) if target.type == "cuda" else _processor()
    return {"host": platform.node(), "processor": name}


def _processor() -> str:
    """The processor's name as its maker spells it, where the system tells."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
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
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(images)
