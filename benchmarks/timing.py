"""Measure contenders alternately, so that temporary slowness of the machine affects all of them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
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
