"""Benchmarks on a GPU: first correctness, then whole trainings, and several seeds together."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import correctness
from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, ratio, table

SEEDS = (1, 2, 4, 8)
STEPS_TOGETHER = 500
"""Steps of each session; eight of them take 4 000 in total, twice as many as a preset of 2 000."""


def section(setting: Setting) -> Iterator[str]:
    """Yield the results part by part, because they take minutes and GPU time must not be lost."""
    yield "## On a GPU\n"
    if setting.device.type != "cuda":
        yield "Not measured: no GPU."
        return
    yield from correctness.section(setting)
    yield "\n" + _presets(setting)
    yield "\n### Several seeds at once\n\n" + _together(setting)


def _presets(setting: Setting) -> str:
    steps = 100 if setting.quick else 2000
    rows = []
    for data in ("mnist", "svhn"):
        one = session(data, setting, iterations=40_000)
        run = {"own": functools.partial(training(one), steps)}
        seconds = float(np.median(in_turn(run, setting.rounds)["own"])) / steps
        rows.append([data, one.config.model.arch, f"{seconds * 1e6:.1f}", f"{40_000 * seconds:.2f}"])
    return table(["preset", "network", "µs per step", "s for 40 000 steps"], rows)


def _together(setting: Setting) -> str:
    steps = 100 if setting.quick else STEPS_TOGETHER
    rows = []
    for count in SEEDS[:2] if setting.quick else SEEDS:
        takes = [training(session("mnist", setting, seed=seed, log_every=steps)) for seed in range(count)]
        streams = [torch.cuda.Stream() for _ in takes]

        def side_by_side(takes=takes, streams=streams):
            for take, stream in zip(takes, streams, strict=True):
                with torch.cuda.stream(stream):
                    take(steps)  # queues its graphs without waiting

        def in_sequence(takes=takes):
            for take in takes:
                take(steps)

        seconds = in_turn({"together": side_by_side, "one by one": in_sequence}, setting.rounds)
        rows.append([count, *(f"{np.median(s) * 1e6 / steps / count:.1f}" for s in seconds.values())])
        rows[-1].append(ratio(seconds["one by one"], seconds["together"]))
    return table(["sessions", "together, µs per step", "one by one, µs per step", "times faster"], rows)
