"""The command ``softvq reproduce``: repeat a comparison of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from softvq_cli.cli.options import Streams, argument, list_completion, option, settings_without, words_of
from softvq_cli.cli.output import option_words
from softvq_cli.cli.studies import WorkOptions, carry_out, command_text
from softvq_cli.words import BOTTLENECKS, CONTROLS, PAPER_STUDIES, STUDIES

_NAMES = (*STUDIES, "all")
_DATA = ("mnist", "svhn", "cifar10")


def reproduce(
    *,
    name: str = argument(
        _NAMES,
        "table1: the six bottlenecks of the paper on mnist. table2: the same on svhn and cifar10. fig4: t-SNE "
        "maps of mnist at equal reconstruction error. all: these three. since: all bottlenecks on mnist. "
        "ablation: the soft VQ-VAE without parts of it, at equal reconstruction error.",
    ),
    seeds: int | None = option(
        None, "Number of trainings per model, with seeds 0, 1, … Default: 3; since: 2; fig4: 1."
    ),
    only: str | None = option(
        None,
        "Only these rows: bottlenecks, raw, pca, untrained, chance, or those of the ablation. Default: all of "
        "the table.",
        value="ROW,…",
        autocompletion=list_completion((*BOTTLENECKS, *CONTROLS)),
    ),
    data: list[str] | None = option(
        None,
        "Use other data instead of mnist, svhn or cifar10, with the settings of that set; the report says so. "
        "Can be given several times.",
        "-d",
        value="NAME=PATH",
        allow_from_autoenv=False,
    ),
    only_data: str | None = option(
        None, "Only the columns of these data sets.", value="NAME,…", autocompletion=list_completion(_DATA)
    ),
    full: bool = option(
        False,
        "Also measure the probe of the notebooks, k-nearest neighbours, probes with few labels, and the "
        "clusters and the trustworthiness of a t-SNE map.",
    ),
    target_nmse: float | None = option(
        None,
        "fig4, ablation: reconstruction error (nMSE) at which models stop. Default: the final one of the soft VQ-VAE.",
    ),
    out: Path | None = option(None, "Folder of runs and reports. Default: reproduce/NAME.", "-o", value="DIR"),
    work: WorkOptions,
    settings: Annotated[dict[str, Any], settings_without("data", "bottleneck", "seed")],
    terminal: Streams,
) -> None:
    """Repeat a comparison of the paper: train, evaluate, and print the table next to the published numbers.

    It trains every model with the settings of the paper. It writes the table to DIR/NAME.json, .md, .csv and .tex, a
    figure to NAME.png and each run to a folder in DIR/runs. The same command continues after a stop and repeats
    nothing that is finished. The settings below apply to all rows.

    Examples:
      softvq reproduce table1
      softvq reproduce table1 --only ae,soft-vq --seeds 1
      softvq reproduce table2 --data cifar10=images.zip -o mine
    """
    from softvq_cli.experiments import comparison
    from softvq_cli.experiments.study import Request

    out, replaced = out or Path("reproduce") / name, _pairs(data or [])
    chosen: dict[str, Any] = {
        "only": words_of(only),
        "data": replaced,
        "only_data": words_of(only_data),
        "full": full,
        "target_nmse": target_nmse,
    }
    names = PAPER_STUDIES if name == "all" else (name,)
    request = Request(out, seeds, settings, command_of(name, seeds, chosen, settings, out))
    plan = partial(comparison.reproduce, request, names, **chosen)
    reports = carry_out(plan, work, terminal, together=name == "all")
    if len(reports) == 1 and any(row["row"] == "soft-vq" for row in reports[0].document["rows"]):
        [first, *_] = reports[0].document["data"]
        place = option_words({"data_dir": settings.get("data_dir")})
        terminal.hint("softvq", "sweep", "--over", "K=8,16,32,64,128", "--data", replaced.get(first, first), *place)


def command_of(name: str, seeds: int | None, chosen: Mapping[str, Any], settings: Mapping[str, Any], out: Path) -> str:
    """The command line with these arguments."""
    given = {
        "seeds": seeds,
        **chosen,
        "only": ",".join(chosen["only"]) or None,
        "data": [f"{name}={path}" for name, path in chosen["data"].items()],
        "only_data": ",".join(chosen["only_data"]) or None,
        "full": chosen["full"] or None,
    }
    return command_text("reproduce", {**given, **settings, "out": out}, name)


def _pairs(texts: list[str]) -> dict[str, str]:
    """Parse several ``NAME=PATH``."""
    from softvq_cli.errors import UsageError, shown

    pairs = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--data takes NAME=PATH here, for example cifar10=images.zip, not {shown(text)}")
        pairs[name] = path
    return pairs
