"""``softvq issues``: what someone who cleans a set of images looks for, over both splits, with file names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.errors import InputError, Message
from softvq_cli.files import write_text
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from softvq_cli.datasets import Dataset
    from softvq_cli.results.source import Source

_LEAST_PER_CLASS = 10
"""Images of each class that the cross-validated probe needs."""
_ALIKE = 8.0
"""Root mean square difference of 255 below which two neighbours in z_e are near-duplicates."""
_SIZE = 64
"""Pixels a side at which images of several sizes are compared."""
_RATIO = 3.0
"""An image whose area or aspect ratio differs from the median by more than this factor has an odd size."""


@dataclass(frozen=True)
class Issues:
    """What was found. A file is a mapping with ``file``, ``split`` and, where the data have classes, ``class``."""

    data: str
    images: int
    groups: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Kind → groups of files."""
    files: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Kind → files with a ``score`` from 0, the worst, to 1; a kind that was not looked for is absent."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"data": self.data, "images": self.images, **self.groups, **self.files}

    def write_csv(self, path: Path) -> None:
        """One line per file and kind; the files of a group have its number (SoftVQError: it cannot be written)."""
        text = io.StringIO()
        columns = ["kind", "group", "file", "split", "class", "score", "suggested_class"]
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for kind, groups in self.groups.items():
            for number, files in enumerate(groups, 1):
                writer.writerows({"kind": kind, "group": number, **file} for file in files)
        for kind, found in self.files.items():
            writer.writerows({"kind": kind, **file} for file in found)
        write_text(path, text.getvalue())


def find_issues(config: DataConfig, source: Source | None = None, reporter: Reporter | None = None) -> Issues:
    """Look for all kinds of issues.

    Args:
        config: the data.
        source: a trained run, with which outliers, neighbours in z_e and doubtful labels are looked for too. It is told
            which data to read.
        reporter: is told of stages, and of what cannot be looked for.

    Raises:
        SoftVQError: the data or the run cannot be read.
    """
    from softvq_cli.evaluation import issues as search

    reporter = reporter or Reporter()
    splits = _load(config, reporter, source is None)
    table = _Table(splits)
    reporter.stage("looking for duplicates")
    equal = search.equal_rows(table)
    small = search.thumbnails(table)
    repeats = {int(row) for rows in equal for row in rows[1:]}
    unique = np.array([row for row in range(len(table)) if row not in repeats], np.int64)
    pairs, _ = search.near_pairs(small, search.dct_hashes(small), unique)
    reporter.stage("looking for images without content")
    content = search.content(table, small)
    files = {kind: table.scored(rows, scores) for kind, (rows, scores) in content.items()}
    files["odd_size"] = _odd_sizes(table, config)
    if source is not None:
        reporter.stage("looking at the latents")
        z = _latents(source, reporter)
        files |= _of_latents(z, table, reporter)
        rich = unique[small[unique].reshape(len(unique), -1).std(axis=1) >= search.LEAST_CONTRAST]
        pairs = np.concatenate([pairs, _near_latents(z, table, rich)])
    groups = _groups(equal, search.groups_of(pairs), table)
    return Issues(splits[0].name, len(table), groups, files)


def _load(config: DataConfig, reporter: Reporter, any_size: bool) -> list[Dataset]:
    """Both splits; image files of several sizes are compared at one."""
    from softvq_cli import datasets

    def load(config: DataConfig) -> list[Dataset]:
        return [datasets.load(config, "train", reporter=reporter), datasets.load(config, "test", reporter=reporter)]

    try:
        splits = load(config)
    except InputError as error:
        if not any_size or "image_size" not in error.settings or config.image_size is not None:
            raise
        reporter.note(f"the images have several sizes: they are compared at {_SIZE} x {_SIZE} pixels")
        splits = load(replace(config, image_size=_SIZE))
    if splits[0].images.ndim != 4:
        raise InputError(f"{splits[0].name} holds vectors, and issues are looked for in images")
    for note in splits[0].notes:
        reporter.note(Message("{}: {}", splits[0].name, note))
    return splits


