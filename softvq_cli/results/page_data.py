"""The data of a report page for one run: its evaluation, and information about each test image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.datasets.dataset import evenly_spaced
from softvq_cli.devices import inference
from softvq_cli.errors import InputError
from softvq_cli.evaluation.codes import as_text
from softvq_cli.evaluation.tsne import FEWEST_ROWS
from softvq_cli.plots.images import code_maps
from softvq_cli.plots.page import Codebook, Number, View
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASELINE_TITLES, BASELINES, BASIC, EVALUATION, Evaluation
from softvq_cli.results.issues import Table, look
from softvq_cli.results.measures import CLUSTERS, RESULTS, measure, perplexity_for
from softvq_cli.results.predict import classified
from softvq_cli.results.source import Source
from softvq_cli.results.subject import Encoding, decoded_codewords, encode
from softvq_cli.sharing import shared_path
from softvq_cli.words import Split

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.model import Autoencoder
    from softvq_cli.training.checkpoint import Checkpoint

MAX_POINTS = 20_000
"""Maximum number of images on a page; larger splits are subsampled."""
NEIGHBOURS = 8
"""Number of neighbours in z_e shown for each image."""
CODEWORDS = 1024
"""Maximum number of codewords; of a larger codebook, the most used ones are shown."""
SIGMA_ROWS = 2048
"""Maximum number of images for the median of each σ_k."""


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
    """Collect the data of one run; what its folder lacks is computed. Nothing is written.

    The numbers are of the test split, even if ``split`` shows other images. ``again`` returns the command that repeats
    a run with a given configuration; ``source`` has arguments of :meth:`Source.open`.
    """
    from softvq_cli.evaluation.clustering import means, nearest_centre
    from softvq_cli.evaluation.search import nearest

    reporter = reporter or Reporter()
    reporter.stage(f"reading {title}")
    opened = Source.open(path, reporter=reporter, **source)
    trained, folder = opened.checkpoint, path if path.is_dir() else path.parent
    subject = opened.subject(shown=lambda n: drawn_rows(n, max_points))
    shown = subject.test if split == "test" else opened.load(split, choice=True)
    for dataset in (subject.test, shown):
        if len(dataset) < 2:
            raise InputError(
                f"the {dataset.split} split of {dataset.name} has one image: a report compares at least two"
            )
    evaluation = evaluate.evaluate(
        subject, (BASIC, BASELINES), folder=folder, keep=False, threads=jobs, reporter=reporter
    )
    rows = drawn_rows(len(shown), max_points)
    if split == "test":
        encoding = subject.encoding
        clusters, predicted, plane = map(evaluation.array, ("clusters", "predictions", "map"))
    else:
        encoding, plane = encode(trained.model, shown.images, rows, reporter=reporter), None
        clusters = nearest_centre(encoding.z, evaluation.centres)
        predicted, _ = classified(encoding.z, evaluation)
    assert clusters is not None  # every evaluation has clusters
    centres = means(encoding.z, clusters, len(evaluation.centres))

    def drawn(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    z, images, labels = encoding.z[rows], np.ascontiguousarray(shown.images[rows]), drawn(shown.labels)
    names = None if shown.file_names is None else [shown.file_names[row] for row in rows]
    coordinates = _map(drawn(plane), z, title, jobs, reporter)
    reporter.stage(f"neighbours of {title}")
    neighbour_distances, neighbours = nearest(z, NEIGHBOURS, jobs=jobs)
    in_train = opened.in_training(shown)[rows]
    table = Table(shown.name, (images,), in_train, rows, names, labels, shown.class_names)
    groups, suspects = look(table, z, reporter, opened.folder)
    codes, grid = drawn(encoding.codes), trained.config.model.grid
    return View(
        title=title,
        numbers=_numbers(evaluation.numbers["z_e"], subject.encoding, trained),
        facts=_facts(trained, evaluation, subject.test, folder),
        again=again(trained.config.shared()),
        notes=[*evaluation.remarks(trained), *_notes(trained, shown, len(rows))],
        rows=rows,
        images=None if shown.of_vectors else images,
        reconstructions=None if shown.of_vectors else encoding.reconstructions,
        errors=encoding.errors[rows],
        neighbours=neighbours,
        distances=neighbour_distances,
        groups={kind: [group.tolist() for group in of_kind] for kind, of_kind in groups.items()},
        suspects={
            kind: [(each.row, each.suggested_class or f"{each.score:.2g}") for each in of_kind]
            for kind, of_kind in suspects.items()
        },
        baselines={BASELINE_TITLES[name]: _results(of) for name, of in evaluation.baselines.items()},
        clusters=clusters[rows],
        centre_distances=np.linalg.norm(z - centres[clusters[rows]], axis=1),
        coordinates=coordinates,
        labels=labels,
        class_names=shown.class_names,
        predicted=drawn(predicted),
        file_names=names,
        codewords=drawn(encoding.codewords),
        codeword_distances=drawn(encoding.codeword_distances),
        code_maps=code_maps(images, codes, grid) if grid and codes is not None else None,
        codebook=_codebook(trained.model, encoding, shown.images),
        curves=_curves(trained, folder, reporter),
    )


def drawn_rows(n: int, most: int) -> np.ndarray:
    """Row numbers, int64, ascending: all of ``n``, or a random sample of ``most`` that is always the same."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _map(
    plane: np.ndarray | None, z: np.ndarray, title: str, jobs: int | None, reporter: Reporter
) -> np.ndarray | None:
    """Compute a missing map (n, 2) of the images shown; None if there are too few."""
    from softvq_cli.evaluation.tsne import tsne

    if plane is not None and np.isfinite(plane).all():
        return np.asarray(plane)
    if len(z) < FEWEST_ROWS:
        return None
    reporter.stage(f"t-SNE of {title}")
    coordinates: np.ndarray = tsne(z, perplexity=perplexity_for(len(z), Reporter()), jobs=jobs)
    return coordinates


