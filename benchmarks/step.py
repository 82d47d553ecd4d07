"""A training step compared with the same step in other loops; on a CPU, each in its own process.

Separate processes are needed because softvq also changes how a process treats freed memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks import peers
from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, ratio, table
from softvq_cli.training.session import Session

OURS = "softvq, float32"
CASES = (("mnist", "soft-vq", 32), ("mnist", "soft-vq", 64), ("mnist", "ae", 32), ("svhn", "soft-vq", 32))
QUICK = (("mnist", "soft-vq", 4),)
BLOCKS = 5
"""Number of blocks of steps in a process; the median counts."""


@dataclass(frozen=True)
class Order:
    """The measurement of one process."""

    data: str
    bottleneck: str
    batch: int
    steps: int
    contender: str
    threads: int
    clock: str
    device: str
    quick: bool


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
            where = (setting.threads, setting.clock, setting.device.type, setting.quick)
            one = _measured(Order(data, bottleneck, batch, steps, name, *where))
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


def _measured(order: Order) -> tuple[float, float] | None:
    if order.quick or order.device == "cuda":
        return measure(order)  # starting a process takes seconds, and glibc does not manage the memory of a GPU
    words = [sys.executable, "-m", "benchmarks.step", json.dumps(asdict(order))]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return None if found is None else (found[0], found[1])


def measure(order: Order) -> tuple[float, float] | None:
    """Seconds and page faults per step, in this process; None if the contender is not installed."""
    setting = Setting.of(order.quick, 1, order.threads, order.clock, order.device)
    precision = "bfloat16" if order.contender.endswith("bfloat16") else "float32"
    settings = {"bottleneck": order.bottleneck, "batch_size": order.batch, "precision": precision}
    one = session(order.data, setting, **settings)
    run = CONTENDERS[order.contender](one, order.steps)
    if run is None:
        return None
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = in_turn({"": run}, 1 if order.quick else BLOCKS, order.clock)[""]
    runs = 1 if order.quick else BLOCKS + 1  # the first one is the warm-up
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return float(np.median(seconds)) / order.steps, faults / (runs * order.steps)


if __name__ == "__main__":
    print(json.dumps(measure(Order(**json.loads(sys.argv[1])))))
