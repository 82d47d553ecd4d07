"""The command ``softvq embed``: write the latents of all images to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from softvq_cli.cli.options import (
    CHECKPOINT,
    DATA,
    DATA_DIR,
    DEVICE,
    OVERWRITE,
    Reading,
    Streams,
    completion,
    list_completion,
    option,
    words_of,
)
from softvq_cli.config import BATCH
from softvq_cli.errors import UsageError, shown, unknown_name
from softvq_cli.words import REPRESENTATIONS, SPLITS, TABLE_COLUMNS


def embed(
    *,
    checkpoint: Path = CHECKPOINT,
    out: Path = option(
        Path("embeddings.npy"),
        "Output file: .npy or .parquet, of codes .csv too; folders are created. -: .npy to standard output.",
        "-o",
        value="FILE",
    ),
    split: str = option("test", "Which split to embed.", value=SPLITS),
    what: str = option(
        "z_e",
        f"What to write for each image: {', '.join(REPRESENTATIONS)}.",
        value="NAME",
        autocompletion=completion(REPRESENTATIONS),
    ),
    columns: str | None = option(
        None,
        f"Extra columns of a .parquet file: {', '.join(TABLE_COLUMNS)}.",
        "--with",
        value="NAME,…",
        autocompletion=list_completion(TABLE_COLUMNS),
    ),
    clusters: int | None = option(
        None, "Number of clusters for the `cluster` column. Default: the number of classes.", "-k"
    ),
    shard: str | None = option(
        None,
        "Write the I-th of N parts of the images, counted from 1, to NAME-I-of-N.npy: for job arrays.",
        value="I/N",
    ),
    data: str | None = DATA,
    data_dir: str | None = DATA_DIR,
    reading: Reading,
    batch_size: int = option(BATCH, "Number of images per batch.", min=1),
    device: str = DEVICE,
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """Write the latents of all images to a file and print its path.

    NAME.npy has one row per image, float32 (int64 for codes), in the order of the data set. NAME.labels.npy and
    NAME.json are written next to it; labels are indices into the class_names of NAME.json. z_e is the output of the
    encoder, before noise and bottleneck; z_q is the input of the decoder.

    NAME.parquet is one table for other programs: the vector, label, class, file, split and index of each image, and
    the columns that --with adds.

    --what codes writes a table of codes to a .parquet or .csv: id (the file, or the index), one column per code, the
    codes as text (12-4-9), and the same with a suffix that makes it unique (12-4-9-0).

    The images are those of the training, unless --data or --data-dir gives others. Other data are read with the data
    settings of the training, unless an option below changes them.

    Examples:
      softvq embed runs/vq
      softvq embed runs/vq --split train -o latents/train.npy
      softvq embed "$(softvq train)" --what reconstruction -o new.npy
      softvq embed runs/vq -o z.parquet --with image,map,cluster
      softvq embed runs/rvq --split all --what codes -o codes.parquet
      softvq embed runs/vq --split all --shard $SLURM_ARRAY_TASK_ID/8
    """
    from softvq_cli.cli import output
    from softvq_cli.embeddings import TABLE, shard_path
    from softvq_cli.files import temporary_folder
    from softvq_cli.results.embedded import embed_table
    from softvq_cli.results.source import Source

    table = out.suffix == TABLE or (out.suffix == ".csv" and what == "codes")
    names = _columns(columns, clusters, allowed=table and what != "codes")
    part = _shard(shard, out)
    if part:
        out = shard_path(out, part)
    source = Source.open(checkpoint, data=data, data_dir=data_dir, reading=reading, device=device, reporter=terminal)
    _check_target(out, table=table, overwrite=overwrite, as_json=terminal.as_json)
    if out == output.PIPE:
        with temporary_folder() as folder:
            rows = source.embed(split, folder / "rows.npy", what=what, batch_size=batch_size)
            output.send(rows.path)
        return
    if table:
        written = embed_table(source, split, out, columns=names, what=what, batch_size=batch_size, clusters=clusters)
    else:
        written = source.embed(split, out, what=what, batch_size=batch_size, shard=part)
    document = {"rows": len(written), "columns": written.z.shape[1], "labels": written.labels is not None}
    terminal.wrote(written.path, document=document)
    if renumbered := _renumbered(written.class_names):
        terminal.note(f"labels are numbered from 0: {renumbered}")
    if what != "codes" and not part:
        terminal.hint("softvq", "cluster", written.path, *([] if written.labels is not None else ["--clusters", "10"]))
    elif what == "codes" and out.suffix != ".csv":
        terminal.hint("softvq", "info", written.path)


def _renumbered(names: Sequence[str]) -> str:
    """Explain labels whose class names are other numbers, ``0 is class 5, 1 is class 12``; otherwise empty."""
    if not all(name.lstrip("-").isdecimal() for name in names) or list(map(str, range(len(names)))) == list(names):
        return ""
    pairs = [f"{label} is class {name}" for label, name in enumerate(names[:3])]
    return ", ".join(pairs + ["…"] * (len(names) > 3))


def _columns(text: str | None, clusters: int | None, *, allowed: bool) -> tuple[str, ...]:
    """Parse and check the names in ``image,map``; they and ``clusters`` need a table of vectors."""
    names = words_of(text)
    for name in names:
        if name not in TABLE_COLUMNS:
            raise UsageError(unknown_name("value of --with", name, TABLE_COLUMNS))
    if (names or clusters is not None) and not allowed:
        raise UsageError("--with and --clusters go with vectors in a .parquet: give one to --out, and no --what codes")
    if clusters is not None and "cluster" not in names:
        raise UsageError("--clusters needs --with cluster")
    return names


def _shard(text: str | None, out: Path) -> tuple[int, int] | None:
    """Parse ``3/8``."""
    if text is None:
        return None
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    shard = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"--shard takes I/N with I from 1 to N, for example 3/8, not {shown(text)}")
    if out.suffix != ".npy":
        raise UsageError("--shard goes with a .npy: give one to --out")
    return shard


def _check_target(out: Path, *, table: bool, overwrite: bool, as_json: bool) -> None:
    """Check that the rows can be written, before they are computed."""
    from softvq_cli import embeddings
    from softvq_cli.cli import output
    from softvq_cli.embeddings.parquet import check_available

    if out == output.PIPE:
        if as_json:
            raise UsageError("--json and -o - both write to standard output: give only one of them")
        output.refuse_terminal()
        return
    files = [out]
    if not table:
        embeddings.check_name(out)
        files += [embeddings.labels_path(out), embeddings.info_path(out)]
    elif out.suffix == embeddings.TABLE:
        check_available()
    output.refuse_existing(*files, overwrite=overwrite, makes_folder=True)
