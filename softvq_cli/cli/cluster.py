"""The command ``softvq cluster``: cluster embeddings and compare the clusters with the classes."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import EMBEDDINGS, JOBS, LABELS, OVERWRITE, PERPLEXITY, SEED, Streams, option
from softvq_cli.words import CLUSTER_METHODS, INITS


def cluster(
    *,
    embeddings: list[Path] = EMBEDDINGS,
    labels: Path | None = LABELS,
    clusters: int | None = option(None, "Number of clusters. Default: the number of classes.", "-k"),
    n_init: int = option(100, "Number of random starts; the one with the lowest inertia is kept."),
    init: str = option("k-means++", "How the initial centres are drawn.", value=INITS),
    method: str = option(
        "kmeans", "Method: kmeans, gmm (mixture of Gaussians) or agglomerative (Ward).", value=CLUSTER_METHODS
    ),
    seed: int = SEED,
    sample: int | None = option(
        None, "Cluster and measure this many rows, drawn by --seed; the others get the nearest cluster."
    ),
    assignments: Path | None = option(
        None,
        "Also write the cluster of each row to a .npy file (with --on-map: the clusters of the map).",
        "-o",
        value="FILE",
    ),
    on_map: bool = option(
        False, "Also cluster a t-SNE map of the rows, and measure how well the map preserves neighbourhoods."
    ),
    perplexity: float | None = PERPLEXITY,
    exaggeration: float = option(1.0, "t-SNE exaggeration; values above 1 separate clusters more."),
    dimensions: int = option(2, "Dimensions of the map.", value="1|2"),
    starts: bool = option(False, "Also list the result of each start in the JSON document."),
    overwrite: bool = OVERWRITE,
    jobs: int | None = JOBS,
    terminal: Streams,
) -> None:
    """Cluster embeddings (K-means by default) and compare the clusters with the classes.

    With labels, it prints the accuracy under the best one-to-one assignment of clusters to classes (Hungarian method),
    the normalised mutual information and the adjusted Rand index. Without labels, it needs --clusters and prints the
    silhouette. Both print the inertia. In a pipe it prints one JSON document, with accuracies as fractions of 1.
    Several files are clustered as one: their rows follow each other.

    Examples:
      softvq cluster embeddings.npy
      softvq cluster rows.npy --clusters 10 --assignments clusters.npy
      softvq cluster z-*-of-8.npy --sample 100000
      softvq cluster embeddings.npy --json | jq .nmi
    """
    from softvq_cli.cli import output
    from softvq_cli.cli.tables import clustering_tables
    from softvq_cli.results.embedded import cluster_file

    output.check_present(*embeddings, labels)
    if assignments is not None:
        output.refuse_existing(assignments, overwrite=overwrite)
    settings = {"perplexity": perplexity, "exaggeration": exaggeration, "dimensions": dimensions}
    with output.received(embeddings) as paths:
        document, members, notes = cluster_file(
            paths,
            labels,
            sample=sample,
            on_map=settings if on_map else None,
            starts=starts,
            reporter=terminal,
            clusters=clusters,
            n_init=n_init,
            init=init,
            method=method,
            seed=seed,
            jobs=jobs,
        )
    if assignments is not None:
        output.write_array(assignments, members)
    for note in notes:
        terminal.warn(note)
    terminal.result(document, lambda: clustering_tables(document))
    if output.PIPE not in embeddings:
        given = output.option_words({"labels": labels})
        terminal.hint("softvq", "tsne", *embeddings, *given, "-o", embeddings[0].with_suffix(".png").name)
