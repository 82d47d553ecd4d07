"""``softvq run``: train one configuration, evaluate it and draw figures, in one folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.errors import Interrupted
from softvq_cli.reporter import Reporter, tell_notes
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASELINES, BASIC, TSNE, Evaluation
from softvq_cli.results.subject import Subject

if TYPE_CHECKING:
    from softvq_cli.training import Run
    from softvq_cli.training.checkpoint import Checkpoint

SHOWN = 30
"""Number of images in the figure of reconstructions."""
MAP, RECONSTRUCTIONS, CURVES = "tsne.png", "reconstructions.png", "curves.png"
USAGE, CODEWORDS = "codebook-usage.png", "codebook-centroids.png"
FILES = (*evaluate.FILES, MAP, RECONSTRUCTIONS, CURVES, USAGE, CODEWORDS)
"""Files in a run's folder in addition to those of training and embedding."""


def run_pipeline(
    chosen: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Train a configuration and evaluate it; the arguments are those of :func:`softvq_cli.training.train`.

    With ``resume``, existing results of this checkpoint are not computed again. Returns the results as a document, with
    remarks on problems in ``remarks``.
    """
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint, run_directory, train

    reporter = reporter or Reporter()
    run = train(chosen, out=out, resume=resume, overwrite=overwrite, device=device, reporter=reporter, stop=stop)
    with run_directory.locked(run.folder, FILES):
        trained = checkpoint.load(run.path, pick(device))
        subject = _subject(run, trained, reporter)
        if not evaluate.read(run.folder, subject.key).parts:  # results of another checkpoint, or incomplete ones
            for name in FILES:
                with contextlib.suppress(OSError):  # if it cannot be removed, writing it fails too, with a message
                    (run.folder / name).unlink()
        doing = "embedding"
        try:
            reporter.stage(doing)
            _write_embeddings(run.folder, subject)
            doing = "evaluating"
            evaluation = evaluate.evaluate(subject, (BASIC, TSNE, BASELINES), folder=run.folder, reporter=reporter)
            doing = "drawing"
            _draw(run.folder, subject, evaluation, reporter)
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped while {doing}", {"out": run.folder, "resume": True}) from error
    return {
        "folder": str(run.folder),
        "checkpoint_sha256": trained.sha256,
        "config": run.config.as_dict(),
        "training": run.metrics,
        "results": evaluation.numbers["z_e"],
        "baselines": evaluation.baselines,
        "remarks": evaluation.remarks(trained),
        **evaluation.details,
    }


def _subject(run: Run, trained: Checkpoint, reporter: Reporter) -> Subject:
    """The model on the splits that the training loaded; if nothing was trained, they are loaded here."""
    from softvq_cli.results.source import Source

    if run.splits is None:
        return Source(trained, reporter=reporter).subject(shown=_shown)
    train, test = run.splits
    tell_notes(reporter, test.name, (note for note in test.notes if note not in train.notes))
    return Subject(trained, lambda split: train if split == "train" else test, shown=_shown, reporter=reporter)


def _shown(n: int) -> np.ndarray:
    """Rows for the figure of reconstructions, evenly spaced, so that sorted data show every class."""
    return np.linspace(0, n - 1, min(SHOWN, n), dtype=np.int64)


def _write_embeddings(folder: Path, subject: Subject) -> None:
    """Write z_e of both splits unless there are files of this checkpoint."""
    from softvq_cli import embeddings

    assert subject.checkpoint is not None
    for split in ("train", "test"):
        path, dataset = folder / f"embeddings-{split}.npy", getattr(subject, split)
        stored = embeddings.read_stored(path, subject.checkpoint.sha256, dataset.fingerprint)
        if stored is not None:
            if split == "train":
                subject.train_z = stored.z
            continue
        z = subject.train_z if split == "train" else subject.encoding.z
        embeddings.embed(subject.checkpoint, dataset, path, rows=z)


def _draw(folder: Path, subject: Subject, evaluation: Evaluation, reporter: Reporter) -> None:
    """Draw the missing figures."""
    from softvq_cli.plots import images, lines, maps
    from softvq_cli.results.subject import decoded_codewords
    from softvq_cli.training import run_directory
    from softvq_cli.words import BOTTLENECKS

    assert subject.checkpoint is not None
    model, test = subject.checkpoint.model, subject.test
    coordinates = evaluation.array("map")
    if coordinates is not None and not (folder / MAP).exists():
        reporter.stage("drawing the t-SNE map")
        label = BOTTLENECKS[model.config.bottleneck].label
        maps.plot(folder / MAP, [maps.Panel(label, coordinates, test.labels, test.class_names)], reporter)
    if not (folder / RECONSTRUCTIONS).exists() and not test.of_vectors:
        reporter.stage("drawing reconstructions")
        originals = np.ascontiguousarray(test.images[_shown(len(test))])
        images.reconstructions(folder / RECONSTRUCTIONS, originals, subject.encoding.reconstructions)
    centroids = model.bottleneck.centroids()
    if centroids is not None and not ((folder / USAGE).exists() and (folder / CODEWORDS).exists()):
        reporter.stage("drawing the codebook")
        usage, codewords = subject.encoding.usage, subject.encoding.codewords
        assert usage is not None
        dead = int((usage == 0).sum()) if codewords is None else len(usage) - len(np.unique(codewords))
        images.codebook_usage(folder / USAGE, usage, dead=dead)
        if test.of_vectors:
            reporter.note("vectors have no pictures: neither reconstructions nor codewords are drawn")
        else:
            images.codewords(folder / CODEWORDS, decoded_codewords(model, np.arange(len(usage))), usage)
    if not (folder / CURVES).exists():
        reporter.stage("drawing curves")
        lines.training(folder / CURVES, run_directory.read_metrics(folder))
