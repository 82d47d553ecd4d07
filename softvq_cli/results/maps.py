"""t-SNE maps of latents: drawn from embedding files, and clustered in the latents' place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import UsageError
from softvq_cli.evaluation.tsne import FEWEST_ROWS
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    import numpy as np

    from softvq_cli.embeddings import Embedding
    from softvq_cli.evaluation.clustering import Clustering
    from softvq_cli.evaluation.quality import MapQuality

PERPLEXITY = 30.0
"""Of t-SNE."""


def perplexity_for(rows: int, note: Callable[[str], None] = lambda _: None) -> float:
    """The usual perplexity, or where the rows are few the largest that t-SNE takes, with a note."""
    found = max(1.0, min(PERPLEXITY, (rows - 1) // 3))
    if rows >= FEWEST_ROWS and found < PERPLEXITY:
        note(f"a map of {rows} rows allows a perplexity of {found:g}; {PERPLEXITY:g} is the usual one")
    return found


@dataclass(frozen=True)
class OnMap:
    """The rows' t-SNE map, its clusters, and what it keeps."""

    coordinates: np.ndarray
    """float64 (N, dimensions)."""
    perplexity: float
    exaggeration: float
    clustering: Clustering
    quality: MapQuality

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the coordinates are left out."""
        found = {"clustering": self.clustering.as_dict(), "quality": self.quality.as_dict()}
        settings = {"perplexity": self.perplexity, "exaggeration": self.exaggeration}
        return {**settings, "dimensions": self.coordinates.shape[1], **found}


def on_map(
    z: np.ndarray,
    labels: np.ndarray | None,
    *,
    perplexity: float | None = None,
    exaggeration: float = 1.0,
    dimensions: int = 2,
    jobs: int | None = None,
    note: Callable[[str], None] = lambda _: None,
    **clustering: Any,
) -> OnMap:
    """Cluster a t-SNE of the rows in their place ("manifold clustering", McConville et al. 2019).

    Args:
        z: (N, d), at least 22 rows.
        labels: int64 (N,), or None.
        perplexity: of t-SNE; :func:`perplexity_for` the rows unless given.
        exaggeration: of t-SNE.
        dimensions: of the map.
        jobs: threads; the result does not depend on them.
        note: is told of a perplexity that had to be smaller than usual.
        clustering: for :func:`softvq_cli.evaluation.clustering.cluster`; its ``seed`` is also that of the map.

    Raises:
        InputError: too few rows.
        UsageError: as clustering does.
    """
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.quality import map_quality
    from softvq_cli.evaluation.tsne import tsne

    perplexity = perplexity_for(len(z), note) if perplexity is None else perplexity
    coordinates = tsne(
        z,
        perplexity=perplexity,
        exaggeration=exaggeration,
        dimensions=dimensions,
        seed=clustering.get("seed", 0),
        jobs=jobs,
    )
    found = cluster(coordinates, labels, jobs=jobs, **clustering)
    return OnMap(coordinates, perplexity, exaggeration, found, map_quality(z, coordinates, jobs=jobs))


def draw_maps(
    embeddings: Sequence[Embedding],
    out: Path,
    *,
    titles: Sequence[str] | None = None,
    perplexity: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    begun: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> list[np.ndarray]:
    """Map each embedding to the plane and draw the maps side by side.

    Args:
        embeddings: one a panel.
        out: the picture, .png, .pdf or .svg.
        titles: one a panel; :func:`title_of` each unless given.
        perplexity: of t-SNE; :func:`perplexity_for` each unless given.
        seed: of t-SNE.
        jobs: threads; the result does not depend on it.
        begun: is told what is being done.
        note: is told of what the picture cannot show, and of a perplexity that had to be smaller than usual.

    Returns:
        The coordinates, (N, 2) a panel.

    Raises:
        UsageError: titles and panels differ in number, or the name of the picture is not one.
        InputError: the perplexity is too large for a file's rows.
        SoftVQError: the picture could not be written.
    """
    from softvq_cli.datasets.progress import Told
    from softvq_cli.evaluation.tsne import tsne
    from softvq_cli.plots import style
    from softvq_cli.plots.maps import Panel, plot

    style.check_suffix(out)
    titles = list(map(title_of, embeddings)) if titles is None else titles
    if len(titles) != len(embeddings):
        raise UsageError(f"{len(titles)} titles for {len(embeddings)} panels: they must be equal in number")
    panels = []
    for title, rows in zip(titles, embeddings, strict=True):
        begun(f"t-SNE of {rows.path}")
        fitted = perplexity_for(len(rows), note) if perplexity is None else perplexity
        coordinates = tsne(rows.z, perplexity=fitted, seed=seed, jobs=jobs)
        panels.append(Panel(title, coordinates, rows.labels, rows.class_names))
    plot(out, panels, Told(lambda text, *_: note(text)))
    return [panel.coordinates for panel in panels]


def title_of(embedding: Embedding) -> str:
    """``soft VQ-VAE`` for what came out of a checkpoint, else the file's name."""
    model = embedding.info.get("config", {}).get("model", {})
    entry = BOTTLENECKS.get(model.get("bottleneck", ""))
    if entry is None:
        return embedding.path.stem
    what = embedding.info.get("representation", "z_e")
    return entry.label if what == "z_e" else f"{entry.label}, {what}"
