"""The command ``softvq tsne``: draw t-SNE maps of embedding files."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import JOBS, LABELS, OVERWRITE, PERPLEXITY, SEED, Streams, argument, option


def tsne(
    *,
    embeddings: list[Path] = argument(
        "EMBEDDINGS", "A .npy or .parquet file of rows, one per panel, from any program; - for standard input."
    ),
    out: Path = option(..., "Output picture: .png, .pdf or .svg.", "-o", value="FILE"),
    titles: str | None = option(None, "Titles of the panels. Default: the bottleneck or the file name.", value="A,B,…"),
    labels: Path | None = LABELS,
    perplexity: float | None = PERPLEXITY,
    seed: int = SEED,
    jobs: int | None = JOBS,
    save_coords: Path | None = option(
        None,
        "Also write the coordinates (rows, 2) to a .npy file; several panels: NAME-1.npy, NAME-2.npy …",
        value="FILE",
    ),
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """Draw t-SNE maps of embedding files and print the path of the picture.

    Each file gets a panel and each class a colour, as in Figure 4 of the paper. Parts of embed --shard count as one
    file. The same seed gives the same picture.

    Examples:
      softvq tsne embeddings.npy -o map.png
      softvq tsne a.npy b.npy --titles AE,VQ -o maps.pdf
    """
    from softvq_cli.cli import output
    from softvq_cli.results.embedded import aligned, draw_maps, parts_of

    output.check_present(*embeddings, labels)
    output.refuse_existing(out, overwrite=overwrite)
    with output.received(embeddings) as paths:
        panels = parts_of(paths)
        saved = [] if save_coords is None else output.numbered(save_coords, len(panels))
        output.refuse_existing(*saved, overwrite=overwrite)
        rows = aligned(panels, [labels] * len(panels), terminal)
        coordinates = draw_maps(
            rows,
            out,
            titles=None if titles is None else titles.split(","),
            perplexity=perplexity,
            seed=seed,
            jobs=jobs,
            reporter=terminal,
        )
    for target, points in zip(saved, coordinates, strict=False):  # none, or one per panel
        output.write_array(target, points)
    terminal.wrote(out, document={"coordinates": list(map(str, saved))})
    if embeddings[0] != output.PIPE:
        given = output.option_words({"labels": labels, "clusters": 10 if rows[0].labels is None else None})
        terminal.hint("softvq", "cluster", *panels[0], *given, "--on-map")
