"""The command ``softvq report``: write an HTML page about one or several runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.cli.options import DATA, DATA_DIR, DEVICE, JOBS, OVERWRITE, Reading, Streams, argument, option
from softvq_cli.words import Split

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.plots.page import Table


def report(
    *,
    runs: list[Path] = argument("RUN", "Folder of a run or a study, or a checkpoint."),
    out: Path = option(Path("report.html"), "Output file.", "-o", value="FILE"),
    title: str | None = option(None, "Title of the page. Default: the names of the runs."),
    max_points: int = option(20000, "Maximum number of images on the page; larger sets are subsampled.", min=4),
    split: Split = option("test", "Which images to show: test, train or all.", value="SPLIT"),
    data: str | None = DATA,
    data_dir: str | None = DATA_DIR,
    reading: Reading,
    device: str = DEVICE,
    jobs: int | None = JOBS,
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """Write an HTML page about one or several runs and print its path.

    It has the numbers of the runs side by side, and for each a tab: the map with every image under the pointer,
    clusters, codebook, reconstructions, curves, confusion and issues. The page is one file, opens without a network,
    and can be sent to others.

    Missing results are computed first. After softvq run this is little; after softvq train it takes as long as cluster,
    probe and tsne. For the folder of a study, the page shows its table.

    Examples:
      softvq report runs/first
      softvq report runs/first runs/vq -o both.html --title "Two codebooks"
    """
    from softvq_cli.cli.output import check_present, refuse_existing
    from softvq_cli.plots import page
    from softvq_cli.plots.page.writing import check_suffix
    from softvq_cli.results.info import studies
    from softvq_cli.results.page_data import collect

    check_suffix(out)
    check_present(*runs)
    refuse_existing(out, overwrite=overwrite)
    page.require_bokeh()
    documents = {path: studies(path) for path in runs}
    tables = [_table(document) for path in runs for document in documents[path].values()]
    titles = _titles(runs)
    views = [
        collect(
            path,
            name,
            jobs=jobs,
            max_points=max_points,
            split=split,
            again=_command_of,
            reporter=terminal,
            device=device,
            data=data,
            data_dir=data_dir,
            reading=reading,
        )
        for path, name in zip(runs, titles, strict=True)
        if not documents[path]
    ]
    page.write(out, views, title=title or ", ".join(titles), tables=tables)
    images = {view.title: len(view.rows) for view in views}
    terminal.wrote(out, document={"images": images, "bytes": out.stat().st_size})
    terminal.note(f"open {out} in a browser")


def _table(document: dict[str, Any]) -> Table:
    """The table of a study as in its Markdown report."""
    from softvq_cli.experiments.formats import main_table
    from softvq_cli.plots.page import Table

    columns, rows = main_table(document)
    plain = [[text.replace("**", "").replace("*", "") for text in row] for row in rows]
    return Table(document["title"], columns, plain, [f"Made by: {document['command']}"])


def _titles(runs: Sequence[Path]) -> list[str]:
    """The folder name of each run; for equal names, the path from the common parent folder."""
    folders = [(path if path.is_dir() else path.parent).resolve() for path in runs]
    names = [folder.name or str(folder) for folder in folders]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath(folders)
    return [os.path.relpath(folder, common) for folder in folders]


def _command_of(config: RunConfig) -> str:
    """The command that repeats this run, with every setting that it uses."""
    from softvq_cli.cli.output import option_words
    from softvq_cli.presets import unused_settings

    values = config.flat()
    unused = unused_settings(config.model.bottleneck, values)
    return shlex.join(["softvq", "run", *option_words({n: v for n, v in values.items() if n not in unused})])
