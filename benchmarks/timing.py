"""Measure contenders alternately, so that temporary slowness of the machine affects all of them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from softvq_cli.process import environment

T = TypeVar("T")

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int, clock: str = "wall") -> dict[str, np.ndarray]:
    """Seconds of each contender in each round, float64 (rounds,); several rounds are preceded by a warm-up."""
    now = CLOCKS[clock]
    seconds = {name: np.empty(rounds) for name in contenders}
    for number in range(-1 if rounds > 1 else 0, rounds):
        for name, run in contenders.items():
            start = now()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 0:
                seconds[name][number] = now() - start
    return seconds


def in_new_process(call: Callable[..., T], *arguments: object, variables: Mapping[str, str | None] | None = None) -> T:
    """The result of a function of a module in a new Python process, with these environment variables.

    What it prints goes to standard error.
    """
    spawned = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os.dup2, (2, 1))
    with environment(variables or {}), spawned as pool:
        return pool.submit(call, *arguments).result()


def cost_of(words: Sequence[str], cache: Path) -> tuple[float, int, bytes]:
    """(Processor seconds of a command and its children, its most anonymous memory in bytes, what it prints).

    It works on one thread, with its own ``cache``. RuntimeError: it fails.
    """
    variables = os.environ | {"SOFTVQ_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    before = os.times()
    process = subprocess.Popen(words, env=variables, stdout=subprocess.PIPE)
    most = _Most(process.pid)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return used, most.bytes(), printed


class _Most:
    """The maximum anonymous memory of a process, which excludes memory-mapped files."""

    def __init__(self, pid: int) -> None:
        self._most, self._pid = 0, pid
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            try:
                status = Path(f"/proc/{self._pid}/status").read_text()
            except OSError:
                return
            lines = [line for line in status.splitlines() if line.startswith("RssAnon")]
            if not lines:  # the process has ended
                return
            self._most = max(self._most, int(lines[0].split()[1]) * 1024)
            time.sleep(0.02)

    def bytes(self) -> int:
        self._thread.join()
        return self._most


def ratio(slow: np.ndarray, fast: np.ndarray) -> str:
    """The speed-up: the median of the rounds' ratios, and their interquartile range."""
    low, middle, high = np.percentile(slow / fast, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    return "\n".join(table_line(cells) for cells in (header, ["---", *["---:"] * (len(header) - 1)], *rows))


def table_line(cells: Iterable[object]) -> str:
    """One line of such a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
