"""What a report shows of one run, collected from its folder; what the folder does not have is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.tsne import FEWEST_ROWS
from softvq_cli.plots.page import Codebook, Kind, Number, View
from softvq_cli.results import kept, reading, result
from softvq_cli.results.maps import perplexity_for
from softvq_cli.results.run import stored_results
from softvq_cli.results.source import Source
from softvq_cli.sharing import shared_path

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.datasets.progress import Progress
    from softvq_cli.results.reading import Reading
    from softvq_cli.training.checkpoint import Checkpoint

MAX_POINTS = 20_000
"""Images of a page; of more so many are drawn at random."""
NEIGHBOURS = 8
"""In z_e, of each image."""
LONELY = 5
"""An image is alone by the distance to this neighbour."""
PAIRS = 40
"""Of images that look alike."""
CODEWORDS = 1024
"""Of a codebook, the most used ones."""
CLUSTERS = 10
"""Where there are no classes to say how many."""


@dataclass(frozen=True)
class Collector:
    """Reads runs for a page."""

    data: str | None = None
    """Other data than a run was trained on: a name or a path."""
    data_dir: str | None = None
    """Where the named data sets lie now."""
    device: str = "auto"
    jobs: int | None = None
    """Threads; one a core unless given."""
    max_points: int = MAX_POINTS
    begun: Callable[[str], None] = lambda _: None
    """Is told what is being done."""
    warn: Callable[[str], None] = lambda _: None
    progress: Progress | None = None
    again: Callable[[RunConfig], str] = lambda _: ""
    """The command that makes a run of this configuration."""
    note: Callable[[str], None] = lambda _: None
    """Is told where the data lie now, and what was dropped, mapped or rounded of them; the page says the latter too."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How other data are read, as in :class:`softvq_cli.results.source.Source`."""

    def collect(self, path: Path, title: str) -> View:
        """What is to be shown of one run.

        Args:
            path: its folder, or the checkpoint.
            title: of its tab.

        Raises:
            InputError: no checkpoint, or its data are missing or others.
        """
        from softvq_cli.training import log

        self.begun(f"reading {title}")
        source = Source.open(
            path,
            device=self.device,
            data=self.data,
            data_dir=self.data_dir,
            reading=self.reading,
            warn=self.warn,
            progress=self.progress,
            note=self.note,
        )
        trained, folder = source.checkpoint, path if path.is_dir() else path.parent
        source.compare()
        test = source.load("test")
        if len(test) < 2:
            raise InputError(f"the test split of {test.name} has one image: a report compares at least two")
        rows = drawn_rows(len(test), self.max_points)
        model = reading.read(trained.model, test.images, rows, progress=self.progress)
        run = _Run(self, folder, trained, source, test, rows, model, title)
        clusters, clustering = run.clusters()
        predicted, probe = run.predictions()
        return run.view(
            curves=log.read(folder),
            clusters=clusters,
            predicted=predicted,
            numbers=[*_results(clustering, probe), *_figures(model), *_training(trained)],
        )


