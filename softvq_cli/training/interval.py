"""What happened since the last line of the log, kept on the device so that no step waits for the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from softvq_cli.training.objective import Objective


class Interval:
    """The loss terms of each step and the summed stats, between two reports.

    Args:
        names: the columns: ``loss``, ``nmse``, and the bottleneck's terms.
        capacity: steps between two reports.
        device: where the steps run.
    """

    def __init__(self, names: Sequence[str], capacity: int, device: torch.device) -> None:
        self.names = tuple(names)
        self.rows = torch.zeros(capacity, len(self.names), device=device)
        self.stats: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, result: Objective) -> None:
        """Record one step."""
        self.add_rows(result.row()[None], result.stats)

    def add_rows(self, rows: Tensor, stats: Mapping[str, Tensor]) -> None:
        """Record several steps: ``rows`` (steps, columns) and their summed stats."""
        self.rows[self.steps : self.steps + len(rows)] = rows
        for name, value in stats.items():
            if name in self.stats:
                self.stats[name] += value
            else:
                self.stats[name] = value.clone()
        self.steps += len(rows)

    def means(self) -> dict[str, float]:
        """The mean of each column over the recorded steps."""
        mean = self.rows[: self.steps].cpu().double().mean(0).tolist()
        return dict(zip(self.names, mean, strict=True))

    def first_not_finite(self) -> tuple[int, str] | None:
        """(step within the interval, first bad column, terms before their sum), or None if all is finite."""
        bad = ~torch.isfinite(self.rows[: self.steps]).cpu()
        steps = bad.any(1).nonzero()
        if not len(steps):
            return None
        step = int(steps[0])
        columns = [name for name, is_bad in zip(self.names, bad[step].tolist(), strict=True) if is_bad]
        return step, next((name for name in columns if name != "loss"), "loss")

    def clear(self) -> None:
        """Begin the next interval."""
        self.steps, self.stats = 0, {}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: a run stopped between two reports resumes to the same means."""
        return {"rows": self.rows[: self.steps].clone(), "stats": dict(self.stats)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.steps = len(state["rows"])
        self.rows[: self.steps] = state["rows"]
        self.stats = {name: value.to(self.rows.device) for name, value in state["stats"].items()}
