"""What ``softvq run`` does after training, a stage a function: embed, cluster, probe, draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.reporter import Reporter
from softvq_cli.results import kept
from softvq_cli.results.source import Source

if TYPE_CHECKING:
    from softvq_cli.embeddings import Embedding
    from softvq_cli.training.checkpoint import Checkpoint

SHOWN = 30
"""Images in the picture of reconstructions."""


class TrainedRun:
    """What the stages work on. Embeddings and images are read when a stage first asks for them."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, reporter: Reporter) -> None:
        self.folder, self.checkpoint, self.reporter = folder, checkpoint, reporter
        self.source = Source(checkpoint, warn=reporter.note, progress=reporter.progress, note=reporter.note)

    def embedding(self, split: str) -> Embedding:
        """What the first stage wrote of a split."""
        from softvq_cli import embeddings

        return embeddings.read(self.folder / f"embeddings-{split}.npy")


@dataclass(frozen=True)
class Stage:
    """One stage after training."""

    name: str
    """Under which ``summary.json`` has what it found."""
    title: str
    """What to call it while it runs."""
    do: Callable[[TrainedRun], dict[str, Any] | None]
    """Does it, and returns what it found, ready for JSON; None where there is nothing to find."""
    files: tuple[str, ...] = ()
    """What it leaves in the folder, if it finds anything."""
    numbers: tuple[str, ...] = ()
    """Those that are always among what it finds, if it finds anything."""
    optional: bool = False
    """Whether it may find nothing."""

    def fits(self, found: Any) -> bool:
        """Whether ``found`` has the form of what this stage finds."""
        if found is None:
            return self.optional
        return isinstance(found, dict) and all(isinstance(found.get(name), float) for name in self.numbers)

    def is_done(self, folder: Path, found: Any) -> bool:
        """Whether ``found``, which it said before, is still true of the folder."""
        return found is None or all((folder / file).exists() for file in self.files)


def embed(run: TrainedRun) -> dict[str, Any]:
    """z_e of both splits."""
    train, test = run.source.embed_splits(run.folder)
    return {"train": len(train), "test": len(test), "columns": int(test.z.shape[1])}


def cluster(run: TrainedRun) -> dict[str, Any] | None:
    """K-means of the test split, if it has labels."""
    from softvq_cli.evaluation.clustering import cluster as k_means

    test = run.embedding("test")
    if test.labels is None:
        return None
    found = k_means(test.z, test.labels)
    kept.keep(run.folder, kept.CLUSTERS, found.assignments)
    for note in found.notes:
        run.reporter.note(note)
    return found.as_dict()


def probe(run: TrainedRun) -> dict[str, Any] | None:
    """The softmax probe, if there are labels."""
    from softvq_cli.evaluation.probe import probe as softmax_probe

    train, test = run.embedding("train"), run.embedding("test")
    if train.labels is None or test.labels is None:
        return None
    found = softmax_probe(train.z, train.labels, test.z, test.labels, class_names=train.class_names)
    predicted = kept.predicted_labels(train.labels, test.labels, found.predicted)
    kept.keep(run.folder, kept.PREDICTIONS, predicted)
    return found.as_dict()


def draw_map(run: TrainedRun) -> dict[str, Any] | None:
    """t-SNE of the test split, if it is large enough."""
    from softvq_cli.evaluation.tsne import FEWEST_ROWS
    from softvq_cli.results.maps import draw_maps, perplexity_for

    test = run.embedding("test")
    if len(test) < FEWEST_ROWS:
        run.reporter.note(f"no t-SNE map: the test split has {len(test)} images, and a map needs {FEWEST_ROWS}")
        return None
    perplexity = perplexity_for(len(test), run.reporter.note)
    [coordinates] = draw_maps([test], run.folder / MAP_PICTURE, perplexity=perplexity, note=run.reporter.note)
    kept.keep(run.folder, kept.MAP, coordinates)
    return {"perplexity": perplexity}


def draw_reconstructions(run: TrainedRun) -> dict[str, Any]:
    """Images of the test split beside what the decoder makes of them, and the error of every one."""
    import numpy as np

    from softvq_cli.plots import images
    from softvq_cli.results import reading

    dataset = run.source.load("test")
    rows = np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset)), dtype=np.int64)  # some of every class
    found = reading.read(run.checkpoint.model, dataset.images, rows)
    images.reconstructions(
        run.folder / RECONSTRUCTIONS_PICTURE, np.ascontiguousarray(dataset.images[rows]), found.reconstructions
    )
    kept.keep(run.folder, kept.ERRORS, found.errors)
    return {"images": rows.tolist()}


def draw_codebook(run: TrainedRun) -> dict[str, Any] | None:
    """How the test split uses the codebook, and its centroids decoded, if the model has one."""
    import torch

    from softvq_cli.plots import images

    model = run.checkpoint.model
    centroids = model.bottleneck.centroids()
    if centroids is None:
        return None
    found = model.codebook_usage(run.source.load("test").images)
    with torch.inference_mode():
        decoded = model.unscale(model.decoder(centroids)).cpu().numpy()  # (K, H, W, C)
    images.codebook_usage(run.folder / USAGE_PICTURE, found.usage, dead=found.dead)
    images.codewords(run.folder / CENTROIDS_PICTURE, decoded, found.usage)
    return found.figures()


def draw_curves(run: TrainedRun) -> dict[str, Any]:
    """The losses of training."""
    from softvq_cli.plots import lines as line_plots
    from softvq_cli.training import log

    lines = log.read(run.folder)
    line_plots.training(run.folder / CURVES_PICTURE, lines)
    return {"lines": len(lines)}


MAP_PICTURE = "tsne.png"
RECONSTRUCTIONS_PICTURE = "reconstructions.png"
USAGE_PICTURE, CENTROIDS_PICTURE = "codebook-usage.png", "codebook-centroids.png"
CURVES_PICTURE = "curves.png"

STAGES: tuple[Stage, ...] = (
    Stage("embeddings", "embedding", embed, ("embeddings-train.npy", "embeddings-test.npy")),
    Stage("clustering", "clustering", cluster, (kept.CLUSTERS,), numbers=("accuracy", "nmi"), optional=True),
    Stage("probe", "probing", probe, (kept.PREDICTIONS,), numbers=("accuracy",), optional=True),
    Stage("tsne", "drawing the t-SNE map", draw_map, (MAP_PICTURE, kept.MAP), optional=True),
    Stage("reconstructions", "drawing reconstructions", draw_reconstructions, (RECONSTRUCTIONS_PICTURE, kept.ERRORS)),
    Stage(
        "codebook",
        "drawing the codebook",
        draw_codebook,
        (USAGE_PICTURE, CENTROIDS_PICTURE),
        numbers=("perplexity",),
        optional=True,
    ),
    Stage("curves", "drawing curves", draw_curves, (CURVES_PICTURE,)),
)
"""In the order of the work."""
