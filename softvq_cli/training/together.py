"""Several sessions side by side: one small model leaves most of a GPU idle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from softvq_cli.training.session import Session


def train_together(
    sessions: Sequence[Session],
    reported: Callable[[int, dict[str, float]], None] = lambda number, metrics: None,
) -> None:
    """Take every session from where it stands to its last step, in turn, up to one report at a time.

    None of them sees the others: each ends with the numbers that it would have reached alone. On a GPU each has its
    own stream, so that the captured chunks of one run beside those of the others; the host only waits for reports.

    Args:
        sessions: of any configurations, on one device. A GPU has memory for all of them, and up to 32 streams.
        reported: is told a session's number in ``sessions`` and its metrics at its reports, which are due every
            ``log_every`` steps and at the end.
    """
    streams = [_Stream(session.device) for session in sessions]
    running = list(range(len(sessions)))
    while running:
        for number in running:
            with streams[number].active():
                _advance_to_report(sessions[number])
        for number in running:
            with streams[number].active():
                reported(number, sessions[number].report())
        running = [n for n in running if sessions[n].step < sessions[n].config.train.iterations]
    for stream in streams:
        stream.join()


def _advance_to_report(session: Session) -> None:
    settings = session.config.train
    due = min(settings.iterations, (session.step // settings.log_every + 1) * settings.log_every)
    while session.step < due:
        session.advance(due - session.step)


class _Stream:
    """A CUDA stream that begins after what is queued on the current one; nothing at all on another device."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Queue work on it."""
        return torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext()

    def join(self) -> None:
        """What is queued on the current stream from here on waits for it."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
