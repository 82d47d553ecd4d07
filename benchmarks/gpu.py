"""On a GPU: first whether it is right, then whole trainings, and several seeds at once."""

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
"""Of each of several sessions: eight of them take as many steps as the presets' 2 000 twice."""


def section(setting: Setting) -> Iterator[str]:
    """Part by part: all of it takes minutes, and a GPU's are not to be lost."""
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
                    take(steps)  # it queues its graphs and does not wait

        def in_sequence(takes=takes):
            for take in takes:
                take(steps)

        seconds = in_turn({"together": side_by_side, "one by one": in_sequence}, setting.rounds)
        rows.append([count, *(f"{np.median(s) * 1e6 / steps / count:.1f}" for s in seconds.values())])
        rows[-1].append(ratio(seconds["one by one"], seconds["together"]))
    return table(["sessions", "together, µs per step", "one by one, µs per step", "times faster"], rows)
