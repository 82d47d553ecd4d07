"""The device, the number of threads and the thoroughness of the measurements."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import joblib
import torch
from threadpoolctl import threadpool_limits

from softvq_cli.devices import pick, uses_bfloat16


@dataclass(frozen=True)
class Setting:
    quick: bool
    rounds: int
    threads: int
    clock: str
    device: torch.device

    @classmethod
    def of(cls, quick: bool, rounds: int | None, threads: int | None, clock: str, device: str) -> Setting:
        """Create a setting and apply it."""
        setting = cls(quick, rounds or (2 if quick else 15), threads or joblib.cpu_count(), clock, pick(device))
        setting.apply()
        return setting

    def apply(self) -> None:
        """Set the number of threads of this process."""
        torch.set_num_threads(self.threads)
        threadpool_limits(self.threads)

    def describe(self) -> str:
        where = torch.cuda.get_device_name() if self.device.type == "cuda" else processor()
        bfloat16 = "has" if uses_bfloat16("auto", self.device) else "lacks"
        return (
            f"Measured on {where}, {joblib.cpu_count()} cores, {self.threads} of them used, which {bfloat16} bfloat16; "
            f"PyTorch {torch.__version__}, Python {platform.python_version()}; medians of {self.rounds} rounds in "
            f"turn, {self.clock} time."
        )


def processor() -> str:
    """The name of the processor, if the system provides it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
