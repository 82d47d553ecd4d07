"""The paper's comparisons as studies: their options, and how each is planned.

Figure 4 compares models at a common reconstruction error. First, every model is trained in full. The default target is
the final error of the paper's own model, the soft VQ-VAE. (The largest error of all models would be that of the weakest
bottleneck, which the others reach before they have learned much.) Then each run is repeated up to the first line of its
log with an error at or below the target. With the same seed it is the same run, stopped earlier, because no step
depends on the planned length. A model that never reaches the target is shown in full. So is the model whose final error
is the target, although an earlier line of its log may also be at the target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import Message, SoftVQError, UsageError, unknown_name
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.paper import BASELINE, COMPARISONS, Comparison
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Row, Study, StudyData, StudyRequest, load_data, model_row, plan_jobs
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import MAP, PROBES
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, CONTROLS

REFERENCE = "soft-vq"
"""The row whose final error is the target; without it, the largest error of all rows."""
_LARGEST = "the weakest model's last error decides where all of them stop"
_LOG_EVERY = 50
"""Iterations between two lines of the logs in which the target is searched."""


@dataclass(frozen=True, kw_only=True)
class PaperRequest(StudyRequest):
    """A request for comparisons of the paper; names and numbers are checked on construction."""

    names: tuple[str, ...]
    """Names in :data:`softvq_cli.experiments.paper.COMPARISONS`."""
    only: tuple[str, ...] = ()
    """Rows to include; empty: those of the comparison."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of a comparison's data set → other data that replace it."""
    only_data: tuple[str, ...] = ()
    """Data sets to include; empty: all."""
    full: bool = False
    """Whether to measure more than the paper's evaluation."""
    target_nmse: float | None = None
    """Target error of Figure 4 and the ablation; None: the final error of the soft VQ-VAE."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in COMPARISONS:
                raise UsageError(unknown_name("comparison", name, (*COMPARISONS, "all")))
        for data in (*self.data, *self.only_data):
            if data not in self._data_names:
                raise UsageError(unknown_name(f"data set of {', '.join(self.names)}", data, self._data_names))
        rows = dict.fromkeys(row.name for each in self._comparisons for row in self._possible_rows(each))
        for row in self.only:
            if row not in rows:
                raise UsageError(unknown_name("row", row, rows))
        if self.target_nmse is not None:
            matched = [name for name, comparison in COMPARISONS.items() if comparison.matched]
            if not set(matched) & set(self.names):
                raise UsageError("{target_nmse} is for {}, not for {}", ", ".join(matched), ", ".join(self.names))
            if not self.target_nmse > 0:
                raise UsageError("{target_nmse} must be above 0, not {}", self.target_nmse)
        self.check(("data", "bottleneck", "seed"))
        RunConfig.from_flat(self.settings)

    @property
    def _comparisons(self) -> list[Comparison]:
        return [COMPARISONS[name] for name in self.names]

    @property
    def _data_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(data for comparison in self._comparisons for data in comparison.data))

    @property
    def reports(self) -> tuple[str, ...]:
        return self.names

    @staticmethod
    def _possible_rows(comparison: Comparison) -> list[Row]:
        """Its rows, and optional ones that are selected only by name; controls have no error to match."""
        names = {row.name for row in comparison.rows}
        more = (*BOTTLENECKS, *(() if comparison.matched else CONTROLS))
        return [*comparison.rows, *(model_row(name) for name in more if name not in names)]

    def rows(self, comparison: Comparison) -> list[Row]:
        """The requested rows, in the comparison's order."""
        rows = list(comparison.rows)
        if self.only:
            rows = [row for row in self._possible_rows(comparison) if row.name in self.only]
        if "latent_dim" not in comparison.settings:
            return rows
        latent_dim = {**comparison.settings, **self.settings}["latent_dim"]
        return [dataclasses.replace(row, stem=f"{row.name}-d{latent_dim}") for row in rows]

    def parts(self, comparison: Comparison) -> tuple[str, ...]:
        """The parts to measure for each model."""
        return tuple(dict.fromkeys((*comparison.parts, *((PROBES, MAP) if self.full else ()))))

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        """One study for each comparison with available data."""
        data, missing = self._load(reporter)
        studies = tuple(study for study in (self._study(name, data, missing) for name in self.names) if study.jobs)
        if not studies:
            raise UsageError(f"{', '.join(self.names)} has none of the rows {', '.join(self.only)}")
        for study in studies:
            if study.then and self.target_nmse is None and REFERENCE not in {row.name for row in study.rows}:
                text = "{} without {}: {}; {target_nmse} sets another"
                reporter.warn(Message(text, study.name, REFERENCE, _LARGEST))
        return studies

    def _load(self, reporter: Reporter) -> tuple[dict[str, StudyData], dict[str, str]]:
        """(available data sets, reasons why others are not available), by their name in the comparisons."""
        wanted = [data for data in self._data_names if not self.only_data or data in self.only_data]
        loaded: dict[str, StudyData] = {}
        missing: dict[str, str] = {}
        for data in wanted:
            config = DataConfig(**self.data_settings | {"data": self.data.get(data, data)})
            try:
                loaded[data] = load_data(config, data, reporter)
            except UsageError:
                raise
            except SoftVQError as error:
                if len(wanted) == 1:
                    raise
                missing[data] = str(error)
                reporter.warn(Message("{} is left out: {}", data, error.message))
        if not loaded:
            raise SoftVQError(f"no data to work on: {'; '.join(missing.values())}")
        names = [described.name for described in loaded.values()]
        if len(set(names)) < len(names):
            raise UsageError(f"two data sets of a comparison cannot have one name: {', '.join(names)}")
        return loaded, missing

    def _study(self, name: str, data: Mapping[str, StudyData], missing: Mapping[str, str]) -> Study:
        comparison = COMPARISONS[name]
        own = {each: data[each] for each in comparison.data if each in data}
        rows = self.rows(comparison)
        seeds = tuple(range(self.seeds or comparison.seeds))
        # A matched run is measured after it has been shortened.
        parts = () if comparison.matched else self.parts(comparison)
        shared = {**({"log_every": _LOG_EVERY} if comparison.matched else {}), **comparison.settings, **self.settings}
        return Study(
            name=name,
            title=f"{comparison.title}, {', '.join(described.title for described in own.values())}",
            command=self.command,
            seeds=seeds,
            rows=(*rows, *(decoder_inputs(rows) if comparison.inputs else ())),
            columns=tuple(column for column in comparison.columns if column.data in own),
            data=own,
            jobs=plan_jobs(self.out, rows, own, seeds, parts=parts, shared=shared),
            baseline=BASELINE,
            missing={each: missing[each] for each in comparison.data if each in missing},
            figure="maps" if MAP in comparison.parts else "bars",
            further={"target_nmse": None},
            then=self.match if comparison.matched else None,
        )

    def match(self, study: Study, outcome: Outcome) -> Study:
        """The study with its full runs shortened to a common test error; failed jobs remain, for the report."""
        trained = [job for job in study.jobs if job in outcome.evaluations]
        curves = {job: _errors(job) for job in trained}
        target = self.target_nmse or _last_error(curves)
        failed = tuple(job for job in study.jobs if job in outcome.failures)
        if target is None:
            return dataclasses.replace(study, jobs=failed)
        notes = [f"every model stops at the first line of its log with a validation nMSE of {target:.4f} or less"]
        if self.target_nmse is None and all(job.row != REFERENCE for job in curves):
            notes.append(_LARGEST)
        cut = []
        for job, curve in curves.items():
            step = _step_at(target, curve)
            if step is None:
                notes.append(f"{job.name} does not come down to it, and is shown after all its {job.steps} iterations")
            cut.append(_cut(job, step or job.steps, self.parts(COMPARISONS[study.name])))
        return dataclasses.replace(
            study,
            jobs=(*cut, *failed),
            planned=study.jobs,
            notes=(*study.notes, *notes),
            further={**study.further, "target_nmse": target},
        )