class _Table:
    """The images of several splits under each other."""

    def __init__(self, splits: Sequence[Dataset]) -> None:
        self.splits = splits
        self._starts = np.cumsum([0, *(len(split) for split in splits)])
        self.class_names = splits[0].class_names
        labelled = all(split.labels is not None for split in splits) and bool(self.class_names)
        self.labels = np.concatenate([split.labels for split in splits]) if labelled else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[np.ndarray]:
        for split in self.splits:
            yield from split.images

    def image(self, row: int) -> np.ndarray:
        split = self.split_of(row)
        return np.asarray(self.splits[split].images[row - self._starts[split]])

    def split_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def file(self, row: int) -> dict[str, Any]:
        """What a person needs to find the image."""
        number = self.split_of(row)
        split, index = self.splits[number], int(row - self._starts[number])
        name = f"{split.split}/{index}" if split.file_names is None else split.file_names[index]
        label = {} if self.labels is None else {"class": self.class_names[self.labels[row]]}
        return {"file": name, "split": split.split, **label}

    def scored(self, rows: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        """The files of some rows, the worst score first."""
        order = np.argsort(scores, kind="stable")
        return [{**self.file(int(rows[i])), "score": round(float(scores[i]), 4)} for i in order]


def _groups(
    equal: Sequence[np.ndarray], near: Sequence[np.ndarray], table: _Table
) -> dict[str, list[list[dict[str, Any]]]]:
    """The groups, and which of them lie in both splits or in several classes."""
    together = [*equal, *near]
    across = [rows for rows in together if len({table.split_of(int(row)) for row in rows}) > 1]
    groups = {"exact_duplicates": equal, "near_duplicates": near, "leaks": across}
    if table.labels is not None:
        groups["class_conflicts"] = [rows for rows in together if len(np.unique(table.labels[rows])) > 1]
    return {kind: [[table.file(int(row)) for row in rows] for rows in found] for kind, found in groups.items()}


def _odd_sizes(table: _Table, config: DataConfig) -> list[dict[str, Any]]:
    """Files of a folder whose area or aspect ratio is far from that of the others."""
    from PIL import Image

    folder, sizes = Path(config.data), []
    if not folder.is_dir() or any(split.file_names is None for split in table.splits):
        return []
    for row in range(len(table)):
        try:
            with Image.open(folder / table.file(row)["file"]) as image:
                sizes.append(image.size)
        except (OSError, ValueError, SyntaxError):  # not a picture that Pillow reads, such as DICOM
            return []
    width, height = np.array(sizes, np.float64).T
    far = np.zeros(len(table))
    for values in (width * height, width / height):
        far = np.maximum(far, np.abs(np.log(values / np.median(values))))
    rows = np.flatnonzero(far > np.log(_RATIO))
    return table.scored(rows, np.exp(-far[rows]))


def _latents(source: Source, reporter: Reporter) -> np.ndarray:
    """float32 (N, d): z_e of both splits under each other."""
    from softvq_cli.results.subject import represent

    model = source.checkpoint.model
    return np.concatenate([represent(model, source.load(split).images, "z_e", reporter) for split in ("train", "test")])


def _of_latents(z: np.ndarray, table: _Table, reporter: Reporter) -> dict[str, list[dict[str, Any]]]:
    from softvq_cli.evaluation import issues as search

    if len(z) != len(table):
        raise InputError(f"the run reads {len(z)} images and the data have {len(table)}: read them the same way")
    files = {"outliers": table.scored(*search.outliers(z))}
    counts = np.zeros(0) if table.labels is None else np.unique(table.labels, return_counts=True)[1]
    if table.labels is None or len(counts) < 2 or counts.min() < _LEAST_PER_CLASS:
        reporter.note(f"labels are not checked: that needs two classes of at least {_LEAST_PER_CLASS} images each")
        return files
    classes, labels = np.unique(table.labels, return_inverse=True)
    rows, counted, scores = search.doubted_labels(search.cross_validated(z, labels), labels)
    suggested = [table.class_names[classes[label]] for label in counted]
    files["doubted_labels"] = [
        {**file, "suggested_class": name} for file, name in zip(table.scored(rows, scores), suggested, strict=True)
    ]
    return files


def _near_latents(z: np.ndarray, table: _Table, unique: np.ndarray) -> np.ndarray:
    """int64 (P, 2): nearest neighbours in z_e whose pixels hardly differ; their hashes may."""
    from softvq_cli.evaluation.quality import nearest_rows

    if len(unique) < 2:
        return np.empty((0, 2), np.int64)
    nearest = unique[nearest_rows(z[unique], 1).rows[:, 0]]
    pairs = [
        (row, other)
        for row, other in np.sort(np.stack([unique, nearest], axis=1), axis=1).tolist()
        if np.sqrt(np.square(table.image(row).astype(np.float32) - table.image(other)).mean()) < _ALIKE
    ]
    return np.unique(np.array(pairs, np.int64).reshape(-1, 2), axis=0)
