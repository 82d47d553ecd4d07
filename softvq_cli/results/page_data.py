"""What a report shows of one run: its evaluation, and what the model makes of each test image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.devices import inference
from softvq_cli.errors import InputError
from softvq_cli.evaluation.codes import as_text
from softvq_cli.evaluation.tsne import FEWEST_ROWS
from softvq_cli.plots.page import Codebook, Kind, Number, View
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASELINE_TITLES, BASELINES, BASIC, EVALUATION, Evaluation
from softvq_cli.results.issues import Issues, Table, look
from softvq_cli.results.measures import CLUSTERS, RESULTS, measure, perplexity_for
from softvq_cli.results.predict import classified, nearest_centre
from softvq_cli.results.source import Source
from softvq_cli.results.subject import Encoding, Subject, decoded_codewords, encode
from softvq_cli.sharing import shared_path
from softvq_cli.words import Split

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.training.checkpoint import Checkpoint

MAX_POINTS = 20_000
"""Images on a page; larger splits are subsampled."""
NEIGHBOURS = 8
"""In z_e, of each image."""
CODEWORDS = 1024
"""Of a codebook, the most used ones."""
SIGMA_ROWS = 2048
"""Images over which the median of each σ_k is taken, at most."""


def collect(
    path: Path,
    title: str,
    *,
    jobs: int | None = None,
    max_points: int = MAX_POINTS,
    split: Split = "test",
    again: Callable[[RunConfig], str] = lambda _: "",
    reporter: Reporter | None = None,
    **source: Any,
) -> View:
    """What is to be shown of one run; what its folder does not have is measured. Nothing is written.

    The numbers are of the test split, whichever ``split`` is shown. ``again`` gives the command that makes a run of a
    configuration; ``source`` is for :meth:`Source.open`.
    """
    reporter = reporter or Reporter()
    reporter.stage(f"reading {title}")
    opened = Source.open(path, reporter=reporter, **source)
    subject = opened.subject(shown=lambda n: drawn_rows(n, max_points))
    shown = subject.test if split == "test" else opened.load(split, choice=True)
    for dataset in (subject.test, shown):
        if len(dataset) < 2:
            raise InputError(
                f"the {dataset.split} split of {dataset.name} has one image: a report compares at least two"
            )
    folder = path if path.is_dir() else path.parent
    parts = BASIC, BASELINES
    evaluation = evaluate.evaluate(subject, parts, folder=folder, keep=False, threads=jobs, reporter=reporter)
    rows = drawn_rows(len(shown), max_points)
    if split == "test":
        encoding = subject.encoding
        clusters, predicted, plane = map(evaluation.array, ("clusters", "predictions", "map"))
    else:
        encoding, plane = encode(opened.checkpoint.model, shown.images, rows, reporter=reporter), None
        clusters = nearest_centre(encoding.z, evaluation.array("centres"))
        predicted, _ = classified(encoding.z, evaluation)
    assert clusters is not None  # every evaluation has them
    run = _Run(opened, subject, shown, encoding, clusters, predicted, plane, evaluation, folder, jobs, reporter)
    return run.view(title, rows, again)


def drawn_rows(n: int, most: int) -> np.ndarray:
    """int64, rising: all of ``n`` rows, or ``most`` of them at random, always the same ones."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


