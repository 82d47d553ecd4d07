"""A training step compared with the same step in other loops; on a CPU, each in its own process.

Separate processes are needed because softvq also changes how a process treats freed memory.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks import peers
from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_new_process, in_turn, ratio, table
from softvq_cli.training.session import Session

OURS = "softvq, float32"
CASES = (("mnist", "soft-vq", 32), ("mnist", "soft-vq", 64), ("mnist", "ae", 32), ("svhn", "soft-vq", 32))
QUICK = (("mnist", "soft-vq", 4),)
BLOCKS = 5
"""Number of blocks of steps in a process; the median counts."""


def _ours(one: Session, steps: int) -> Callable[[], None]:
    take = training(one)
    return lambda: take(steps)


CONTENDERS: Mapping[str, Callable[[Session, int], Callable[[], None] | None]] = {
    OURS: _ours,
    "softvq, bfloat16": _ours,
    "plain loop, fused Adam": lambda one, steps: peers.eager(one, steps, fused=True),
    "plain loop, Adam": lambda one, steps: peers.eager(one, steps, fused=False),
    "DataLoader, Adam": peers.data_loader,
    "pythae's trainer": peers.pythae,
}


def section(setting: Setting) -> str:
    text = "Same model, same loss, same images, in turn; on a CPU each in a process of its own. Faults: pages of memory"
    text += " that the system had to provide again per step."
    blocks = ["## A training step compared with other loops", "", text]
    for data, bottleneck, batch in QUICK if setting.quick else CASES:
        blocks += ["", f"### {data}, {bottleneck}, batch {batch}", "", _case(setting, data, bottleneck, batch)]
    return "\n".join(blocks)


def _case(setting: Setting, data: str, bottleneck: str, batch: int) -> str:
    steps = 2 if setting.quick else 10
    if setting.device.type == "cuda" and not setting.quick:
        steps = 200
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(1 if setting.quick else setting.rounds):
        for name in CONTENDERS:
            chosen = setting, data, {"bottleneck": bottleneck, "batch_size": batch}, name, steps
            # Starting a process takes seconds, and glibc does not manage the memory of a GPU.
            here = setting.quick or setting.device.type == "cuda"
            one = measure(*chosen) if here else in_new_process(measure, *chosen)
            if one is not None:
                found.setdefault(name, []).append(one)
    seconds = {name: np.array([one[0] for one in own]) for name, own in found.items()}
    rows = []
    for name, own in seconds.items():
        faults = np.median([one[1] for one in found[name]])
        per_step = f"{np.median(own) * 1e3:.2f}", f"{1 / np.median(own):.1f}"
        rows.append([name, *per_step, ratio(own, seconds[OURS]), f"{faults:.0f}"])
    missing = "".join(f"\n\nNot measured: {name} is not installed." for name in CONTENDERS if name not in found)
    return table(["loop", "ms per step", "steps per second", "times softvq's", "page faults per step"], rows) + missing


def measure(
    setting: Setting, data: str, chosen: Mapping[str, object], contender: str, steps: int
) -> tuple[float, float] | None:
    """Seconds and page faults per step, in this process; None if the contender is not installed."""
    setting.apply()
    precision = "bfloat16" if contender.endswith("bfloat16") else "float32"
    run = CONTENDERS[contender](session(data, setting, precision=precision, **chosen), steps)
    if run is None:
        return None
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = in_turn({"": run}, 1 if setting.quick else BLOCKS, setting.clock)[""]
    runs = 1 if setting.quick else BLOCKS + 1  # the first one is the warm-up
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return float(np.median(seconds)) / steps, faults / (runs * steps)
