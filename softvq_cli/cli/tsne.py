"""softvq tsne."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import EmbeddingFiles, Jobs, Labels, Overwrite, Seed, Streams


def tsne(
    *,
    embeddings: EmbeddingFiles,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Output picture: .png, .pdf or .svg.")],
    titles: Annotated[
        str | None,
        typer.Option(
            "--titles", metavar="A,B,…", help="Titles of the panels. Default: the bottleneck or the file name."
        ),
    ] = None,
    labels: Labels = None,
    perplexity: Annotated[
        float | None,
        typer.Option(
            "--perplexity",
            metavar="NUMBER",
            help="t-SNE perplexity. Default: 30, or less if there are few rows.",
        ),
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    save_coords: Annotated[
        Path | None,
        typer.Option(
            "--save-coords",
            metavar="FILE",
            help="Also write the coordinates (rows, 2) to a .npy file; several panels: NAME-1.npy, NAME-2.npy …",
        ),
    ] = None,
    overwrite: Overwrite = False,
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
    from softvq_cli.cli.output import check_present, numbered, refuse_existing, write_array
    from softvq_cli.embeddings.labels import align
    from softvq_cli.results.embedded import draw_maps, read_all

    check_present(*embeddings, *([] if labels is None else [labels]))
    refuse_existing(out, overwrite=overwrite)
    with output.received(embeddings) as paths:
        panels = read_all(paths, labels, terminal)
        saved = [] if save_coords is None else numbered(save_coords, len(panels))
        refuse_existing(*saved, overwrite=overwrite)
        rows, notes = align(panels)
        for note in notes:
            terminal.note(note)
        coordinates = draw_maps(
            rows,
            out,
            titles=None if titles is None else titles.split(","),
            perplexity=perplexity,
            seed=seed,
            jobs=jobs,
            reporter=terminal,
        )
    for target, points in zip(saved, coordinates, strict=False):  # none, or one a panel
        write_array(target, points)
    terminal.wrote(out, document={"coordinates": list(map(str, saved))})
    if embeddings[0] != output.PIPE:
        terminal.hint("softvq", "cluster", embeddings[0], "--on-map")
