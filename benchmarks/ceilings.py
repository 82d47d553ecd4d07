"""What the machine can do, and how near a training step comes to it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, table
from softvq_cli.training.session import Session

BATCHES = {"mnist": (32, 64, 1024), "svhn": (32, 128)}


def matrix_rate(setting: Setting) -> float:
    """Floating-point operations a second of large float32 matrix products, at best."""
    n = 512 if setting.quick else 2048
    a, b = torch.randn(n, n, device=setting.device), torch.randn(n, n, device=setting.device)
    seconds = in_turn({"product": lambda: a @ b}, 10 * setting.rounds, setting.clock)["product"]
    return 2 * n**3 / float(seconds.min())


def bandwidth(setting: Setting) -> float:
    """Bytes a second from memory and back, at best, of arrays much larger than the caches."""
    a = torch.zeros((1 << 22) if setting.quick else (1 << 26), device=setting.device)
    b = torch.zeros_like(a)
    runs = {"in place": lambda: a.add_(1.0), "copy": lambda: b.copy_(a)}
    return 2 * a.nbytes / min(float(s.min()) for s in in_turn(runs, 3 * setting.rounds, setting.clock).values())


def operations(one: Session) -> int:
    """Floating-point operations of the matrix products and convolutions of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        one.optimise(one.source.batch(0))
    return int(counter.get_total_flops())


def bytes_moved(one: Session) -> int:
    """Bytes through memory that no step avoids: 4 times 10 for each weight.

    Forward and backward read it; backward writes its gradient; Adam reads weight, gradient and two moments, and
    writes all but the gradient.
    """
    return 4 * 10 * sum(p.numel() for p in one.model.parameters())


def section(setting: Setting) -> str:
    rate, width = matrix_rate(setting), bandwidth(setting)
    rows = list(_rows(setting, rate, width))
    return "\n".join(
        [
            "## A training step and its floor",
            "",
            f"Ceilings: {rate / 1e9:.0f} GFLOP/s in float32 matrix products, {width / 1e9:.0f} GB/s of memory read and "
            "written. Floor of a step: operations / rate + bytes / bandwidth.",
            "",
            table(["preset", "batch", "GFLOP", "MB", "floor, ms", "step, ms", "floor / step"], rows),
        ]
    )


def _rows(setting: Setting, rate: float, width: float) -> Iterator[list[Any]]:
    for data, batches in BATCHES.items():
        for bottleneck in ("soft-vq", "ae"):
            for batch in (4,) if setting.quick else batches:
                one = session(data, setting, bottleneck=bottleneck, batch_size=batch)
                work, moved = operations(one), bytes_moved(one)
                steps = 1 if setting.quick else max(1, 320 // batch)
                run = {"step": functools.partial(training(one), steps)}
                step = float(np.median(in_turn(run, setting.rounds, setting.clock)["step"])) / steps
                floor = work / rate + moved / width
                arch = one.config.model.arch.upper()
                yield [
                    f"{data} {arch}, {bottleneck}",
                    batch,
                    f"{work / 1e9:.2f}",
                    f"{moved / 1e6:.0f}",
                    f"{floor * 1e3:.2f}",
                    f"{step * 1e3:.2f}",
                    f"{floor / step:.2f}",
                ]
