"""Where the numbers are crunched: the CPU, or an accelerator that is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softvq_cli.errors import UsageError, param, unknown_name
from softvq_cli.words import DEVICES

if TYPE_CHECKING:
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
