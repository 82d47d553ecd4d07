"""The command ``softvq compare``: compare bottlenecks on the user's data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from softvq_cli.cli.options import Streams, list_completion, option, settings_without, words_of
from softvq_cli.cli.studies import WorkOptions, carry_out, command_text
from softvq_cli.words import BOTTLENECKS


def compare(
    *,
    bottleneck: str = option(
        "ae,vq,soft-vq",
        "Bottlenecks to compare, separated by commas.",
        "-b",
        value="NAME,…",
        autocompletion=list_completion(tuple(BOTTLENECKS)),
    ),
    seeds: int = option(3, "Number of trainings per bottleneck, with seeds 0, 1, …"),
    also: list[Path] | None = option(
        None,
        "Embeddings that another program made of the same images (.npy or .parquet, one row per image in the "
        "order of --split all), measured in the same way. Can be given several times.",
        value="FILE",
    ),
    out: Path | None = option(None, "Folder of runs and report. Default: compare/DATA.", "-o", value="DIR"),
    work: WorkOptions,
    settings: Annotated[dict[str, Any], settings_without("bottleneck", "seed")],
    terminal: Streams,
) -> None:
    """Compare bottlenecks on your own data: which one separates the classes best?

    It trains each bottleneck with several seeds and evaluates it by clustering and by a linear probe. The table also
    has four controls: random vectors (chance), raw data, PCA, and an untrained encoder. It writes the table to
    DIR/compare.json, .md, .csv and .tex, a figure to compare.png, and each run to a folder in DIR/runs. The same
    command continues after a stop.

    Examples:
      softvq compare --data photos/
      softvq compare --data photos/ --bottleneck ae,vae,vq,soft-vq --seeds 5
      softvq compare --data photos/ --also clip.npy -o comparison
    """
    from softvq_cli.experiments import own_data
    from softvq_cli.experiments.study import Request

    bottlenecks, others = words_of(bottleneck), tuple(also or ())
    out = out or Path("compare") / (Path(str(settings.get("data") or "digits")).stem or "data")
    given = {"bottleneck": ",".join(bottlenecks), "seeds": seeds, "also": list(map(str, others))}
    command = command_text("compare", {**given, **settings, "out": out})
    request = Request(out, seeds, settings, command)
    if carry_out(partial(own_data.compare, request, bottlenecks, others), work, terminal):
        terminal.hint("softvq", "report", out)
