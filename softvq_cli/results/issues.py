"""Find issues in a data set, for ``softvq issues`` and for that section of the report page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.errors import InputError
from softvq_cli.files import write_text
from softvq_cli.reporter import Reporter, tell_notes

if TYPE_CHECKING:
    from softvq_cli.datasets import Dataset
    from softvq_cli.results.source import Source

GROUPS = ("exact_duplicates", "near_duplicates", "leaks", "class_conflicts")
"""Kinds of issues that are groups of images; issues of other kinds are single images."""
_LEAST_PER_CLASS = 10
"""Minimum number of images per class for the cross-validated probe."""
_LEAST_AGREEMENT = 0.5
"""Minimum accuracy of that probe; below it, most labels that it contradicts would be errors of the probe."""
_ALIKE = 8.0
"""Neighbours in z_e with a smaller root mean square difference (pixels of 255) are near-duplicates."""
_SIZE = 64
"""Side in pixels to which images are resized for the comparison if they differ in size."""
_RATIO = 3.0
"""An image has an odd size if its area or aspect ratio differs from the median by more than this factor."""


@dataclass(frozen=True)
class Table:
    """The N images or vectors that are compared, from one split or both."""

    name: str
    images: Sequence[np.ndarray]
    """uint8 (n, H, W, C) or float32 (n, D), one array per split; memory-mapped for large data sets."""
    in_train: np.ndarray
    """bool (N,): whether each is in the training split."""
    numbers: np.ndarray
    """int64 (N,): the index of each in its split, for data without file names."""
    file_names: Sequence[str] | None
    labels: np.ndarray | None
    """int64 (N,)."""
    class_names: Sequence[str]

    @classmethod
    def of(cls, train: Dataset, test: Dataset) -> Table:
        """A table of both splits."""
        files = train.file_names is not None and test.file_names is not None
        labelled = train.labels is not None and test.labels is not None
        return cls(
            train.name,
            (train.images, test.images),
            np.arange(len(train) + len(test)) < len(train),
            np.concatenate([np.arange(len(train)), np.arange(len(test))]),
            [*(train.file_names or ()), *(test.file_names or ())] if files else None,
            np.concatenate([train.labels, test.labels]) if labelled else None,
            train.class_names,
        )

    def __len__(self) -> int:
        return len(self.in_train)

    def __iter__(self) -> Iterator[np.ndarray]:
        for images in self.images:
            yield from images

    def image(self, row: int) -> np.ndarray:
        """The image in a row."""
        for images in self.images:
            if row < len(images):
                return np.asarray(images[row])
            row -= len(images)
        raise IndexError(row)

    def file(self, row: int) -> dict[str, Any]:
        """What identifies the image for a person."""
        split = "train" if self.in_train[row] else "test"
        name = f"{split}/{self.numbers[row]}" if self.file_names is None else self.file_names[row]
        cls = {} if self.labels is None else {"class": self.class_name(int(self.labels[row]))}
        return {"file": name, "split": split, **cls}

    def class_name(self, label: int) -> str:
        """The name of a label."""
        return str(self.class_names[label] if self.class_names else label)


class Suspect(NamedTuple):
    """One image with an issue."""

    row: int
    score: float
    """From 0, the worst, to 1."""
    suggested_class: str | None = None
    """For a doubtful label."""


class Issues(NamedTuple):
    """Rows of a table with issues. Kinds that were not checked are absent."""

    groups: Mapping[str, Sequence[np.ndarray]]
    """Kind, in :data:`GROUPS` → groups of row numbers."""
    suspects: Mapping[str, Sequence[Suspect]]
    """Kind → images, worst first."""


def find_issues(data: DataConfig | Source, reporter: Reporter | None = None) -> dict[str, Any]:
    """Find issues in both splits of a data set; with a trained run, also in its latents.

    In the document, each kind of issue has groups of files, or files with a ``score``. ``image_size`` is present if
    files of different sizes were compared at that size.
    """
    from softvq_cli.results.subject import represent

    reporter, z, resized = reporter or Reporter(), None, {}
    if isinstance(data, DataConfig):
        train, test, image_size = _splits(data, reporter)
        table, folder = Table.of(train, test), Path(data.data)
        resized = {} if image_size is None else {"image_size": image_size}
    else:
        table, folder = Table.of(data.load("train"), data.load("test")), data.folder
        z = np.concatenate([represent(data.checkpoint.model, images, "z_e", reporter) for images in table.images])
    groups, suspects = look(table, z, reporter, folder)
    return {
        "data": table.name,
        "images": len(table),
        **resized,
        **{kind: [[table.file(row) for row in rows.tolist()] for rows in of_kind] for kind, of_kind in groups.items()},
        **{kind: [_described(table, suspect) for suspect in of_kind] for kind, of_kind in suspects.items()},
    }


def _described(table: Table, suspect: Suspect) -> dict[str, Any]:
    suggestion = {} if suspect.suggested_class is None else {"suggested_class": suspect.suggested_class}
    return {**table.file(suspect.row), "score": suspect.score, **suggestion}


def write_csv(path: Path, document: Mapping[str, Any]) -> None:
    """Write one line per file and kind, with a number for each group of files (SoftVQError: it cannot be written)."""
    text = io.StringIO()
    columns = ["kind", "group", "file", "split", "class", "score", "suggested_class"]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for kind, entries in document.items():
        if kind in GROUPS:
            for number, files in enumerate(entries, 1):
                writer.writerows({"kind": kind, "group": number, **file} for file in files)
        elif isinstance(entries, list):
            writer.writerows({"kind": kind, **file} for file in entries)
    write_text(path, text.getvalue())


def _splits(config: DataConfig, reporter: Reporter) -> tuple[Dataset, Dataset, int | None]:
    """Both splits, and the common size if image files of different sizes are resized for the comparison."""
    from softvq_cli import datasets

    image_size = None
    try:
        train = datasets.load(config, "train", reporter=reporter)
    except InputError as error:
        if "image_size" not in error.settings or config.image_size is not None:
            raise
        image_size = _SIZE
        reporter.note(f"the images have several sizes: they are compared at {image_size} x {image_size} pixels")
        config = replace(config, image_size=image_size)
        train = datasets.load(config, "train", reporter=reporter)
    tell_notes(reporter, train.name, train.notes)
    return train, datasets.load(config, "test", reporter=reporter), image_size


def look(table: Table, z: np.ndarray | None, reporter: Reporter, folder: Path | None = None) -> Issues:
    """Check for all kinds that are possible with the latents ``z`` and the ``folder`` of the files, if given."""
    from softvq_cli.evaluation import issues as search

    reporter.stage("looking for duplicates")
    equal = search.equal_rows(table)
    repeats = {int(row) for rows in equal for row in rows[1:]}
    unique = np.array([row for row in range(len(table)) if row not in repeats], np.int64)
    suspects: dict[str, list[Suspect]] = {}
    near: list[np.ndarray] | None = None
    if table.images[0].ndim == 4:
        small = search.thumbnails(table)
        pairs = search.near_pairs(small, search.dct_hashes(small), unique)
        reporter.stage("looking for images without content")
        sizes = _sizes(table, folder)
        content = search.content(table, small, None if sizes is None else sizes.min(axis=1))
        suspects |= {kind: _sorted(*found) for kind, found in content.items()}
        if sizes is not None:
            suspects["odd_size"] = _sorted(*_odd_sizes(sizes))
        if z is not None:
            rich = unique[small[unique].reshape(len(unique), -1).std(axis=1) >= search.LEAST_CONTRAST]
            pairs = np.concatenate([pairs, _near_latents(z, table, rich)])
        near = search.groups_of(pairs)
    if z is not None:
        reporter.stage("looking at the latents")
        suspects |= _of_latents(z, table, reporter)
    together = [*equal, *(near or ())]
    groups = {
        "exact_duplicates": equal,
        **({} if near is None else {"near_duplicates": near}),
        "leaks": [rows for rows in together if 0 < table.in_train[rows].mean() < 1],
    }
    if table.labels is not None:
        groups["class_conflicts"] = [rows for rows in together if len(np.unique(table.labels[rows])) > 1]
    return Issues(groups, suspects)


def _sorted(rows: np.ndarray, scores: np.ndarray) -> list[Suspect]:
    """Sort by score, worst first."""
    order = np.argsort(scores, kind="stable")
    return [Suspect(int(rows[i]), round(float(scores[i]), 4)) for i in order]


def _sizes(table: Table, folder: Path | None) -> np.ndarray | None:
    """Width and height of each file, int64 (N, 2); None if the images are not in files that Pillow can read."""
    from PIL import Image

    sizes = []
    if folder is None or not folder.is_dir() or table.file_names is None:
        return None
    for name in table.file_names:
        try:
            with Image.open(folder / name) as image:
                sizes.append(image.size)
        except (OSError, ValueError, SyntaxError):  # such as DICOM
            return None
    return np.array(sizes)


def _odd_sizes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose area or aspect ratio is far from the median, and their scores."""
    width, height = sizes.T.astype(np.float64)
    far = np.zeros(len(sizes))
    for values in (width * height, width / height):
        far = np.maximum(far, np.abs(np.log(values / np.median(values))))
    rows = np.flatnonzero(far > np.log(_RATIO))
    return rows, np.exp(-far[rows])


