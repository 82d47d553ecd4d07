"""A model's latents as one table, with the columns that viewers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.config import BATCH
from softvq_cli.errors import UsageError, unknown_name
from softvq_cli.files import temporary_folder
from softvq_cli.results.source import Source, output_folder
from softvq_cli.words import TABLE_COLUMNS

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.embeddings import Embedding
    from softvq_cli.embeddings.table import Columns

NEIGHBOURS = 10
"""Nearest rows of each row."""


def embed_table(
    source: Source,
    split: str,
    out: Path,
    *,
    columns: Sequence[str] = (),
    what: str = "z_e",
    batch_size: int = BATCH,
    clusters: int | None = None,
    begun: Callable[[str], None] = lambda _: None,
) -> Embedding:
    """Write what the model makes of one split to a Parquet table; the folder is made.

    Args:
        source: of the model and the images.
        split: which images.
        out: ``NAME.parquet``.
        columns: names in ``softvq_cli.words.TABLE_COLUMNS``.
        what: a name in ``softvq_cli.words.REPRESENTATIONS``.
        batch_size: images at a time.
        clusters: of the column ``cluster``; as many as classes unless given.
        begun: is told what is being done.

    Raises:
        UsageError: an unknown split, representation or column, or a number of clusters is needed.
        InputError: as :meth:`Source.load`, or there are too few rows for a column.
        SoftVQError: pyarrow is missing, or the file could not be written.
    """
    from softvq_cli import embeddings
    from softvq_cli.embeddings import table
    from softvq_cli.embeddings.reading import open_rows

    table.check_available()
    for name in columns:
        if name not in TABLE_COLUMNS:
            raise UsageError(unknown_name("column", name, TABLE_COLUMNS))
    dataset = source.load(split, choice=True)
    source.compare(dataset if split == "train" else None)
    with output_folder(out.parent), temporary_folder(out.parent) as folder:
        path = folder / "rows.npy"
        rows = embeddings.embed(
            source.checkpoint, dataset, path, what=what, batch_size=batch_size, progress=source.progress
        )
        table.write(out, rows, _columns(rows, dataset, columns, clusters, begun))
    return open_rows(out, None)


def _columns(
    rows: Embedding, dataset: Dataset, names: Sequence[str], clusters: int | None, begun: Callable[[str], None]
) -> Columns:
    """What was asked for, computed."""
    from softvq_cli.embeddings.table import Columns
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.quality import nearest_rows
    from softvq_cli.evaluation.tsne import tsne
    from softvq_cli.results.maps import perplexity_for

    plane = assignments = neighbours = None
    if "cluster" in names:
        begun("clustering")
        assignments = cluster(rows.z, rows.labels, clusters=clusters).assignments
    if "map" in names:
        begun("mapping")
        plane = tsne(rows.z, perplexity=perplexity_for(len(rows)))
    if "neighbours" in names:
        begun("searching neighbours")
        found = nearest_rows(rows.z, NEIGHBOURS)
        neighbours = (found.rows, found.distances)
    return Columns(dataset.images if "image" in names else None, plane, assignments, neighbours)
