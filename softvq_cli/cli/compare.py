"""softvq compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softvq_cli.cli.options import Streams, list_completion
from softvq_cli.cli.output import option_words
from softvq_cli.cli.studies import WorkOptions, carry_out, command_text, settings_without, words_of
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.experiments.own_data import CompareRequest

_Settings = settings_without("bottleneck", "seed")


def compare(
    *,
    bottleneck: Annotated[
        str,
        typer.Option(
            "--bottleneck",
            "-b",
            metavar="NAME,…",
            help="Bottlenecks to compare, separated by commas.",
            autocompletion=list_completion(tuple(BOTTLENECKS)),
        ),
    ] = "ae,vq,soft-vq",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="INT", help="Number of trainings per bottleneck, with seeds 0, 1, …")
    ] = 3,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--also",
            metavar="FILE",
            help="Embeddings that another program made of the same images (.npy or .parquet, one row per image in the "
            "order of --split all), measured in the same way. Can be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of runs and report. Default: compare/DATA."),
    ] = None,
    work: WorkOptions,
    settings: _Settings,  # type: ignore[valid-type]
    terminal: Streams,
) -> None:
    """Compare bottlenecks on your own data: which one separates the classes best?

    It trains each bottleneck with several seeds and evaluates it by clustering and by a linear probe. The table also
    has four controls: random vectors (chance), raw pixels, PCA, and an untrained encoder. It writes the table to
    DIR/compare.json, .md, .csv and .tex, a figure to compare.png, and each run to a folder in DIR/runs. The same
    command continues after a stop.

    Examples:
      softvq compare --data photos/
      softvq compare --data photos/ --bottleneck ae,vae,vq,soft-vq --seeds 5
      softvq compare --data photos/ --also clip.npy -o comparison
    """
    from softvq_cli.experiments.own_data import CompareRequest

    data = str(settings.get("data") or "digits")  # type: ignore[attr-defined]
    request = CompareRequest(
        bottlenecks=words_of(bottleneck),
        also=tuple(also or ()),
        out=out or Path("compare") / (Path(data).stem or "data"),
        seeds=seeds,
        settings=settings,
    )
    if carry_out(replace(request, command=command_of(request)), work, terminal):
        terminal.hint("softvq", "report", request.out)


def command_of(request: CompareRequest) -> str:
    """The command that asks for this."""
    words = ["compare", *option_words({"bottleneck": ",".join(request.bottlenecks), "seeds": request.seeds})]
    for path in request.also:
        words += ["--also", str(path)]
    return command_text(words, {**request.settings, "out": request.out})
