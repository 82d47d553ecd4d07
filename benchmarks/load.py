"""Training on idle and on busy cores, with different numbers of threads, each in a new process."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Iterator

import joblib
import numpy as np
import torch

from benchmarks import peers
from benchmarks.models import SHAPES, session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_new_process, table
from softvq_cli.__main__ import WAITING
from softvq_cli.config import resolve

CASES = (("mnist", 32), ("mnist", 128), ("svhn", 32))
QUICK = (("mnist", 4),)
MOST_THREADS = 16
PLAIN = 0
"""Instead of a number of threads: a plain PyTorch loop with its default threads and waiting."""
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "KMP_LIBRARY")


def section(setting: Setting) -> str:
    cores = joblib.cpu_count()
    blocks = [
        "## On idle and on busy cores",
        "",
        f"Steps per second, soft-vq, on {cores} cores. Busy: with {cores} other programs that use a core each. Each is "
        f"the median of {setting.rounds} processes, in turn.",
    ]
    for data, batch in QUICK if setting.quick else CASES:
        blocks += ["", f"### {data}, batch {batch}", "", _case(data, batch, cores, setting)]
    return "\n".join(blocks)


def _case(data: str, batch: int, cores: int, setting: Setting) -> str:
    seconds = 0.1 if setting.quick else 4.0
    counts = [1] if setting.quick else counts_of(cores)
    idle = _rates(data, batch, [*counts, PLAIN], seconds, setting)
    with busy(cores):
        loaded = _rates(data, batch, [*counts, PLAIN], seconds, setting)
    best, alone = max(idle[count] for count in counts), loaded[1]
    default = resolve(data, SHAPES[data], {"batch_size": batch}).train.threads
    rows = []
    for count in (*counts, PLAIN):
        name = "plain loop, as PyTorch is" if count == PLAIN else f"softvq, {count} thread{'s' * (count > 1)}"
        name += " (the default)" * (count == default)
        shares = f"{idle[count] / best:.2f}", f"{loaded[count] / alone:.2f}"
        rows.append([name, f"{idle[count]:.1f}", shares[0], f"{loaded[count]:.1f}", shares[1]])
    return table(["loop", "idle", "of softvq's best", "busy", "of one thread"], rows)


def _rates(data: str, batch: int, counts: list[int], seconds: float, setting: Setting) -> dict[int, float]:
    """Steps per second by number of threads."""
    found: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(1 if setting.quick else setting.rounds):
        for count in counts:
            found[count].append(_measured(data, batch, count, seconds, setting))
    return {count: float(np.median(values)) for count, values in found.items()}


def _measured(data: str, batch: int, count: int, seconds: float, setting: Setting) -> float:
    if setting.quick:
        return rate(data, batch, count, seconds, quick=True)  # starting a process would take seconds
    return in_new_process(rate, data, batch, count, seconds, variables=variables_of(count))


def counts_of(cores: int) -> list[int]:
    """The numbers of threads to measure."""
    return [count for count in (1, 2, 4, 8, MOST_THREADS) if count <= max(cores, 2)]


def variables_of(count: int) -> dict[str, str | None]:
    """The environment variables of a process: threads wait as in softvq, or for PLAIN as by default."""
    return dict.fromkeys(_VARIABLES) | ({} if count == PLAIN else WAITING)


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """Keep this number of other processes busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def rate(data: str, batch: int, count: int, seconds: float, *, quick: bool = False) -> float:
    """Steps per second in this process, measured for at least ``seconds``."""
    if count != PLAIN:
        torch.set_num_threads(count)
    one = session(data, Setting(quick, 1, count, "wall", torch.device("cpu")), batch_size=batch)
    take = peers.data_loader(one, 1) if count == PLAIN else functools.partial(training(one), 1)
    take()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        take()
        steps += 1
    return steps / (time.perf_counter() - start)