def _of_latents(z: np.ndarray, table: Table, reporter: Reporter) -> dict[str, list[Suspect]]:
    """Outliers, and labels that contradict a probe."""
    from softvq_cli.evaluation import issues as search

    suspects = {"outliers": _sorted(*search.outliers(z))}
    counts = np.zeros(0) if table.labels is None else np.unique(table.labels, return_counts=True)[1]
    if table.labels is None or len(counts) < 2 or counts.min() < _LEAST_PER_CLASS:
        reporter.note(f"labels are not checked: that needs two classes of at least {_LEAST_PER_CLASS} images each")
        return suspects
    classes, labels = np.unique(table.labels, return_inverse=True)
    probabilities = search.cross_validated(z, labels)
    right = f"{100 * (agreement := (probabilities.argmax(axis=1) == labels).mean()):.1f} %"
    if agreement < _LEAST_AGREEMENT:
        reporter.note(f"labels are not checked: a cross-validated probe agrees with only {right} of them")
        return suspects
    rows, counted, scores = search.doubted_labels(probabilities, labels)
    if len(rows):
        reporter.note(f"{len(rows):,} labels are doubted by a cross-validated probe, which agrees with {right} of all")
    suspects["doubted_labels"] = [
        Suspect(row, round(score, 4), table.class_name(label))
        for row, label, score in zip(rows.tolist(), classes[counted].tolist(), scores.tolist(), strict=True)
    ]
    return suspects


def _near_latents(z: np.ndarray, table: Table, rows: np.ndarray) -> np.ndarray:
    """Nearest neighbours in z_e with nearly equal pixels, even if their hashes differ: int64 (P, 2)."""
    from softvq_cli.evaluation.search import nearest

    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    others = rows[nearest(z[rows], 1)[1][:, 0]]
    pairs = [
        (row, other)
        for row, other in np.unique(np.sort(np.stack([rows, others], axis=1), axis=1), axis=0).tolist()
        if np.sqrt(np.square(table.image(row).astype(np.float32) - table.image(other)).mean()) < _ALIKE
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
