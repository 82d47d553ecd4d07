"""softvq report."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softvq_cli.cli.options import Data, DataDir, Device, Jobs, Overwrite, Reading, Streams

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig


def report(
    *,
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="The folder of a run or of a job of reproduce, or a ckpt.pt.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Of the page. Default: the names of the runs.")
    ] = None,
    max_points: Annotated[
        int,
        typer.Option("--max-points", metavar="INT", min=4, help="Images on the page; of more so many are drawn."),
    ] = 20_000,
    data: Data = None,
    data_dir: DataDir = None,
    reading: Reading,
    device: Device = "auto",
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    terminal: Streams,
) -> None:
    """Write one HTML page that shows what runs have learned, and print its path.

    It has the numbers of the runs side by side, and for each a tab: the map with every image under the pointer,
    clusters, codebook, reconstructions, curves, confusion, images that are alone and pairs that are nearly equal.
    The page is one file, opens without a network, and can be sent to others.

    What a folder does not have is measured first; after run that is little, after train it takes as long as cluster,
    probe and tsne do.

    Examples:
      softvq report runs/first
      softvq report runs/first runs/vq -o both.html --title "Two codebooks"
    """
    from softvq_cli.cli.output import refuse_existing
    from softvq_cli.plots import page
    from softvq_cli.plots.page.writing import check_suffix
    from softvq_cli.results.page_data import collect

    check_suffix(out)
    refuse_existing(out, overwrite=overwrite)
    page.require_bokeh()
    titles = _titles(runs)
    views = [
        collect(
            path,
            name,
            jobs=jobs,
            max_points=max_points,
            again=_command_of,
            reporter=terminal,
            device=device,
            data=data,
            data_dir=data_dir,
            reading=reading,
        )
        for path, name in zip(runs, titles, strict=True)
    ]
    page.write(out, views, title=title or ", ".join(titles))
    images = {view.title: len(view.rows) for view in views}
    terminal.wrote(out, document={"images": images, "bytes": out.stat().st_size})
    terminal.note(f"open {out} in a browser")


def _titles(runs: Sequence[Path]) -> list[str]:
    """The name of each run's folder; where two have the same, the path from the folder that has all of them."""
    folders = [(path if path.is_dir() else path.parent).resolve() for path in runs]
    names = [folder.name or str(folder) for folder in folders]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath(folders)
    return [os.path.relpath(folder, common) for folder in folders]


def _command_of(config: RunConfig) -> str:
    """The command that makes this run, with every setting that it reads."""
    from softvq_cli.cli.output import option_words
    from softvq_cli.presets import unused_settings

    values = config.flat()
    unused = unused_settings(config.model.bottleneck, values)
    return shlex.join(["softvq", "run", *option_words({n: v for n, v in values.items() if n not in unused})])