def _curves(trained: Checkpoint, folder: Path, reporter: Reporter) -> list[dict[str, float]]:
    """The lines of the log, if it belongs to the checkpoint."""
    from softvq_cli.training import run_directory

    lines = run_directory.read_metrics(folder)
    if lines and trained.metrics and trained.metrics not in lines:
        path = folder / run_directory.METRICS
        reporter.warn(f"{path} is not the log of the checkpoint next to it: its curves are not shown")
        return []
    return lines


def _codebook(model: Autoencoder, encoding: Encoding, images: np.ndarray) -> Codebook | None:
    """The most used codewords, if an image has one code."""
    usage, codewords = encoding.usage, encoding.codewords
    if usage is None or codewords is None:
        return None
    numbers = np.sort(np.argsort(-usage, kind="stable")[:CODEWORDS])
    sigma = _median_sigma(model, images)
    return Codebook(
        images=None if model.of_vectors else decoded_codewords(model, numbers),
        numbers=numbers,
        usage=usage[numbers],
        counts=np.bincount(codewords, minlength=len(usage))[numbers],
        size=len(usage),
        sigma=None if sigma is None else sigma[numbers],
    )


def _median_sigma(model: Autoencoder, images: np.ndarray) -> np.ndarray | None:
    """The median of each σ_k over evenly spaced images, float64 (K,); None if the bottleneck has no σ."""
    rows = evenly_spaced(len(images), SIGMA_ROWS)
    parts = []
    with inference(model.pixel_variance.device):
        for x in model.batches(images[rows]):
            sigma = model.bottleneck.sigma(model.encode(x)[1])
            if sigma is None:
                return None
            parts.append(sigma.cpu().double().numpy())
    return np.asarray(np.median(np.concatenate(parts), axis=0))


def _notes(trained: Checkpoint, shown: Dataset, drawn: int) -> list[str]:
    """Notes for the reader about the images shown."""
    notes = []
    kind = {"test": "test images", "train": "training images", "all": "training and test images"}[shown.split]
    if shown.split != "test":
        notes.append(
            f"the {kind} are shown; the numbers above and the centres of the clusters below are those of the test "
            "images"
        )
    if drawn < len(shown):
        notes.append(
            f"{drawn:,} of the {len(shown):,} {kind} are shown, drawn at random; neighbours, issues and counts are "
            "among these, the numbers above are of all"
        )
    if not trained.finished:
        notes.append(f"the training is not finished: step {trained.step} of {trained.config.train.iterations}")
    if shown.labels is None:
        notes.append(f"the images have no labels: {CLUSTERS} clusters are shown, and no probe")
    return [*notes, *(f"the data: {note}" for note in shown.notes)]


def _facts(trained: Checkpoint, evaluation: Evaluation, test: Dataset, folder: Path) -> dict[str, dict[str, Any]]:
    """The data, the run, its codes and settings, and all numbers, by section."""
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
        "folder": shared_path(str(folder)),
        "step": trained.step,
        "seal of the checkpoint": trained.sha256[:16],
    }
    usage = evaluation.details.get("code_usage")
    codes = {} if usage is None else as_text(usage)
    return {
        "data": data,
        "run": run,
        **{f"{name} of the test images": lines for name, lines in codes.items()},
        **{f"{name} settings": values for name, values in trained.config.shared().as_dict().items()},
        **{f"measured on {name}, as in {EVALUATION}": dict(values) for name, values in evaluation.numbers.items()},
    }


def _numbers(values: Mapping[str, float], encoding: Encoding, trained: Checkpoint) -> list[Number]:
    """Results; those that all runs have come first."""
    carried = [Number(measure(name).title, float(values[name])) for name in encoding.numbers if name not in RESULTS]
    parameters = sum(weights.numel() for weights in trained.model.parameters())
    counts = [Number("iterations", trained.step, "count"), Number("parameters", parameters, "count")]
    seconds = trained.metrics.get("seconds")
    timed = [] if seconds is None else [Number("seconds of training", seconds)]
    return [*_results(values), *carried, *counts, *timed]


def _results(values: Mapping[str, float]) -> list[Number]:
    """The main results."""
    return [
        Number(title, values[name], "share" if name.endswith("accuracy") else "number")
        for name, title in RESULTS.items()
        if name in values
    ]