def decoder_inputs(rows: Sequence[Row]) -> list[Row]:
    """For each row with a codebook, a row for the decoder's input."""
    return [
        dataclasses.replace(row, label=f"{row.label}, on ẑ_q", representation="z_q")
        for row in rows
        if row.subject in BOTTLENECKS and BOTTLENECKS[row.subject].has_codebook
    ]


def _errors(job: Job) -> list[tuple[int, float]]:
    """(step, error on the test split) from the job's log."""
    return [(line["step"], line["test_nmse"]) for line in run_directory.read_metrics(job.folder)]


def _step_at(target: float, curve: Sequence[tuple[int, float]]) -> int | None:
    """The first step with at most this error (the last step if it is the run's final error); None if there is none."""
    if curve and curve[-1][1] == target:
        return curve[-1][0]
    return next((step for step, error in curve if error <= target), None)


def _last_error(curves: Mapping[Job, Sequence[tuple[int, float]]]) -> float | None:
    """The final error of the reference (the largest of its seeds), else the largest of all rows; None without any."""
    ends = {job: curve[-1][1] for job, curve in curves.items() if curve}
    return max([end for job, end in ends.items() if job.row == REFERENCE] or ends.values(), default=None)


def _cut(job: Job, step: int, parts: tuple[str, ...]) -> Job:
    """The same run with ``step`` iterations in its own folder; a run that needs all iterations keeps its folder."""
    if step == job.steps:
        return dataclasses.replace(job, parts=parts)
    train = dataclasses.replace(job.config.train, iterations=step)
    config = dataclasses.replace(job.config, train=train)
    return dataclasses.replace(job, folder=job.folder.with_name(f"{job.name}-i{step}"), config=config, parts=parts)
