"""One job: a folder to be completed. A model to train or a control, and the parts of its evaluation.

``evaluation.json`` stands beside the checkpoint. It says what was measured (the checkpoint's seal, or the settings
of a control, and the fingerprints of both splits), and is made again when that is not what is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, RefusedError, param
from softvq_cli.presets import unused_settings
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASIC, QUANTISED, Evaluation
from softvq_cli.results.subject import REPRESENTATIONS, Control, Subject
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, RAW

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint

_EVALUATION_UNITS = 1000
"""An evaluation of 64 columns takes about as long as this many iterations: enough to sort jobs and guess the end."""
_ITERATION: dict[str, tuple[int, float]] = {"mlp": (784, 0.0165), "cnn": (3072, 0.107)}
"""Architecture → the pixels of the images on which an iteration of 32 was timed, and its seconds."""
_OF_NO_EFFECT = (*DataConfig.__dataclass_fields__, *run_directory.CHANGEABLE, "log_every")
"""Settings in which a run may differ from its job. That the data are the same is seen from their fingerprint."""


@dataclass(frozen=True)
class Job:
    """What is to be completed; it travels to another process."""

    folder: Path
    row: str
    """The row of the study that reports it."""
    subject: str
    """A bottleneck to train, or a control."""
    data: str
    """The data set that the study speaks of; the configuration may put another in its place."""
    config: RunConfig
    """All settings. Of a control only the data, and what it needs: the model and the seed, or the dimensions."""
    fingerprints: tuple[str, str]
    """Of the training and the test split."""
    pixels: int
    """Of an image, over all channels."""
    parts: tuple[str, ...]
    """What is to be measured: of BASIC, PROBES and MAP, and models on the way, see :func:`evaluate.at`."""
    file: str | None = None
    """Embeddings that another program made of the same images; measured in the place of a model's."""

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
        return self.subject in BOTTLENECKS

    @property
    def steps(self) -> int:
        """Iterations of its training."""
        return self.config.train.iterations if self.trains else 0

    @property
    def representation(self) -> str:
        """What its own rows are: ``z_e``, ``pixels`` or ``pca``."""
        return REPRESENTATIONS.get(self.subject, "z_e")

    @property
    def all_parts(self) -> tuple[str, ...]:
        """``parts``, and with the paper's measures of a codebook's z_e those of the decoder's input."""
        quantised = self.trains and BOTTLENECKS[self.subject].has_codebook and BASIC in self.parts
        return (*self.parts, *((QUANTISED,) if quantised else ()))

    def seconds(self, iterations: int) -> float:
        """About how long so many of its iterations take on one core (docs/PERFORMANCE.md)."""
        model, train = self.config.model, self.config.train
        pixels, seconds = _ITERATION.get(model.arch, _ITERATION["mlp"])
        return float(iterations * seconds * train.batch_size / 32 * (0.5 + 0.5 * self.pixels / pixels))

    @property
    def evaluation_units(self) -> int:
        """How long its evaluation takes, in iterations, roughly."""
        columns = self.pixels if self.subject == RAW else self.config.model.latent_dim
        return len(self.parts) * max(1, _EVALUATION_UNITS * columns // 64)


@dataclass(frozen=True)
class State:
    """What a job's folder already holds."""

    step: int = 0
    finished: bool = False
    """The training is, if there is one."""
    evaluation: Evaluation | None = None
    """With all parts that are asked for."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.finished and self.evaluation is not None


def inspect(job: Job) -> State:
    """Look into the job's folder without changing anything.

    Raises:
        RefusedError: it holds a run with other settings, or of other data.
    """
    if not job.trains:
        return State(finished=True, evaluation=_evaluation(job, None))
    try:
        found = checkpoint_of(job)
        used = found is None and (job.folder / run_directory.CONFIG).exists()
        begun = run_directory.stored_config(job.folder) if used else None
    except InputError:  # it will be met again when the job's turn comes, and reported
        return State()
    if begun is not None:
        _refuse_other_settings(job, begun)
    if found is None:
        return State()
    _refuse_other_settings(job, found.config)
    if found.dataset.fingerprint != job.fingerprints[0]:
        raise RefusedError(
            "{} was trained on other data than {} ({}): give another {out}",
            *(job.folder, job.config.data.data, _difference(job, found)),
        )
    finished = found.step == job.steps
    return State(found.step, finished, _evaluation(job, found) if finished else None)


def _difference(job: Job, found: Checkpoint) -> str:
    from softvq_cli import datasets
    from softvq_cli.training.checkpoint import DatasetInfo

    return found.dataset.difference(DatasetInfo.of(datasets.load(job.config.data, "train")))


def checkpoint_of(job: Job, device: str = "cpu") -> Checkpoint | None:
    """The checkpoint in the job's folder, if there is one.

    Raises:
        InputError: it is damaged.
    """
    path = job.folder / run_directory.CHECKPOINT
    return _load(path, device) if path.exists() else None


def kept_of(job: Job, step: int, device: str = "cpu") -> Checkpoint:
    """The checkpoint in the job's folder that was kept after ``step`` iterations.

    Raises:
        InputError: there is none, or it is not one of this job's training.
    """
    found = _load(run_directory.kept_checkpoint(job.folder, step), device)
    if found.step != step or found.dataset.fingerprint != job.fingerprints[0]:
        raise InputError(f"{found.path} is of another training, or of another step: remove it")
    _refuse_other_settings(job, found.config)
    return found


def _load(path: Path, device: str) -> Checkpoint:
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint

    return checkpoint.load(path, pick(device))


def _refuse_other_settings(job: Job, there: RunConfig) -> None:
    stored, wanted = there.flat(), job.config.flat()
    unused = unused_settings(job.subject, wanted)
    for name, value in wanted.items():
        longer = name == run_directory.LONGER and stored[name] < value
        if name not in (*_OF_NO_EFFECT, *unused) and stored[name] != value and not longer:
            raise RefusedError(
                "{} holds a run with {} {}, and this asks for {}: give another {out}, or the settings of the "
                "first time",
                *(job.folder, param(name), stored[name], value),
            )


def subject_of(job: Job, checkpoint: Checkpoint | None, reporter: Reporter | None = None) -> Subject:
    """What the job evaluates: its checkpoint's model, or its control."""
    from softvq_cli import datasets

    reporter = reporter or Reporter()
    return Subject(
        checkpoint or Control(job.subject, job.config, job.file),
        lambda split: datasets.load(job.config.data, split, reporter=reporter),
        fingerprints=job.fingerprints,
        reporter=reporter,
    )


def _evaluation(job: Job, checkpoint: Checkpoint | None) -> Evaluation | None:
    """The stored one, if it has all parts."""
    stored = evaluate.read(job.folder, subject_of(job, checkpoint).key)
    return stored if stored.has(job.all_parts) else None
