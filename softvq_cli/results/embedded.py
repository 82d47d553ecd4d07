"""Analysis of embeddings: clusters and probes of their rows, maps, and tables for other programs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.config import BATCH
from softvq_cli.errors import InputError, Message, UsageError
from softvq_cli.files import temporary_folder
from softvq_cli.ranges import MOST_COUNT, check_number, check_seed
from softvq_cli.reporter import Reporter
from softvq_cli.results.measures import perplexity_for
from softvq_cli.words import BOTTLENECKS, Solver

if TYPE_CHECKING:
    import numpy as np

    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.embeddings import Embedding
    from softvq_cli.embeddings.parquet import Columns
    from softvq_cli.results.source import Source

NEIGHBOURS = 10
"""Number of nearest rows stored for each row of a table."""


def read(paths: Path | Sequence[Path], labels: Path | None, reporter: Reporter) -> Embedding:
    """Read an embedding from one or several files; warn if it does not belong to the checkpoint next to it, or if rows
    have the label -1."""
    from softvq_cli import embeddings
    from softvq_cli.training import checkpoint

    rows = embeddings.read(paths, labels)
    path = rows.path
    if "shard" in rows.info:
        reporter.note("{} is part {} of {}: these are not all rows".format(path, *rows.info["shard"]))
    seal, seals = rows.info.get("checkpoint_sha256"), set()
    for file in sorted(path.parent.glob("ckpt*.pt")) if seal else ():
        with contextlib.suppress(InputError):
            seals.add(checkpoint.read_header(file)[0].sha256)
    if seals and seal not in seals:
        reporter.warn(
            f"{path} was not made by {path.parent / 'ckpt.pt'}, the checkpoint next to it: embed again, or move it"
        )
    unlabelled = 0 if rows.labels is None else int((rows.labels == -1).sum())
    if unlabelled:
        reporter.warn(
            f"{unlabelled} rows of {path} have the label -1, which counts as a class here: leave them out if it means "
            "that they have none"
        )
    return rows


def parts_of(paths: Sequence[Path]) -> list[list[Path]]:
    """Group the files; parts written by ``embed --shard`` belong together."""
    from softvq_cli import embeddings

    groups = embeddings.groups_of_parts([embeddings.open_rows(path) for path in paths])
    return [[part.path for part in group] for group in groups]


def aligned(groups: Sequence[Sequence[Path]], labels: Sequence[Path | None], reporter: Reporter) -> list[Embedding]:
    """One embedding per group of files; classes with the same name get the same number."""
    from softvq_cli.embeddings.labels import align

    rows, notes = align([read(group, of_group, reporter) for group, of_group in zip(groups, labels, strict=True)])
    for note in notes:
        reporter.note(note)
    return rows


def check_pair(train: Embedding, test: Embedding, reporter: Reporter) -> None:
    """Refuse two files of different models; warn unless they are its training and test split."""
    for name, kind in (("checkpoint_sha256", "checkpoints"), ("representation", "representations")):
        first, second = train.info.get(name), test.info.get(name)
        if first and second and first != second:
            raise InputError(
                f"{train.path} and {test.path} are of two {kind} ({first[:16]}, {second[:16]}), and their rows cannot "
                "be compared: embed both splits with one checkpoint"
            )
    splits = train.info.get("split"), test.info.get("split")
    if splits[0] == "test" or splits[1] == "train":
        reporter.warn(
            f"the train rows {train.path} are of the {splits[0]} split, the test rows {test.path} of {splits[1]}"
        )
    elif train.info.get("fingerprint", "") == test.info.get("fingerprint"):
        reporter.warn(f"{train.path} and {test.path} have the same images: the accuracy is that of the training images")


def cluster_file(
    path: Path | Sequence[Path],
    labels: Path | None = None,
    *,
    on_map: Mapping[str, Any] | None = None,
    sample: int | None = None,
    starts: bool = False,
    reporter: Reporter | None = None,
    **clustering: Any,
) -> tuple[dict[str, Any], np.ndarray, tuple[str, ...]]:
    """Cluster the rows of an embedding file.

    ``on_map`` has ``perplexity`` (None: :func:`perplexity_for` the rows), ``exaggeration`` and ``dimensions`` of a
    t-SNE map, which is then clustered too ("manifold clustering", McConville et al. 2019). With ``sample``, only that
    many rows, drawn by the seed, are clustered and measured; the others get the cluster with the nearest mean.

    Returns:
        The results, with ``starts`` including every K-means start, else their mean and range; the cluster of each row,
        int64 (N,), on the map if there is one, where -1 marks rows that are not on it; and warnings.
    """
    import numpy as np

    from softvq_cli.evaluation.clustering import cluster, means, nearest_centre
    from softvq_cli.evaluation.quality import map_quality
    from softvq_cli.evaluation.tsne import mapped, tsne

    reporter, seed, jobs = reporter or Reporter(), clustering.get("seed", 0), clustering.get("jobs")
    rows = read(path, labels, reporter)
    whole, drawn = rows.z, np.arange(len(rows))
    if sample is not None and int(check_number("sample", sample, low=2, high=MOST_COUNT)) < len(drawn):
        drawn = np.sort(np.random.default_rng(check_seed(seed)).choice(len(drawn), sample, False))
        rows = replace(rows, z=whole[drawn], labels=None if rows.labels is None else rows.labels[drawn])
        reporter.note(f"{sample:,} of {len(whole):,} rows, drawn by the seed, are clustered and measured")
    reporter.stage("clustering")
    of_rows = cluster(rows.z, rows.labels, **clustering)
    document = of_rows.as_dict()
    if len(rows) < len(whole):
        document["rows"] = len(whole)
    spreads = list(document["starts"].values())
    if on_map is None:
        members = of_rows.assignments
        if len(rows) < len(whole):
            members = nearest_centre(whole, means(rows.z, members, of_rows.clusters))
    else:
        reporter.stage("mapping")
        settings = dict(on_map)
        if settings["perplexity"] is None:
            settings["perplexity"] = perplexity_for(len(rows), reporter)
        coordinates = tsne(rows.z, **settings, seed=seed, jobs=jobs, reporter=reporter)
        shown = mapped(coordinates)
        of_map = cluster(coordinates[shown], None if rows.labels is None else rows.labels[shown], **clustering)
        quality = map_quality(rows.z[shown], coordinates[shown], jobs=jobs)
        document["map"] = {**settings, "clustering": of_map.as_dict(), "quality": quality.as_dict()}
        spreads += document["map"]["clustering"]["starts"].values()
        members = np.full(len(whole), -1)
        members[drawn[shown]] = of_map.assignments
        if (members < 0).any():
            reporter.note(f"{(members < 0).sum():,} rows are not on the map, and their cluster is -1")
    for spread in spreads:
        if not starts:
            del spread["values"]
    return document, members, of_rows.notes


def probe_files(
    files: Sequence[Path],
    *,
    labels: Sequence[Path] = (),
    solver: Solver = "lbfgs",
    neighbours: int | None = None,
    few_labels: Sequence[int] = (),
    seed: int = 0,
    reporter: Reporter | None = None,
    device: str = "auto",
    **source: Any,
) -> dict[str, Any]:
    """Run softmax regression and other probes on both splits of a checkpoint, or on two embedding files."""
    from softvq_cli.evaluation import probe as probes
    from softvq_cli.results.source import Source

    reporter = reporter or Reporter()
    if len(files) == 1 and files[0].suffix in (".npy", ".parquet"):
        raise UsageError("a probe of embedding files needs two of them: those of the train and of the test split")
    if labels and (len(labels) != 2 or len(files) < 2):
        raise UsageError(
            Message("{labels} needs two embedding files and must be given twice: for the train and the test rows")
        )
    if len(files) > 1:
        if any(source.values()):
            raise UsageError(Message("{data} and {data_dir} need a checkpoint, not embedding files"))
        groups = parts_of(files)
        if len(groups) != 2:
            raise UsageError(
                f"give one checkpoint, or the embeddings of the train and of the test split, not {len(groups)}"
            )
        train, test = aligned(groups, labels or (None, None), reporter)
        check_pair(train, test, reporter)
        splits, names = (train.z, train.labels, test.z, test.labels), train.class_names
    else:
        subject = Source.open(files[0], device=device, reporter=reporter, **source).subject()
        rows = subject.representation_rows("z_e")
        splits, names = (rows.train, rows.train_labels, rows.test, rows.test_labels), subject.train.class_names
    reporter.stage("probing")
    document = probes.probe(*splits, solver=solver, class_names=names, seed=seed).as_dict()
    if neighbours is not None:
        knn = probes.neighbours(*splits, k=neighbours, class_names=names).as_dict()
        document |= {"knn_accuracy": knn.pop("probe_accuracy"), "knn": knn}
    if few_labels:
        draws = {n: probes.few_labels(*splits, labels_per_class=n, seed=seed) for n in set(few_labels)}
        document["few_labels"] = [{"labels_per_class": n, **draws[n].as_dict()} for n in few_labels]
    return document


def draw_maps(
    embeddings: Sequence[Embedding],
    out: Path,
    *,
    titles: Sequence[str] | None = None,
    perplexity: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> list[np.ndarray]:
    """Draw a t-SNE map of each embedding, side by side; returns the coordinates, (N, 2) per panel."""
    from softvq_cli.evaluation.tsne import tsne
    from softvq_cli.plots import style
    from softvq_cli.plots.maps import Panel, plot

    reporter = reporter or Reporter()
    style.check_suffix(out)
    titles = list(map(title_of, embeddings)) if titles is None else titles
    if len(titles) != len(embeddings):
        raise UsageError(f"{len(titles)} titles for {len(embeddings)} panels: they must be equal in number")
    panels = []
    for title, rows in zip(titles, embeddings, strict=True):
        reporter.stage(f"t-SNE of {rows.path}")
        fitted = perplexity_for(len(rows), reporter) if perplexity is None else perplexity
        coordinates = tsne(rows.z, perplexity=fitted, seed=seed, jobs=jobs, reporter=reporter)
        panels.append(Panel(title, coordinates, rows.labels, rows.class_names))
    plot(out, panels, reporter)
    return [panel.coordinates for panel in panels]


def title_of(embedding: Embedding) -> str:
    """For example ``soft VQ-VAE`` for embeddings of a checkpoint, else the file name."""
    entry = BOTTLENECKS.get(embedding.info.get("config", {}).get("model", {}).get("bottleneck", ""))
    if entry is None:
        return embedding.path.stem
    representation = embedding.info.get("representation", "z_e")
    return entry.label if representation == "z_e" else f"{entry.label}, {representation}"


def embed_table(
    source: Source,
    split: str,
    out: Path,
    *,
    columns: Sequence[str] = (),
    what: str = "z_e",
    batch_size: int = BATCH,
    clusters: int | None = None,
) -> Embedding:
    """Write a representation of one split to ``NAME.parquet``, or codes also to ``NAME.csv``; creates the folder.

    ``columns`` are names in ``softvq_cli.words.TABLE_COLUMNS``, for tables of vectors; ``clusters`` is the number of
    clusters in the column ``cluster``, by default the number of classes.
    """
    from softvq_cli import embeddings
    from softvq_cli.embeddings import parquet
    from softvq_cli.results.source import output_folder

    dataset = source.load(split, choice=True)
    if "image" in columns and dataset.of_vectors:
        raise InputError("{} holds vectors, which cannot be drawn: leave image out of the columns", dataset.name)
    source.compare()
    with output_folder(out.parent), temporary_folder(out.parent) as folder:
        path = folder / "rows.npy"
        rows = embeddings.embed(
            source.checkpoint, dataset, path, what=what, batch_size=batch_size, reporter=source.reporter
        )
        if what == "codes":
            parquet.write_codes(out, rows, source.in_training(dataset))
            return replace(rows, path=out)
        parquet.write(out, rows, _columns(rows, dataset, columns, clusters, source))
    return embeddings.open_rows(out)


def _columns(rows: Embedding, dataset: Dataset, names: Sequence[str], clusters: int | None, source: Source) -> Columns:
    """The requested columns, from the run's evaluation if it has them for these rows, else computed."""
    from softvq_cli.embeddings.parquet import Columns
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.evaluation.search import nearest
    from softvq_cli.evaluation.tsne import tsne

    reporter, kept = source.reporter, source.kept_arrays(rows)
    plane, assignments, neighbours = kept.get("map"), kept.get("clusters") if clusters is None else None, None
    if "cluster" in names and assignments is None:
        reporter.stage("clustering")
        assignments = cluster(rows.z, rows.labels, clusters=clusters).assignments
    if "map" in names and plane is None:
        reporter.stage("mapping")
        plane = tsne(rows.z, perplexity=perplexity_for(len(rows), reporter), reporter=reporter)
    if "neighbours" in names:
        reporter.stage("searching neighbours")
        distances, near = nearest(rows.z, NEIGHBOURS)
        neighbours = (near, distances)
    return Columns(
        dataset.images if "image" in names else None,
        plane if "map" in names else None,
        assignments if "cluster" in names else None,
        neighbours,
        source.in_training(dataset),
    )
