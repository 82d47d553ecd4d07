"""The command ``softvq issues``: find duplicates, leaks, bad images, outliers and label errors."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import DEVICE, OVERWRITE, Reading, Streams, argument, option


def issues(
    *,
    data: str = argument("DATA", "A name or a path, as for train."),
    run: Path | None = option(
        None, "Also use this trained run: find outliers, near-duplicates in z_e and likely label errors.", value="RUN"
    ),
    out: Path | None = option(None, "Also write a .csv file with one line per file and issue.", "-o", value="FILE"),
    reading: Reading,
    data_dir: str | None = option(None, "Folder of the named data sets.", value="DIR"),
    device: str = DEVICE,
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """Find duplicates, leaks between splits, bad images and, with a run, outliers and label errors.

    Exact duplicates have equal pixels. Near-duplicates look alike: the same photo at another size, compression or
    brightness. A leak is a group of duplicates with images in both splits. Nothing is changed or deleted.

    Examples:
      softvq issues photos/ -o issues.csv
      softvq issues photos/ --run runs/first
      softvq issues mnist --json | jq .leaks
    """
    from softvq_cli import datasets
    from softvq_cli.cli.output import check_present, option_words, refuse_existing
    from softvq_cli.cli.tables import issues_table
    from softvq_cli.config import DataConfig
    from softvq_cli.errors import UsageError
    from softvq_cli.results.issues import find_issues, write_csv
    from softvq_cli.results.source import Source

    if out is not None:
        if out.suffix.lower() != ".csv":
            raise UsageError("{} must end in .csv", out)
        datasets.place_of(data)
        check_present(run)
        refuse_existing(out, overwrite=overwrite)
    chosen: DataConfig | Source = DataConfig(data=data, data_dir=data_dir, **reading)
    if run is not None:
        chosen = Source.open(run, device=device, data=data, data_dir=data_dir, reporter=terminal, reading=reading)
    document = find_issues(chosen, terminal)
    if out is not None:
        write_csv(out, document)
        terminal.note(f"{out} lists every file")
    terminal.result(document, lambda: issues_table(document))
    if run is None:
        given = {"image_size": document.get("image_size"), **reading, "data_dir": data_dir}
        terminal.hint("softvq", "run", "--data", data, *option_words(given))