def drawn_rows(n: int, most: int) -> np.ndarray:
    """int64, rising: all of ``n`` rows, or ``most`` of them at random, always the same ones."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


@dataclass(frozen=True)
class _Run:
    """One run while it is read."""

    by: Collector
    folder: Path
    checkpoint: Checkpoint
    source: Source
    test: Dataset
    rows: np.ndarray
    model: Reading
    title: str

    def clusters(self) -> tuple[np.ndarray, dict[str, Any]]:
        """The cluster of each test image, and the figures of the clustering."""
        from softvq_cli.evaluation.clustering import cluster

        stored, figures = self._stored("clustering", kept.CLUSTERS)
        if stored is not None and figures:
            return stored, figures
        self.by.begun(f"clustering {self.title}")
        count = min(CLUSTERS, len(self.test)) if self.test.labels is None else None
        found = cluster(self.model.z, self.test.labels, clusters=count, jobs=self.by.jobs)
        return found.assignments, found.as_dict()

    def predictions(self) -> tuple[np.ndarray | None, dict[str, Any]]:
        """What the softmax probe says of each test image, and its figures; None without two classes to learn."""
        from softvq_cli.evaluation.probe import probe

        stored, figures = self._stored("probe", kept.PREDICTIONS)
        if stored is not None and figures:
            return stored, figures
        train = self.source.load("train")
        if self.test.labels is None or train.labels is None or len(np.unique(train.labels)) < 2:
            return None, {}
        self.by.begun(f"probing {self.title}")
        z = reading.read(self.checkpoint.model, train.images, np.arange(0), progress=self.by.progress).z
        found = probe(z, train.labels, self.model.z, self.test.labels, class_names=train.class_names)
        return kept.predicted_labels(train.labels, self.test.labels, found.predicted), found.as_dict()

    def coordinates(self) -> np.ndarray | None:
        """The map of the images that are shown, (n, 2); None of too few."""
        from softvq_cli.evaluation.tsne import tsne

        stored, _ = self._stored("tsne", kept.MAP)
        if stored is None:
            stored = self._map_of_job()
        if stored is not None:
            return np.asarray(stored[self.rows])
        if len(self.rows) < FEWEST_ROWS:
            return None
        self.by.begun(f"t-SNE of {self.title}")
        z = self.model.z[self.rows]
        found: np.ndarray = tsne(z, perplexity=perplexity_for(len(z)), jobs=self.by.jobs)
        return found

    def _map_of_job(self) -> np.ndarray | None:
        """The map that ``reproduce`` left, if it is of this very checkpoint and these very data."""
        measured = result.of_checkpoint(self.folder, self.checkpoint.sha256).has((result.MAP,))
        stored = result.read_map(self.folder) if measured and self.by.data is None else None
        return stored if stored is not None and len(stored) == len(self.test) else None

    def _stored(self, stage: str, name: str) -> tuple[np.ndarray | None, dict[str, Any]]:
        """What ``run`` kept of this very checkpoint and these very data."""
        if self.by.data is not None:
            return None, {}
        found = stored_results(self.folder, self.checkpoint.sha256).get(stage)
        return (None, {}) if found is None else (kept.kept(self.folder, name, len(self.test)), found)

    def view(
        self,
        *,
        curves: list[dict[str, Any]],
        clusters: np.ndarray,
        predicted: np.ndarray | None,
        numbers: list[Number],
    ) -> View:
        """All of it, for the rows that are shown."""
        from softvq_cli.evaluation import quality

        self.by.begun(f"neighbours of {self.title}")
        test, rows, model = self.test, self.rows, self.model
        z, images = model.z[rows], np.ascontiguousarray(test.images[rows])
        near = quality.nearest_rows(z, NEIGHBOURS, jobs=self.by.jobs)
        pairs = quality.similar_pairs(images, near, PAIRS)
        return View(
            title=self.title,
            numbers=numbers,
            facts=self._facts(),
            again=self.by.again(self.checkpoint.config.shared()),
            notes=self._notes(),
            rows=rows,
            images=images,
            reconstructions=model.reconstructions,
            errors=model.errors[rows],
            neighbours=near.rows,
            distances=near.distances,
            loneliness=near.loneliness(LONELY),
            pairs=np.stack([pairs.first, pairs.second], axis=1),
            differences=pairs.difference,
            clusters=clusters[rows],
            centre_distances=quality.distance_to_centre(model.z, clusters)[rows],
            coordinates=self.coordinates(),
            labels=None if test.labels is None else test.labels[rows],
            class_names=test.class_names,
            predicted=None if predicted is None else predicted[rows],
            file_names=None if test.file_names is None else [test.file_names[row] for row in rows],
            codewords=None if model.codewords is None else model.codewords[rows],
            codeword_distances=None if model.codeword_distances is None else model.codeword_distances[rows],
            codebook=self._codebook(),
            curves=curves,
        )

    def _codebook(self) -> Codebook | None:
        usage, codewords = self.model.usage, self.model.codewords
        if usage is None or codewords is None:
            return None
        numbers = np.sort(np.argsort(-usage, kind="stable")[:CODEWORDS])
        sigma = reading.median_sigma(self.checkpoint.model, self.test.images)
        return Codebook(
            images=reading.decoded_centroids(self.checkpoint.model, numbers),
            numbers=numbers,
            usage=usage[numbers],
            counts=np.bincount(codewords, minlength=len(usage))[numbers],
            size=len(usage),
            sigma=None if sigma is None else sigma[numbers],
        )

    def _notes(self) -> list[str]:
        notes = []
        if len(self.rows) < len(self.test):
            notes.append(
                f"{len(self.rows)} of the {len(self.test)} test images are shown, drawn at random; neighbours, pairs "
                "and counts are among these, the numbers above are of all"
            )
        if not self.checkpoint.finished:
            total = self.checkpoint.config.train.iterations
            notes.append(f"the training is not finished: step {self.checkpoint.step} of {total}")
        if self.test.labels is None:
            notes.append(f"the images have no labels: {CLUSTERS} clusters are shown, and no probe")
        return notes + [f"the data: {note}" for note in self.test.notes]

    def _facts(self) -> dict[str, dict[str, Any]]:
        trained, test = self.checkpoint, self.test
        height, width, channels = test.image_shape
        data = {
            "name": test.name,
            "test images": len(test),
            "training images": trained.dataset.n,
            "size": f"{width}×{height}, {'grey' if channels == 1 else 'colour'}",
            "classes": len(test.class_names) or None,
            "fingerprint of the training images": trained.dataset.fingerprint[:16],
        }
        run = {
            "folder": shared_path(str(self.folder)),
            "step": trained.step,
            "seal of the checkpoint": trained.sha256[:16],
        }
        measured = result.of_checkpoint(self.folder, trained.sha256).figures
        return {
            "data": data,
            "run": run,
            **{f"{name} settings": values for name, values in trained.config.shared().as_dict().items()},
            **{f"measured on {name}, as in {result.EVALUATION}": dict(values) for name, values in measured.items()},
        }


def _results(clustering: Mapping[str, Any], probe: Mapping[str, Any]) -> list[Number]:
    wanted: list[tuple[Mapping[str, Any], str, str, Kind]] = [
        (clustering, "accuracy", "clustering accuracy", "share"),
        (clustering, "nmi", "NMI", "number"),
        (clustering, "silhouette", "silhouette", "number"),
        (probe, "accuracy", "probe accuracy", "share"),
        (probe, "train_accuracy", "probe accuracy on the training images", "share"),
    ]
    return [Number(text, of[name], kind) for of, name, text, kind in wanted if of.get(name) is not None]


def _figures(model: Reading) -> list[Number]:
    error = Number("reconstruction error (nMSE)", float(model.errors.mean()))
    return [error, *(Number(name.replace("_", " "), float(value)) for name, value in model.figures.items())]


def _training(trained: Checkpoint) -> list[Number]:
    parameters = sum(weights.numel() for weights in trained.model.parameters())
    seconds = trained.metrics.get("seconds")
    numbers = [Number("iterations", trained.step, "count"), Number("parameters", parameters, "count")]
    return numbers if seconds is None else [*numbers, Number("seconds of training", seconds)]
