"""Predictions of a run for new images or vectors: class, cluster, outlier score, nearest training images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softvq_cli.datasets.dataset import evenly_spaced
from softvq_cli.errors import InputError
from softvq_cli.files import as_utf8, atomic_write, write_text
from softvq_cli.ranges import MOST_COUNT, check_number
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASIC
from softvq_cli.results.source import Source
from softvq_cli.results.subject import represent

_LONELY = 5
"""The outlier score of an image is based on the distance to this nearest training image."""
_SAMPLE = 5000
"""Maximum number of training images for the comparison of such distances."""
ENDINGS = (".parquet", ".csv")
"""Suffixes of files for predictions."""


class _Training(NamedTuple):
    """Information about the N training images of a run."""

    z: np.ndarray
    labels: np.ndarray | None
    class_names: Sequence[str]
    file_names: Sequence[str] | None

    def class_of(self, label: int) -> str:
        return self.class_names[label] if 0 <= label < len(self.class_names) else str(label)

    def describe(self, row: int, distance: float) -> dict[str, Any]:
        """Describe a neighbour; without file names, by its index in the training split."""
        name = f"#{row}" if self.file_names is None else self.file_names[row]
        cls = None if self.labels is None else self.class_of(int(self.labels[row]))
        return {"file": name, "class": cls, "distance": distance}


def predict(
    run: Path, paths: Sequence[Path], *, neighbours: int = 3, device: str = "auto", reporter: Reporter | None = None
) -> list[dict[str, Any]]:
    """Classify new images by the probe of a run, and find their nearest training images.

    ``paths`` are images, or folders of images, which are converted to the model's size, channels and value range; for a
    model of vectors, files of vectors with one row each. What the folder lacks is computed; nothing is written. Each
    image has its ``file``, the most probable ``class`` with its ``probability`` (None without labels), a ``cluster``,
    an ``outlier`` score (the fraction of training images that are nearer to their own neighbours), and its
    ``neighbours`` in z_e.
    """
    from softvq_cli.evaluation.clustering import nearest_centre
    from softvq_cli.evaluation.search import nearest

    reporter = reporter or Reporter()
    neighbours = int(check_number("neighbours", neighbours, low=1, high=MOST_COUNT))
    source = Source.open(run, device=device, reporter=reporter)
    names, images = (_vectors if source.checkpoint.model.of_vectors else _images)(source, paths)
    training, evaluation = _training(source, reporter)
    z = represent(source.checkpoint.model, images, "z_e", reporter)
    reporter.stage("searching neighbours")
    k = min(max(neighbours, _LONELY), len(training.z) - 1)
    distances, rows = nearest(training.z, k, queries=z)
    outlier = _outliers(training.z, distances[:, min(_LONELY, k) - 1])
    clusters = nearest_centre(z, evaluation.centres)
    labels, probabilities = classified(z, evaluation)
    return [
        {
            "file": as_utf8(name),
            "class": None if labels is None else training.class_of(int(labels[i])),
            "probability": None if probabilities is None else float(probabilities[i]),
            "cluster": int(clusters[i]),
            "outlier": float(outlier[i]),
            "neighbours": [
                training.describe(int(rows[i, j]), float(distances[i, j])) for j in range(min(neighbours, k))
            ],
        }
        for i, name in enumerate(names)
    ]


def _images(source: Source, paths: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """Read images: names of the files, and uint8 (n, H, W, C)."""
    from softvq_cli.datasets.loose import image_files, read_images

    files, checkpoint = image_files(paths), source.checkpoint
    if not files:
        raise InputError("there are no images to look at")
    pixel_range = checkpoint.config.data.pixel_range
    return [*map(str, files)], read_images(files, checkpoint.model.image_shape, pixel_range, source.reporter)


def _vectors(source: Source, paths: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """Read vectors: a name for each row of the files, and float32 (n, D)."""
    splits = [replace(source, data=str(path)).load("all") for path in paths]
    if not splits:
        raise InputError("there are no vectors to look at")
    names = [f"{path}#{row}" for path, split in zip(paths, splits, strict=True) for row in range(len(split))]
    return names, np.concatenate([np.asarray(split.images) for split in splits])


def _training(source: Source, reporter: Reporter) -> tuple[_Training, evaluate.Evaluation]:
    """z_e of the training split and the evaluation, from the folder if available, else computed."""
    from softvq_cli import embeddings

    folder, seal = source.checkpoint.path.parent, source.checkpoint.sha256
    evaluation = evaluate.read(folder, {"checkpoint_sha256": seal})
    rows = embeddings.read_stored(folder / "embeddings-train.npy", seal, source.checkpoint.dataset.fingerprint)
    if rows is not None and evaluation.has((BASIC,)):
        return _Training(rows.z, rows.labels, rows.class_names, rows.info.get("file_names")), evaluation
    subject = source.subject()
    evaluation = evaluate.evaluate(subject, (BASIC,), folder=folder, keep=False, reporter=reporter)
    train = subject.train
    return _Training(subject.train_z, train.labels, train.class_names, train.file_names), evaluation


def _outliers(train: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The fraction of training images with a smaller distance to their fifth neighbour: float64 (n,)."""
    from softvq_cli.evaluation.search import nearest

    sample = train[evenly_spaced(len(train), _SAMPLE)]
    k = min(_LONELY + 1, len(train) - 1)  # each training image is its own nearest one
    usual = np.sort(nearest(train, k, queries=sample)[0][:, -1])
    return np.asarray(np.searchsorted(usual, distances) / len(usual))


def classified(z: np.ndarray, evaluation: evaluate.Evaluation) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(label, its probability) of each row by softmax regression; None without a probe."""
    from scipy.special import softmax

    weights = evaluation.array("probe")
    if weights is None:
        return None, None
    logits = z.astype(np.float64) @ weights[:, 1:-1].T + weights[:, -1]
    return weights[logits.argmax(axis=1), 0].astype(np.int64), softmax(logits, axis=1).max(axis=1)


def write(path: Path, predictions: Sequence[Mapping[str, Any]]) -> None:
    """Write predictions to a ``.parquet`` or ``.csv`` file, one row per image."""
    if path.suffix == ".parquet":
        from softvq_cli.embeddings import parquet

        parquet.check_available()
        import pyarrow as pa
        from pyarrow.parquet import write_table

        with atomic_write(path) as file:
            write_table(pa.Table.from_pylist(list(predictions)), file)
        return
    rows = [
        {
            **{name: value for name, value in prediction.items() if name != "neighbours"},
            **{
                f"neighbour_{number}_{name}": value
                for number, neighbour in enumerate(prediction["neighbours"], 1)
                for name, value in neighbour.items()
            },
        }
        for prediction in predictions
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
