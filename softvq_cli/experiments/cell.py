"""One cell of a grid: a model to train, or a control, and its evaluation; everything about it is in one folder.

``evaluation.json`` stands beside the checkpoint. It says what was measured (the checkpoint's seal, or the settings
of a control, and the fingerprints of both splits), and is done again when that is not what is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, RefusedError, SoftVQError, param
from softvq_cli.experiments import evaluated
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.subject import Subject
from softvq_cli.experiments.tables import BASIC, PART_TITLES, PCA, RAW, UNTRAINED
from softvq_cli.files import discard_unfinished, make_folder
from softvq_cli.pipeline.run import ChainObserver
from softvq_cli.presets import unused_settings
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint

_EVALUATION_UNITS = 1000
"""An evaluation of 64 columns takes about as long as this many iterations: enough to sort cells and guess the end."""
_OF_NO_EFFECT = (*DataConfig.__dataclass_fields__, *run_directory.CHANGEABLE, "log_every")
"""Settings in which a run may differ from its cell. That the data are the same is seen from their fingerprint."""


@dataclass(frozen=True)
class Cell:
    """What is to be done; it travels to another process."""

    folder: Path
    row: str
    """A bottleneck, or a control."""
    data: str
    """The data set that the table speaks of; the configuration may put another in its place."""
    config: RunConfig
    """All settings. Of a control only the data, and what it needs: the model and the seed, or the dimensions."""
    fingerprints: tuple[str, str]
    """Of the training and the test split."""
    pixels: int
    """Of an image, over all channels."""
    parts: tuple[str, ...]
    """What is to be measured, see :mod:`softvq_cli.experiments.tables`."""

    @property
    def name(self) -> str:
        """What to call it: the name of its folder."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """Of its training."""
        return self.config.train.seed

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.row in BOTTLENECKS

    @property
    def steps(self) -> int:
        """Iterations of its training."""
        return self.config.train.iterations if self.trains else 0

    @property
    def evaluation_units(self) -> int:
        """How long its evaluation takes, in iterations, roughly."""
        columns = self.pixels if self.row == RAW else self.config.model.latent_dim
        return len(self.parts) * max(1, _EVALUATION_UNITS * columns // 64)


@dataclass(frozen=True)
class State:
    """What a cell's folder already holds."""

    step: int = 0
    finished: bool = False
    """The training is, if there is one."""
    evaluation: Evaluation | None = None
    """With all parts that are asked for."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.finished and self.evaluation is not None


def inspect(cell: Cell) -> State:
    """Look into the cell's folder without changing anything.

    Raises:
        RefusedError: it holds a run with other settings, or of other data.
    """
    if not cell.trains:
        return State(finished=True, evaluation=_evaluation(cell, None))
    try:
        found = _checkpoint(cell)
        used = found is None and (cell.folder / run_directory.CONFIG).exists()
        begun = run_directory.stored_config(cell.folder) if used else None
    except InputError:  # it will be met again when the cell's turn comes, and reported
        return State()
    if begun is not None:
        _refuse_other_settings(cell, begun)
    if found is None:
        return State()
    _refuse_other_settings(cell, found.config)
    if found.dataset.fingerprint != cell.fingerprints[0]:
        raise RefusedError(
            f"{cell.folder} was trained on other data than {cell.config.data.data} (the fingerprint differs): "
            f"give another {param('out')}"
        )
    evaluation = _evaluation(cell, found.sha256) if found.finished else None
    return State(found.step, found.finished, evaluation)


def complete(
    cells: Sequence[Cell],
    *,
    device: str,
    jobs: int,
    observers: Sequence[ChainObserver],
    stop: threading.Event,
    saving: threading.Lock,
) -> Iterator[tuple[Cell, Evaluation | SoftVQError]]:
    """Train what is not trained, side by side, and then measure what is not measured, one cell after the other.

    Args:
        cells: what is to be done, in folders of their own.
        device: to train and embed on.
        jobs: threads of the evaluation.
        observers: one a cell; is told what happens to it.
        stop: when set, a training writes its checkpoint after the step at hand and ends.
        saving: held while the folders must not be left as they are: in training, and while a file is written.

    Yields:
        Each cell in their order, with its evaluation or with what went wrong: it stops no other.
    """
    with saving:
        failures = _train(cells, device, observers, stop)
    for cell, observer in zip(cells, observers, strict=True):
        result: Evaluation | SoftVQError
        try:
            result = failures.get(cell) or _measure(cell, device, jobs, observer, saving)
        except SoftVQError as error:
            result = error
        yield cell, result


def _train(
    cells: Sequence[Cell], device: str, observers: Sequence[ChainObserver], stop: threading.Event
) -> dict[Cell, SoftVQError]:
    """Those that could not be trained, and why."""
    from softvq_cli.training import TrainRequest, train_together

    failures: dict[Cell, SoftVQError] = {}
    orders: dict[Cell, TrainRequest] = {}
    for cell, observer in zip(cells, observers, strict=True):
        try:
            make_folder(cell.folder)
            discard_unfinished(cell.folder, (evaluated.EVALUATION, evaluated.MAP_FILE))
        except SoftVQError as error:
            failures[cell] = error
            continue
        if cell.trains:
            chosen = cell.config.flat()
            if (cell.folder / run_directory.CONFIG).exists():  # compared before: its own spelling of the data holds
                chosen = {name: chosen[name] for name in run_directory.CHANGEABLE}
            # Only where there is a run: a grid that begins one is no news.
            resume = run_directory.is_used(cell.folder)
            orders[cell] = TrainRequest(chosen, cell.folder, resume=resume, observer=observer)
    results = train_together(list(orders.values()), device=device, stop=stop)
    return failures | {
        cell: result for cell, result in zip(orders, results, strict=True) if isinstance(result, SoftVQError)
    }


def _measure(cell: Cell, device: str, jobs: int, observer: ChainObserver, saving: threading.Lock) -> Evaluation:
    from softvq_cli import datasets

    checkpoint = None
    if cell.trains:
        checkpoint = _checkpoint(cell, device)
        assert checkpoint is not None  # just written
    of = _measured(cell, None if checkpoint is None else checkpoint.sha256)
    found = evaluated.read(cell.folder, of)
    missing = [part for part in cell.parts if part not in found.parts]
    if missing:
        train_split = datasets.load(cell.config.data, "train", progress=observer.data_progress)
        test_split = datasets.load(cell.config.data, "test", progress=observer.data_progress)
        subject = Subject(cell, checkpoint, train_split, test_split)
        for part in missing:
            observer.stage(f"measuring {cell.name}" + ("" if part == BASIC else f", {part}"))
            try:
                figures = subject.figures(part, jobs, saving)
            except SoftVQError as error:
                if part == BASIC:  # without it there is no row
                    raise
                observer.noted(f"without {PART_TITLES[part]}: {error}")
                continue
            found = found.with_part(part, figures)
            with saving:
                evaluated.write(cell.folder, of, found)
    return found


def _checkpoint(cell: Cell, device: str = "cpu") -> Checkpoint | None:
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint

    path = cell.folder / run_directory.CHECKPOINT
    return checkpoint.load(path, pick(device)) if path.exists() else None


def _refuse_other_settings(cell: Cell, there: RunConfig) -> None:
    stored, wanted = there.flat(), cell.config.flat()
    unused = unused_settings(cell.row, wanted)
    for name, value in wanted.items():
        if name not in (*_OF_NO_EFFECT, *unused) and stored[name] != value:
            raise RefusedError(
                f"{cell.folder} holds a run with {param(name)} {stored[name]}, and this asks for {value}: "
                f"give another {param('out')}, or the settings of the first time"
            )


def _measured(cell: Cell, seal: str | None) -> dict[str, Any]:
    """What an evaluation is of: equal for two evaluations iff they measure the same."""
    of: dict[str, Any] = {"row": cell.row, "train": cell.fingerprints[0], "test": cell.fingerprints[1]}
    if seal is not None:
        of["checkpoint_sha256"] = seal
    if cell.row == PCA:
        of["components"] = cell.config.model.latent_dim
    if cell.row == UNTRAINED:
        of |= {"model": asdict(cell.config.model), "seed": cell.seed}
    return of


def _evaluation(cell: Cell, seal: str | None) -> Evaluation | None:
    """The stored one, if it has all parts."""
    found = evaluated.read(cell.folder, _measured(cell, seal))
    return found if found.has(cell.parts) else None
