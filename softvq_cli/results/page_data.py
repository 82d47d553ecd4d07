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
from softvq_cli.results.evaluate import BASIC, EVALUATION, Evaluation
from softvq_cli.results.measures import CLUSTERS, perplexity_for
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
LONELY = 5
"""An image is alone by the distance to this neighbour."""
PAIRS = 40
"""Of images that look alike."""
CODEWORDS = 1024
"""Of a codebook, the most used ones."""
SIGMA_ROWS = 2048
"""Images over which the median of each σ_k is taken, at most."""
_RESULTS: Mapping[str, tuple[str, Kind]] = {
    "clustering_accuracy": ("clustering accuracy", "share"),
    "nmi": ("NMI", "number"),
    "silhouette": ("silhouette", "number"),
    "probe_accuracy": ("probe accuracy", "share"),
    "train_accuracy": ("probe accuracy on the training images", "share"),
    "test_nmse": ("reconstruction error (nMSE)", "number"),
}
"""Numbers of an evaluation that come first, with their names on the page."""


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

    Args:
        path: its folder, or the checkpoint.
        title: of its tab.
        jobs: threads; one per core unless given.
        max_points: images on the page.
        split: whose images are shown; the numbers are of the test split in any case.
        again: the command that makes a run of this configuration.
        reporter: is told of stages, progress and notes; the page has the notes on the data, too.
        source: device and other data, see :meth:`softvq_cli.results.source.Source.open`.

    Raises:
        InputError: no checkpoint, or its data are missing or others.
    """
    reporter = reporter or Reporter()
    reporter.stage(f"reading {title}")
    opened = Source.open(path, reporter=reporter, **source)
    subject = opened.subject(shown=lambda n: drawn_rows(n, max_points))
    if len(subject.test) < 2:
        raise InputError(f"the test split of {subject.test.name} has one image: a report compares at least two")
    shown = subject.test if split == "test" else opened.load(split, choice=True)
    if len(shown) < 2:
        raise InputError(f"the {split} split of {shown.name} has one image: a report compares at least two")
    folder = path if path.is_dir() else path.parent
    evaluation = evaluate.evaluate(subject, (BASIC,), folder=folder, keep=False, threads=jobs, reporter=reporter)
    rows = drawn_rows(len(shown), max_points)
    if split == "test":
        images = _Images.of_test(subject, evaluation)
    else:
        reporter.stage(f"measuring the images of {title}")
        images = _Images.of(subject, shown, rows, jobs, reporter)
    return _Run(opened.checkpoint, subject, images, split, evaluation, folder, jobs, reporter).view(title, rows, again)


def drawn_rows(n: int, most: int) -> np.ndarray:
    """int64, rising: all of ``n`` rows, or ``most`` of them at random, always the same ones."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


@dataclass(frozen=True)
class _Images:
    """The images of a split, and what is known of each."""

    dataset: Dataset
    encoding: Encoding
    clusters: np.ndarray
    predicted: np.ndarray | None
    coordinates: np.ndarray | None
    """The map of all of them, where there is one."""

    @classmethod
    def of_test(cls, subject: Subject, evaluation: Evaluation) -> _Images:
        """From the evaluation."""
        clusters = evaluation.array("clusters")
        assert clusters is not None  # every evaluation has them
        return cls(subject.test, subject.encoding, clusters, evaluation.array("predictions"), evaluation.array("map"))

    @classmethod
    def of(cls, subject: Subject, dataset: Dataset, rows: np.ndarray, jobs: int | None, reporter: Reporter) -> _Images:
        """Measured: the clusters are those of K-means on these images, the probe is that of the training split."""
        from softvq_cli.evaluation.clustering import cluster
        from softvq_cli.evaluation.probe import probe

        assert subject.checkpoint is not None
        encoding = encode(subject.checkpoint.model, dataset.images, rows, reporter=reporter)
        clusters = None if dataset.labels is not None else min(CLUSTERS, len(dataset))
        assignments = cluster(encoding.z, dataset.labels, clusters=clusters, jobs=jobs, silhouette=False).assignments
        predicted, labels = None, subject.train.labels
        if labels is not None and dataset.labels is not None and len(np.unique(labels)) > 1:
            result = probe(subject.train_z, labels, encoding.z, dataset.labels)
            predicted = np.unique(np.concatenate([labels, dataset.labels]))[result.predicted]
        return cls(dataset, encoding, assignments, predicted, None)


