"""softvq cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import EmbeddingFile, Jobs, Labels, Overwrite, Seed, Streams, completion
from softvq_cli.words import CLUSTER_METHODS, INITS


def cluster(
    *,
    embeddings: EmbeddingFile,
    labels: Labels = None,
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", "-k", metavar="INT", help="Number of clusters. Default: the number of classes."),
    ] = None,
    n_init: Annotated[
        int,
        typer.Option(
            "--n-init", metavar="INT", help="Number of random starts; the one with the lowest inertia is kept."
        ),
    ] = 100,
    init: Annotated[
        str,
        typer.Option(
            "--init",
            metavar="|".join(INITS),
            help="How the initial centres are drawn.",
            autocompletion=completion(INITS),
        ),
    ] = "k-means++",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="|".join(CLUSTER_METHODS),
            help="Method: kmeans, gmm (mixture of Gaussians) or agglomerative (Ward).",
            autocompletion=completion(CLUSTER_METHODS),
        ),
    ] = "kmeans",
    seed: Seed = 0,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="INT",
            help="Cluster and measure this many rows, drawn by --seed; the others get the nearest cluster.",
        ),
    ] = None,
    assignments: Annotated[
        Path | None,
        typer.Option(
            "--assignments",
            "-o",
            metavar="FILE",
            help="Also write the cluster of each row to a .npy file (with --on-map: the clusters of the map).",
        ),
    ] = None,
    on_map: Annotated[
        bool,
        typer.Option(
            "--on-map",
            help="Also cluster a t-SNE map of the rows, and measure how well the map preserves neighbourhoods.",
        ),
    ] = False,
    perplexity: Annotated[
        float | None,
        typer.Option(
            "--perplexity", metavar="NUMBER", help="t-SNE perplexity. Default: 30, or less if there are few rows."
        ),
    ] = None,
    exaggeration: Annotated[
        float,
        typer.Option(
            "--exaggeration", metavar="NUMBER", help="t-SNE exaggeration; values above 1 separate clusters more."
        ),
    ] = 1.0,
    dimensions: Annotated[int, typer.Option("--dimensions", metavar="1|2", help="Dimensions of the map.")] = 2,
    starts: Annotated[
        bool, typer.Option("--starts", help="Also list the result of each start in the JSON document.")
    ] = False,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    terminal: Streams,
) -> None:
    """Cluster embeddings (K-means by default) and compare the clusters with the classes.

    With labels: the accuracy under the best one-to-one assignment of clusters to classes (Hungarian
    method), the normalised mutual information and the adjusted Rand index. Without labels, for which
    --clusters is needed: the silhouette. In both cases the inertia. Into a pipe goes one JSON document, where
    accuracies are fractions of 1. Several files are clustered as one: their rows follow each other.

    Examples:
      softvq cluster embeddings.npy
      softvq cluster rows.npy --clusters 10 --assignments clusters.npy
      softvq cluster z-*-of-8.npy --sample 100000
      softvq cluster embeddings.npy --json | jq .nmi
    """
    from softvq_cli.cli import output
    from softvq_cli.cli.output import check_present, refuse_existing, write_array
    from softvq_cli.cli.tables import clustering_tables
    from softvq_cli.results.embedded import cluster_file

    check_present(*embeddings, *([] if labels is None else [labels]))
    if assignments is not None:
        refuse_existing(assignments, overwrite=overwrite)
    settings = {"perplexity": perplexity, "exaggeration": exaggeration, "dimensions": dimensions}
    with output.received(embeddings) as paths:
        found = cluster_file(
            paths,
            labels,
            sample=sample,
            on_map=settings if on_map else None,
            reporter=terminal,
            clusters=clusters,
            n_init=n_init,
            init=init,
            method=method,
            seed=seed,
            jobs=jobs,
        )
    if assignments is not None:
        write_array(assignments, found.assignments)
    for note in found.clustering.notes:
        terminal.warn(note)
    terminal.result(found.as_dict(starts=starts), lambda: clustering_tables(found))
    if output.PIPE not in embeddings:
        terminal.hint("softvq", "tsne", *embeddings, "-o", embeddings[0].with_suffix(".png").name)
