"""The paper's comparisons as studies: what may be asked of them, and how each is planned.

Figure 4 compares models at a common reconstruction error. Every model is first trained in full. The target is the error
at which the paper's own model ends, the soft VQ-VAE, unless another is given: the largest error of all would be that of
the weakest bottleneck, which the others pass before they have learned much. Each run is then repeated up to the first
line of its log at or below the target; with the same seed it is the same run, cut short: nothing in it depends on how
long it was meant to be. A model that never comes down to it is shown in full, and so is the one whose last error it is,
which may have been there for a line before.
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
"""The row whose last error the others are stopped at; without it, the largest of all."""
_LARGEST = "the weakest model's last error decides where all of them stop"
_LOG_EVERY = 50
"""Iterations between two lines of the logs in which the common error is looked up."""


@dataclass(frozen=True, kw_only=True)
class PaperRequest(StudyRequest):
    """Comparisons of the paper that are asked for; names and numbers are checked when it is made."""

    names: tuple[str, ...]
    """Of :data:`softvq_cli.experiments.paper.COMPARISONS`."""
    only: tuple[str, ...] = ()
    """Rows; the comparison's own where empty."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of a comparison's data set → other data to use in its place."""
    only_data: tuple[str, ...] = ()
    """Data sets of the comparisons; all where empty."""
    full: bool = False
    """Also measure what goes beyond the paper's evaluation."""
    target_nmse: float | None = None
    """Of Figure 4 and the ablation; the soft VQ-VAE's last error where None."""

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
        """Its rows, and those that come in by their name alone; there is no common error of a control."""
        names = {row.name for row in comparison.rows}
        more = (*BOTTLENECKS, *(() if comparison.matched else CONTROLS))
        return [*comparison.rows, *(model_row(name) for name in more if name not in names)]

    def rows(self, comparison: Comparison) -> list[Row]:
        """Those that are asked for, in the comparison's order."""
        rows = list(comparison.rows)
        if self.only:
            rows = [row for row in self._possible_rows(comparison) if row.name in self.only]
        if "latent_dim" not in comparison.settings:
            return rows
        latent_dim = {**comparison.settings, **self.settings}["latent_dim"]
        return [dataclasses.replace(row, stem=f"{row.name}-d{latent_dim}") for row in rows]

    def parts(self, comparison: Comparison) -> tuple[str, ...]:
        """What is to be measured of each model."""
        return tuple(dict.fromkeys((*comparison.parts, *((PROBES, MAP) if self.full else ()))))

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        """A study for each comparison of whose data there is any."""
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
        """(the data sets that can be had, why the others cannot), by the comparisons' names."""
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
        # A matched run is measured when it has been cut.
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
        """The study with its runs, trained in full, cut at a common test error; failed jobs stay, for the report."""
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
    """For each of the rows with a codebook one of what its decoder receives."""
    return [
        dataclasses.replace(row, label=f"{row.label}, on ẑ_q", representation="z_q")
        for row in rows
        if row.subject in BOTTLENECKS and BOTTLENECKS[row.subject].has_codebook
    ]


def _errors(job: Job) -> list[tuple[int, float]]:
    """(step, error on the test split), from the job's log."""
    return [(line["step"], line["test_nmse"]) for line in run_directory.read_metrics(job.folder)]


def _step_at(target: float, curve: Sequence[tuple[int, float]]) -> int | None:
    """The first step with that error or less, or of the run whose last error it is the last; None where none has it."""
    if curve and curve[-1][1] == target:
        return curve[-1][0]
    return next((step for step, error in curve if error <= target), None)


def _last_error(curves: Mapping[Job, Sequence[tuple[int, float]]]) -> float | None:
    """Of the reference, of several seeds the largest, or of all rows; None where nothing was trained."""
    ends = {job: curve[-1][1] for job, curve in curves.items() if curve}
    return max([end for job, end in ends.items() if job.row == REFERENCE] or ends.values(), default=None)


def _cut(job: Job, step: int, parts: tuple[str, ...]) -> Job:
    """The same run with ``step`` iterations, in a folder of its own; a run that needs all of them stays where it is."""
    if step == job.steps:
        return dataclasses.replace(job, parts=parts)
    train = dataclasses.replace(job.config.train, iterations=step)
    config = dataclasses.replace(job.config, train=train)
    return dataclasses.replace(job, folder=job.folder.with_name(f"{job.name}-i{step}"), config=config, parts=parts)
