"""The limits of the machine, and how close a training step comes to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, ratio, table
from softvq_cli.training.session import Session

_HEADER = ("preset", "batch", "GFLOP", "MB", "floor, ms", "step, ms", "floor / step", "own, ms", "step / own")
BATCHES = {"mnist": (32, 64, 1024), "svhn": (32, 128)}


def matrix_rate(setting: Setting) -> float:
    """Maximum rate of large float32 matrix products, in floating-point operations per second."""
    n = 512 if setting.quick else 2048
    a, b = torch.randn(n, n, device=setting.device), torch.randn(n, n, device=setting.device)
    seconds = in_turn({"product": lambda: a @ b}, 10 * setting.rounds, setting.clock)["product"]
    return 2 * n**3 / float(seconds.min())


def bandwidth(setting: Setting) -> float:
    """Maximum memory bandwidth in bytes per second, for arrays much larger than the caches."""
    a = torch.zeros((1 << 22) if setting.quick else (1 << 26), device=setting.device)
    b = torch.zeros_like(a)
    runs = {"in place": lambda: a.add_(1.0), "copy": lambda: b.copy_(a)}
    return 2 * a.nbytes / min(float(s.min()) for s in in_turn(runs, 3 * setting.rounds, setting.clock).values())


def operations(one: Session) -> int:
    """Number of floating-point operations in the matrix products and convolutions of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        one.optimise(one.source.batch(0))
    return int(counter.get_total_flops())


def bytes_moved(one: Session) -> int:
    """Minimum number of bytes that a step moves through memory: 4 bytes, 10 times for each weight.

    The forward and backward pass read it; the backward pass writes its gradient; Adam reads weight, gradient and two
    moments, and writes all but the gradient.
    """
    return 4 * 10 * sum(p.numel() for p in one.model.parameters())


_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::convolution", "aten::convolution_backward")


class _Recorder(TorchDispatchMode):
    """Records the matrix products and convolutions in order, with arguments of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] in _PRODUCTS:
            alike = torch.utils._pytree.tree_map_only(torch.Tensor, _alike, (args, kwargs or {}))
            self.calls.append(functools.partial(func, *alike[0], **alike[1]))
        return func(*args, **(kwargs or {}))


def _alike(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).normal_()


def own_work(one: Session) -> dict[str, Callable[[], None]]:
    """Functions that run only the matrix products and convolutions of a step, in order, and only fused Adam."""
    with _Recorder() as recorder:
        one.optimise(one.source.batch(0))
    weights = [torch.nn.Parameter(_alike(p)) for p in one.model.parameters()]
    for weight in weights:
        weight.grad = _alike(weight)
    adam = torch.optim.Adam(weights, lr=one.config.train.lr, fused=True)

    def products() -> None:
        with torch.no_grad():
            for call in recorder.calls:
                call()

    return {"products": products, "Adam": adam.step}


def section(setting: Setting) -> str:
    rate, width = matrix_rate(setting), bandwidth(setting)
    rows = list(_rows(setting, rate, width))
    return "\n".join(
        [
            "## A training step and its floor",
            "",
            f"Ceilings: {rate / 1e9:.0f} GFLOP/s in float32 matrix products, {width / 1e9:.0f} GB/s of memory read and "
            "written. Floor of a step: operations / rate + bytes / bandwidth. Own: the step's own matrix products or "
            "convolutions, and fused Adam, each alone, in turn with the step.",
            "",
            table(_HEADER, rows),
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
                run |= {name: functools.partial(_times, call, steps) for name, call in own_work(one).items()}
                seconds = {name: own / steps for name, own in in_turn(run, setting.rounds, setting.clock).items()}
                step = float(np.median(seconds["step"]))
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
                    f"{np.median(seconds['products']) * 1e3:.2f} + {np.median(seconds['Adam']) * 1e3:.2f}",
                    ratio(seconds["step"], seconds["products"] + seconds["Adam"]),
                ]


def _times(run: Callable[[], None], count: int) -> None:
    for _ in range(count):
        run()