@dataclass(frozen=True)
class _Run:
    """One run while it is read."""

    source: Source
    subject: Subject
    shown: Dataset
    """The split whose images are shown."""
    encoding: Encoding
    """Of them, as are clusters, predictions and the map, one row per image of the split."""
    clusters: np.ndarray
    predicted: np.ndarray | None
    plane: np.ndarray | None
    evaluation: Evaluation
    folder: Path
    jobs: int | None
    reporter: Reporter

    @property
    def checkpoint(self) -> Checkpoint:
        return self.source.checkpoint

    def view(self, title: str, rows: np.ndarray, again: Callable[[RunConfig], str]) -> View:
        """All of it, for the rows that are shown."""
        from softvq_cli.evaluation.quality import distance_to_centre
        from softvq_cli.evaluation.search import nearest

        shown, encoding, clusters, predicted = self.shown, self.encoding, self.clusters, self.predicted
        coordinates = self._coordinates(title, rows)
        self.reporter.stage(f"neighbours of {title}")
        z, images = encoding.z[rows], np.ascontiguousarray(shown.images[rows])
        neighbour_distances, neighbours = nearest(z, NEIGHBOURS, jobs=self.jobs)
        issues = self._issues(images, z, rows)
        distances = encoding.codeword_distances
        return View(
            title=title,
            numbers=self._numbers(),
            facts=self._facts(),
            again=again(self.checkpoint.config.shared()),
            notes=self._notes(len(rows)),
            rows=rows,
            images=None if shown.of_vectors else images,
            reconstructions=None if shown.of_vectors else encoding.reconstructions,
            errors=encoding.errors[rows],
            neighbours=neighbours,
            distances=neighbour_distances,
            groups={kind: [images.tolist() for images in groups] for kind, groups in issues.groups.items()},
            suspects={
                kind: [(each.row, each.suggested_class or f"{each.score:.2g}") for each in some]
                for kind, some in issues.suspects.items()
            },
            baselines={BASELINE_TITLES[name]: _results(of) for name, of in self.evaluation.baselines.items()},
            clusters=clusters[rows],
            centre_distances=distance_to_centre(encoding.z, clusters)[rows],
            coordinates=coordinates,
            labels=None if shown.labels is None else shown.labels[rows],
            class_names=shown.class_names,
            predicted=None if predicted is None else predicted[rows],
            file_names=None if shown.file_names is None else [shown.file_names[row] for row in rows],
            codewords=None if encoding.codewords is None else encoding.codewords[rows],
            codeword_distances=None if distances is None else distances[rows],
            code_maps=self._code_maps(images, rows),
            codebook=self._codebook(),
            curves=self._curves(),
        )

    def _issues(self, images: np.ndarray, z: np.ndarray, rows: np.ndarray) -> Issues:
        """What ``softvq issues`` finds among the images that are shown."""
        shown = self.shown
        names = None if shown.file_names is None else [shown.file_names[row] for row in rows]
        labels = None if shown.labels is None else shown.labels[rows]
        in_train = self.source.in_training(shown)[rows]
        table = Table(shown.name, (images,), in_train, rows, names, labels, shown.class_names)
        return look(table, z, self.reporter, self.source.folder)

    def _curves(self) -> list[dict[str, float]]:
        """The lines of the log, if it is the checkpoint's."""
        from softvq_cli.training import run_directory

        lines, last = run_directory.read_metrics(self.folder), self.checkpoint.metrics
        if lines and last and last not in lines:
            path = self.folder / run_directory.METRICS
            self.reporter.warn(f"{path} is not the log of the checkpoint next to it: its curves are not shown")
            return []
        return lines

    def _coordinates(self, title: str, rows: np.ndarray) -> np.ndarray | None:
        """The map of the images that are shown, (n, 2); None of too few."""
        from softvq_cli.evaluation.tsne import tsne

        if self.plane is not None and np.isfinite(self.plane[rows]).all():
            return np.asarray(self.plane[rows])
        if len(rows) < FEWEST_ROWS:
            return None
        self.reporter.stage(f"t-SNE of {title}")
        z = self.encoding.z[rows]
        coordinates: np.ndarray = tsne(z, perplexity=perplexity_for(len(z), Reporter()), jobs=self.jobs)
        return coordinates

    def _code_maps(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Where the model has a grid: its codes over the images that are shown."""
        from softvq_cli.plots.images import code_maps

        codes, grid = self.encoding.codes, self.checkpoint.config.model.grid
        return code_maps(images, codes[rows], grid) if grid and codes is not None else None

    def _codebook(self) -> Codebook | None:
        encoding, model = self.encoding, self.checkpoint.model
        usage, codewords = encoding.usage, encoding.codewords
        if usage is None or codewords is None:
            return None
        numbers = np.sort(np.argsort(-usage, kind="stable")[:CODEWORDS])
        sigma = _median_sigma(model, self.shown.images)
        return Codebook(
            images=None if model.of_vectors else decoded_codewords(model, numbers),
            numbers=numbers,
            usage=usage[numbers],
            counts=np.bincount(codewords, minlength=len(usage))[numbers],
            size=len(usage),
            sigma=None if sigma is None else sigma[numbers],
        )

    def _notes(self, shown: int) -> list[str]:
        notes, test, split = [], self.shown, self.shown.split
        kind = {"test": "test images", "train": "training images", "all": "training and test images"}[split]
        if split != "test":
            notes.append(
                f"the {kind} are shown; the numbers above and the centres of the clusters below are those of the test "
                "images"
            )
        if shown < len(test):
            notes.append(
                f"{shown:,} of the {len(test):,} {kind} are shown, drawn at random; neighbours, issues "
                "and counts are among these, the numbers above are of all"
            )
        if not self.checkpoint.finished:
            total = self.checkpoint.config.train.iterations
            notes.append(f"the training is not finished: step {self.checkpoint.step} of {total}")
        if test.labels is None:
            notes.append(f"the images have no labels: {CLUSTERS} clusters are shown, and no probe")
        remarks = self.evaluation.remarks(self.checkpoint)
        return [*remarks, *notes, *(f"the data: {note}" for note in test.notes)]

    def _facts(self) -> dict[str, dict[str, Any]]:
        trained, test = self.checkpoint, self.subject.test
        if test.of_vectors:
            size = f"{test.image_shape[0]} numbers"
        else:
            height, width, channels = test.image_shape
            size = f"{width}×{height}, {'grey' if channels == 1 else 'colour'}"
        data = {
            "name": test.name,
            "test images": len(test),
            "training images": trained.dataset.n,
            "size": size,
            "classes": len(test.class_names) or None,
            "fingerprint of the training images": trained.dataset.fingerprint[:16],
        }
        run = {
            "folder": shared_path(str(self.folder)),
            "step": trained.step,
            "seal of the checkpoint": trained.sha256[:16],
        }
        numbers, codes = self.evaluation.numbers, self.evaluation.details.get("code_usage")
        return {
            "data": data,
            "run": run,
            **(
                {} if codes is None else {f"{name} of the test images": lines for name, lines in as_text(codes).items()}
            ),
            **{f"{name} settings": values for name, values in trained.config.shared().as_dict().items()},
            **{f"measured on {name}, as in {EVALUATION}": dict(values) for name, values in numbers.items()},
        }

    def _numbers(self) -> list[Number]:
        """Results, those of all runs first."""
        values, trained = self.evaluation.numbers["z_e"], self.checkpoint
        numbers = _results(values)
        carried = [key for key in self.subject.encoding.numbers if key not in RESULTS]
        numbers += [Number(measure(key).title, float(values[key])) for key in carried]
        parameters = sum(weights.numel() for weights in trained.model.parameters())
        numbers += [Number("iterations", trained.step, "count"), Number("parameters", parameters, "count")]
        seconds = trained.metrics.get("seconds")
        return numbers if seconds is None else [*numbers, Number("seconds of training", seconds)]


def _results(values: Mapping[str, float]) -> list[Number]:
    """Those that come first."""
    return [Number(title, values[name], _kind(name)) for name, title in RESULTS.items() if name in values]


def _kind(name: str) -> Kind:
    return "share" if name.endswith("accuracy") else "number"


def _median_sigma(model: Any, images: np.ndarray) -> np.ndarray | None:
    """float64 (K,): the median of each σ_k over images, evenly spaced; None where the bottleneck has no σ."""

    rows = np.linspace(0, len(images) - 1, min(len(images), SIGMA_ROWS)).round().astype(np.int64)
    parts = []
    with inference(model.pixel_variance.device):
        for x in model.batches(images[rows]):
            sigma = model.bottleneck.sigma(model.encode(x)[1])
            if sigma is None:
                return None
            parts.append(sigma.cpu().double().numpy())
    return np.asarray(np.median(np.concatenate(parts), axis=0))
