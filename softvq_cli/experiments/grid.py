"""Many cells, some side by side, whatever happens to one of them.

Each cell is completed by a process with a number of threads that does not depend on how many run beside it: sums in
float32 depend on the threads in their last bits, and training amplifies those. On a GPU, most of which one small model
leaves idle, a process trains the seeds of a model together.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from softvq_cli.devices import pick
from softvq_cli.errors import Interrupted, UsageError, param
from softvq_cli.experiments.cell import Cell, State, inspect
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.worker import DONE, FAILED, NOTE, PROGRESS, Worker

THREADS = 1
"""Of a cell on the CPU. Two runs with one thread each do more on two cores than one run with two."""
TOGETHER = 8
"""Cells at most that a process trains at once on a GPU: a GPU has 32 streams, and memory for so many small models."""
_EVERY = 0.2
"""Seconds between two looks at the clock and the stop sign."""


class GridObserver:
    """Override what you want to hear; by default nothing happens."""

    def planned(self, cells: Sequence[Cell], todo: Sequence[Cell]) -> None:
        """What the grid consists of, and which of it is not done yet, in the order in which it is begun."""

    def progressed(self, progress: Progress) -> None:
        """Called several times a second: be quick."""

    def completed(self, cell: Cell) -> None:
        """A cell is trained and measured."""

    def failed(self, cell: Cell, message: str) -> None:
        """A cell cannot be completed; the others go on."""

    def noted(self, text: str) -> None:
        """Something the user should know, in one line."""

    def data_progress(self, what: str, done: int, total: int | None) -> None:
        """Data are being fetched or decoded: ``done`` of ``total`` items or bytes."""

    def stage(self, what: str) -> None:
        """Something else than the grid goes on: reading data, writing the report."""


@dataclass(frozen=True)
class Progress:
    """How far the cells are that were not done before."""

    units: float
    """Iterations, and what evaluations are worth in them."""
    total: int
    ended: int
    """Cells completed or failed."""
    cells: int
    running: Mapping[str, str]
    """Name of a cell → what is done with it."""


@dataclass(frozen=True)
class Outcome:
    """What became of each cell."""

    evaluations: Mapping[Cell, Evaluation]
    failures: Mapping[Cell, str]


def run(
    cells: Sequence[Cell],
    *,
    jobs: int | None = None,
    together: int | None = None,
    device: str = "auto",
    observer: GridObserver | None = None,
    stop: threading.Event | None = None,
    again: str = "give the same command again",
) -> Outcome:
    """Complete all cells; those that are done already are only read.

    Args:
        cells: in folders of their own, which nobody else writes to.
        jobs: processes side by side: a core each unless given, on an accelerator one. No number depends on it.
        together: how many seeds of a model a process trains at once: 8 on CUDA unless given, elsewhere 1.
        device: as in ``--device``.
        observer: is told what happens.
        stop: when set, trainings write their checkpoints, and the grid ends.
        again: how to go on after that.

    Raises:
        RefusedError: a folder holds a run with other settings.
        UsageError: a number out of range, or no such device.
        Interrupted: ``stop`` was set.
    """
    observer, stop = observer or GridObserver(), stop or threading.Event()
    side_by_side = jobs_for(jobs, device)
    states = {cell: inspect(cell) for cell in cells}
    evaluations = {cell: state.evaluation for cell, state in states.items() if state.done and state.evaluation}
    together = together or (TOGETHER if pick(device).type == "cuda" else 1)
    groups = _groups([cell for cell in cells if not states[cell].done], states, together)
    todo = [cell for group in groups for cell in group]
    observer.planned(cells, todo)
    failures: dict[Cell, str] = {}
    if todo:
        pool = _Pool(groups, states, min(side_by_side, len(groups)), device, observer)
        try:
            while pool.busy and not stop.is_set():
                pool.look()
            if stop.is_set():
                pool.stop()
                ended = len(cells) - len(todo) + len(pool.evaluations)
                raise Interrupted(f"stopped with {ended} of {len(cells)} cells done; to go on: {again}")
        finally:
            pool.close()
        evaluations |= pool.evaluations
        failures = pool.failures
    return Outcome({cell: evaluations[cell] for cell in cells if cell in evaluations}, failures)


def jobs_for(jobs: int | None, device: str) -> int:
    """How many cells run side by side.

    Raises:
        UsageError: ``jobs`` is below 1, or there is no such device.
    """
    import joblib

    if jobs is not None and jobs < 1:
        raise UsageError(f"{param('jobs')} must be at least 1, not {jobs}")
    target = pick(device)
    return jobs or (max(1, joblib.cpu_count() // THREADS) if target.type == "cpu" else 1)


def _groups(todo: Sequence[Cell], states: Mapping[Cell, State], together: int) -> list[tuple[Cell, ...]]:
    """Cells that differ only in their seeds, up to ``together`` of them in a group; the longest groups come first."""
    alike: dict[object, list[Cell]] = {}
    for cell in todo:
        settings = {name: value for name, value in cell.config.flat().items() if name != "seed"}
        alike.setdefault((cell.data, cell.row, *settings.values()), []).append(cell)
    groups = [tuple(same[i : i + together]) for same in alike.values() for i in range(0, len(same), together)]
    return sorted(groups, key=lambda group: -sum(_left(cell, states[cell]) for cell in group))


def _left(cell: Cell, state: State) -> int:
    """What is left to do, in iterations."""
    return cell.steps - state.step + cell.evaluation_units


class _Pool:
    """The processes, what each of them is doing, and what came of it."""

    def __init__(
        self,
        groups: Sequence[tuple[Cell, ...]],
        states: Mapping[Cell, State],
        jobs: int,
        device: str,
        observer: GridObserver,
    ) -> None:
        import joblib

        self.evaluations: dict[Cell, Evaluation] = {}
        self.failures: dict[Cell, str] = {}
        self._waiting, todo = list(groups), [cell for group in groups for cell in group]
        self._states, self._device, self._observer = states, device, observer
        # Where an accelerator trains, no trained number depends on the processor's threads, nor does any evaluation's.
        self._threads = THREADS if pick(device).type == "cpu" else max(1, joblib.cpu_count() // jobs)
        self._cells, self._total = len(todo), sum(_left(cell, states[cell]) for cell in todo)
        self._ended_units = 0
        self._at: dict[Cell, tuple[int, str]] = {}
        self._workers: list[Worker] = []
        try:
            for _ in range(jobs):
                self._start()
        except BaseException:
            self.close()
            raise

    @property
    def busy(self) -> bool:
        """Whether a cell is being worked on."""
        return bool(self._workers)

    def look(self) -> None:
        """Wait a moment for news of the processes, and pass them on."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout=_EVERY):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                kind, number, content = worker.connection.recv()
            except (EOFError, OSError):
                why = worker.why_it_ended()
                for number in list(worker.cells):
                    self._end(worker.cells.pop(number), FAILED, why)
                worker.close()
                self._workers.remove(worker)
                if self._waiting:
                    self._start()
            else:
                self._hear(worker, kind, number, content)
        self._observer.progressed(self._progress())

    def stop(self) -> None:
        """Ask all processes to end, and wait for them."""
        for worker in self._workers:
            worker.stop()
        while self._workers:
            for connection in wait([worker.connection for worker in self._workers], timeout=_EVERY):
                worker = next(one for one in self._workers if one.connection is connection)
                try:
                    kind, number, content = worker.connection.recv()
                except (EOFError, OSError):
                    worker.close()
                    self._workers.remove(worker)
                else:
                    if kind == DONE:
                        self.evaluations[worker.cells.pop(number)] = content

    def close(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _start(self) -> None:
        worker = Worker(self._device, self._threads)
        self._workers.append(worker)
        self._next(worker)

    def _next(self, worker: Worker) -> None:
        """Give the process a group of cells, or let it go."""
        if self._waiting:
            group = self._waiting.pop(0)
            try:
                worker.begin(group)
            except OSError:  # it has died meanwhile, which the next look will find
                worker.cells.clear()
                self._waiting.insert(0, group)
            else:
                self._at |= {cell: (self._states[cell].step, "starting") for cell in group}
        else:
            worker.close()
            self._workers.remove(worker)

    def _hear(self, worker: Worker, kind: str, number: int, content: Any) -> None:
        if kind == PROGRESS:
            self._at[worker.cells[number]] = content
        elif kind == NOTE:
            self._observer.noted(content)
        else:
            self._end(worker.cells.pop(number), kind, content)
            if not worker.cells:
                self._next(worker)

    def _end(self, cell: Cell, kind: str, content: Any) -> None:
        """A cell is completed or has failed."""
        self._at.pop(cell)
        self._ended_units += _left(cell, self._states[cell])
        if kind == DONE:
            self.evaluations[cell] = content
            self._observer.completed(cell)
        else:
            self.failures[cell] = content
            self._observer.failed(cell, content)

    def _progress(self) -> Progress:
        running = sum(step - self._states[cell].step for cell, (step, _) in self._at.items())
        return Progress(
            units=self._ended_units + running,
            total=self._total,
            ended=len(self.evaluations) + len(self.failures),
            cells=self._cells,
            running={cell.name: what for cell, (_, what) in self._at.items()},
        )
