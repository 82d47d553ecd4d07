"""Everything for one configuration in one folder: train, embed, cluster, probe, draw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import InputError, Interrupted
from softvq_cli.files import read_json, write_json
from softvq_cli.pipeline.source import Source
from softvq_cli.training import Observer

if TYPE_CHECKING:
    from softvq_cli.embeddings import Embedding
    from softvq_cli.training.checkpoint import Checkpoint

SUMMARY = "summary.json"
SHOWN = 30
"""Images in the picture of reconstructions."""


class ChainObserver(Observer):
    """Also told of the stages after training."""

    def stage(self, what: str) -> None:
        """A stage begins."""


@dataclass(frozen=True)
class Summary:
    """What a finished chain found."""

    folder: Path
    document: dict[str, Any]
    """As in ``summary.json``: the checkpoint's seal, ``config``, ``training`` (its last metrics), and what each
    stage found, by its name in :data:`STAGES`; ``clustering`` and ``probe`` are None for data without labels, ``tsne``
    where the test split is too small for a map."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"folder": str(self.folder), **self.document}


def run_chain(
    chosen: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    observer: ChainObserver | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Train a configuration and evaluate it; the arguments are those of :func:`softvq_cli.training.train`.

    ``summary.json`` is rewritten after each stage. With ``resume``, a stage that it has for this very
    checkpoint, and whose files are there, is not done again.

    Raises:
        SoftVQError: as training, embedding and the evaluations do.
    """
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint, run_directory, train

    observer = observer or ChainObserver()
    run = train(chosen, out=out, resume=resume, overwrite=overwrite, device=device, observer=observer, stop=stop)
    with run_directory.locked(run.folder, FILES):
        trained = checkpoint.load(run.path, pick(device))
        document = {"checkpoint_sha256": trained.sha256, "config": run.config.as_dict(), "training": run.metrics}
        done = results(run.folder, trained.sha256) if resume else {}
        work = _Work(run.folder, trained, observer)
        for name, stage in STAGES.items():
            if name in done and (done[name] is None or all((run.folder / file).exists() for file in stage.files)):
                document[name] = done[name]
                continue
            observer.stage(stage.doing)
            document[name] = _interruptible(stage, work)
            write_json(run.folder / SUMMARY, document)
    return Summary(run.folder, document)


def results(folder: Path, seal: str | None) -> dict[str, Any]:
    """What a chain has found for the checkpoint with this seal, by stage; a stage with damaged figures is left out."""
    try:
        document = read_json(folder / SUMMARY)
    except InputError:
        return {}
    if not isinstance(document, dict) or seal is None or document.get("checkpoint_sha256") != seal:
        return {}
    return {name: document[name] for name, stage in STAGES.items() if name in document and stage.fits(document[name])}


class _Work:
    """What the stages share. Embeddings and images are read when a stage first asks for them."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, observer: ChainObserver) -> None:
        self.folder, self.checkpoint, self.observer = folder, checkpoint, observer
        self.source = Source(checkpoint, warn=observer.noted, progress=observer.data_progress)

    def embedding(self, split: str) -> Embedding:
        from softvq_cli import embeddings

        return embeddings.read(self.folder / f"embeddings-{split}.npy")


@dataclass(frozen=True)
class Stage:
    """One stage after training."""

    doing: str
    """What to call it while it runs."""
    do: Callable[[_Work], Any]
    """Does it, and returns what ``summary.json`` says of it."""
    files: tuple[str, ...] = ()
    """What it leaves in the folder."""
    figures: tuple[str, ...] = ()
    """Numbers that are always among what it finds, if it finds anything."""
    optional: bool = False
    """Whether it may find nothing: None."""

    def fits(self, found: Any) -> bool:
        """Whether ``found`` has the form of what this stage finds."""
        if found is None:
            return self.optional
        return isinstance(found, dict) and all(isinstance(found.get(name), float) for name in self.figures)


def _interruptible(stage: Stage, work: _Work) -> Any:
    try:
        return stage.do(work)
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped while {stage.doing}", {"out": work.folder, "resume": True}) from error


def _embed(work: _Work) -> dict[str, Any]:
    train, test = work.source.embed_splits(work.folder)
    return {"train": len(train), "test": len(test), "columns": int(test.z.shape[1])}


def _cluster(work: _Work) -> dict[str, Any] | None:
    from softvq_cli.evaluation.clustering import cluster

    test = work.embedding("test")
    return None if test.labels is None else cluster(test.z, test.labels).as_dict()


def _probe(work: _Work) -> dict[str, Any] | None:
    from softvq_cli.evaluation.probe import probe

    train, test = work.embedding("train"), work.embedding("test")
    if train.labels is None or test.labels is None:
        return None
    return probe(train.z, train.labels, test.z, test.labels, class_names=train.class_names).as_dict()


def _tsne(work: _Work) -> dict[str, Any] | None:
    from softvq_cli.pipeline.maps import FEWEST_ROWS, draw_maps, perplexity_for

    test = work.embedding("test")
    if len(test) < FEWEST_ROWS:
        work.observer.noted(f"no t-SNE map: the test split has {len(test)} images, and a map needs {FEWEST_ROWS}")
        return None
    perplexity = perplexity_for(len(test))
    draw_maps([test], work.folder / "tsne.png", perplexity=perplexity)
    return {"perplexity": perplexity}


def _reconstructions(work: _Work) -> dict[str, Any]:
    import numpy as np

    from softvq_cli.model import represent
    from softvq_cli.plots.reconstructions import plot

    dataset = work.source.load("test")
    rows = np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset)), dtype=np.int64)  # some of every class
    images = np.ascontiguousarray(dataset.images[rows])
    plot(
        work.folder / "reconstructions.png",
        images,
        represent(work.checkpoint.model, images, "reconstruction").reshape(images.shape),
    )
    return {"images": rows.tolist()}


def _curves(work: _Work) -> dict[str, Any]:
    from softvq_cli.plots.curves import plot
    from softvq_cli.training import log

    lines = log.read(work.folder)
    plot(work.folder / "curves.png", lines)
    return {"lines": len(lines)}


STAGES: dict[str, Stage] = {
    "embeddings": Stage("embedding", _embed, ("embeddings-train.npy", "embeddings-test.npy")),
    "clustering": Stage("clustering", _cluster, figures=("accuracy", "nmi"), optional=True),
    "probe": Stage("probing", _probe, figures=("accuracy",), optional=True),
    "tsne": Stage("drawing the t-SNE map", _tsne, ("tsne.png",), optional=True),
    "reconstructions": Stage("drawing reconstructions", _reconstructions, ("reconstructions.png",)),
    "curves": Stage("drawing curves", _curves, ("curves.png",)),
}
"""In order, by the name under which ``summary.json`` has what they found."""

FILES = (SUMMARY, *(file for stage in STAGES.values() for file in stage.files))
