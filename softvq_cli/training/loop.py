"""Training, of one model or of several side by side."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softvq_cli.errors import SoftVQError
from softvq_cli.training.observer import Observer
from softvq_cli.training.opening import Order, opened
from softvq_cli.training.running import Run, Running


def train(
    chosen: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """Train one model in its run directory.

    Args:
        chosen: settings by name (see :mod:`softvq_cli.config`); the others come from the preset, or when
            resuming from the run itself.
        out: the run directory; by default one under ``runs/`` that is named after the settings.
        resume: go on exactly where the run in the directory stopped; begin it if there is none.
        overwrite: replace a run that is there.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        observer: is told what happens.
        stop: when set, the run writes a checkpoint after the step at hand and raises.

    Raises:
        UsageError: a setting is wrong, or would change a run that is to be resumed.
        InputError: the data or the checkpoint cannot be used.
        RefusedError: the directory holds a run, or another process works in it.
        Interrupted: ``stop`` was set.
        SoftVQError: writing failed, or the loss was not finite.
    """
    [result] = train_together([Order(chosen, out, resume, overwrite, observer or Observer())], device=device, stop=stop)
    if isinstance(result, SoftVQError):
        raise result
    return result


def train_together(
    orders: Sequence[Order], *, device: str = "auto", stop: threading.Event | None = None
) -> list[Run | SoftVQError]:
    """Train several models at once, up to one report or checkpoint in turn.

    None of them sees the others: each ends with the numbers that it would have reached alone, and one that fails
    stops no other. On a GPU their steps run beside each other, as one small model leaves most of it idle.

    Args:
        orders: of any settings, in different directories.
        device: as in :func:`train`; a GPU has memory for all of them.
        stop: when set, every run writes a checkpoint and ends.

    Returns:
        In their order, the finished runs, or what :func:`train` would have raised.
    """
    stop = stop or threading.Event()
    ended: dict[int, Run | SoftVQError] = {}
    going: dict[int, Running] = {}
    with contextlib.ExitStack() as directories:
        for number, order in enumerate(orders):
            try:
                run = directories.enter_context(opened(order, device))
            except SoftVQError as error:
                ended[number] = error
                continue
            if isinstance(run, Run):
                ended[number] = run
            else:
                going[number] = run
        while going:
            for run in going.values():
                run.launch(stop)
            for number, run in list(going.items()):
                try:
                    result: Run | SoftVQError | None = run.settle(stop)
                except SoftVQError as error:
                    result = error
                if result is not None:
                    ended[number] = result
                    del going[number]
    return [ended[number] for number in range(len(orders))]