@dataclass(frozen=True)
class _Run:
    """One run while it is read."""

    checkpoint: Checkpoint
    subject: Subject
    shown: _Images
    split: Split
    evaluation: Evaluation
    folder: Path
    jobs: int | None
    reporter: Reporter

    def view(self, title: str, rows: np.ndarray, again: Callable[[RunConfig], str]) -> View:
        """All of it, for the rows that are shown."""
        from softvq_cli.evaluation import quality

        test, encoding = self.shown.dataset, self.shown.encoding
        coordinates = self._coordinates(title, rows)
        self.reporter.stage(f"neighbours of {title}")
        z, images = encoding.z[rows], np.ascontiguousarray(test.images[rows])
        near = quality.nearest_rows(z, NEIGHBOURS, jobs=self.jobs)
        pairs = quality.similar_pairs(images, near, PAIRS)
        clusters, predicted = self.shown.clusters, self.shown.predicted
        distances = encoding.codeword_distances
        return View(
            title=title,
            numbers=self._numbers(),
            facts=self._facts(),
            again=again(self.checkpoint.config.shared()),
            notes=self._notes(len(rows)),
            rows=rows,
            images=None if test.of_vectors else images,
            reconstructions=None if test.of_vectors else encoding.reconstructions,
            errors=encoding.errors[rows],
            neighbours=near.rows,
            distances=near.distances,
            loneliness=near.loneliness(LONELY),
            pairs=np.stack([pairs.first, pairs.second], axis=1),
            differences=pairs.difference,
            clusters=clusters[rows],
            centre_distances=quality.distance_to_centre(encoding.z, clusters)[rows],
            coordinates=coordinates,
            labels=None if test.labels is None else test.labels[rows],
            class_names=test.class_names,
            predicted=None if predicted is None else predicted[rows],
            file_names=None if test.file_names is None else [test.file_names[row] for row in rows],
            codewords=None if encoding.codewords is None else encoding.codewords[rows],
            codeword_distances=None if distances is None else distances[rows],
            code_maps=self._code_maps(images, rows),
            codebook=self._codebook(),
            curves=self._curves(),
        )

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

        stored = self.shown.coordinates
        if stored is not None and np.isfinite(stored[rows]).all():
            return np.asarray(stored[rows])
        if len(rows) < FEWEST_ROWS:
            return None
        self.reporter.stage(f"t-SNE of {title}")
        z = self.shown.encoding.z[rows]
        coordinates: np.ndarray = tsne(z, perplexity=perplexity_for(len(z), Reporter()), jobs=self.jobs)
        return coordinates

    def _code_maps(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Where the model has a grid: its codes over the images that are shown."""
        from softvq_cli.plots.images import code_maps

        codes, grid = self.shown.encoding.codes, self.checkpoint.config.model.grid
        return code_maps(images, codes[rows], grid) if grid and codes is not None else None

    def _codebook(self) -> Codebook | None:
        encoding, model = self.shown.encoding, self.checkpoint.model
        usage, codewords = encoding.usage, encoding.codewords
        if usage is None or codewords is None:
            return None
        numbers = np.sort(np.argsort(-usage, kind="stable")[:CODEWORDS])
        sigma = _median_sigma(model, self.shown.dataset.images)
        return Codebook(
            images=None if model.of_vectors else decoded_codewords(model, numbers),
            numbers=numbers,
            usage=usage[numbers],
            counts=np.bincount(codewords, minlength=len(usage))[numbers],
            size=len(usage),
            sigma=None if sigma is None else sigma[numbers],
        )

    def _notes(self, shown: int) -> list[str]:
        notes, test = [], self.shown.dataset
        kind = {"test": "test images", "train": "training images", "all": "training and test images"}[self.split]
        if self.split != "test":
            notes.append(
                f"the {kind} are shown; the numbers above are of the test images alone, the clusters below are those "
                "of the images that are shown"
            )
        if shown < len(test):
            notes.append(
                f"{shown:,} of the {len(test):,} {kind} are shown, drawn at random; neighbours, pairs "
                "and counts are among these, the numbers above are of all"
            )
        if not self.checkpoint.finished:
            total = self.checkpoint.config.train.iterations
            notes.append(f"the training is not finished: step {self.checkpoint.step} of {total}")
        if test.labels is None:
            notes.append(f"the images have no labels: {CLUSTERS} clusters are shown, and no probe")
        return notes + [f"the data: {note}" for note in test.notes]

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
        """Results that stand next to those of the other runs."""
        values, trained = self.evaluation.numbers["z_e"], self.checkpoint
        numbers = [Number(name, values[key], kind) for key, (name, kind) in _RESULTS.items() if key in values]
        carried = [key for key in self.subject.encoding.numbers if key not in _RESULTS]
        numbers += [Number(key.replace("_", " "), float(values[key])) for key in carried]
        parameters = sum(weights.numel() for weights in trained.model.parameters())
        numbers += [Number("iterations", trained.step, "count"), Number("parameters", parameters, "count")]
        seconds = trained.metrics.get("seconds")
        return numbers if seconds is None else [*numbers, Number("seconds of training", seconds)]


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
