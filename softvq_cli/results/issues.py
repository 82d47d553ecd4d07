"""What someone who cleans a data set looks for: ``softvq issues``, and the section of that name on the report page."""

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
"""Kinds of issues that are groups of images; those of the other kinds are odd by themselves."""
_LEAST_PER_CLASS = 10
"""Images of each class that the cross-validated probe needs."""
_LEAST_AGREEMENT = 0.5
"""Of that probe with the labels: below, most of the labels that it contradicts would be its own errors."""
_ALIKE = 8.0
"""Root mean square difference of 255 below which two neighbours in z_e are near-duplicates."""
_SIZE = 64
"""Pixels a side at which images of several sizes are compared."""
_RATIO = 3.0
"""An image whose area or aspect ratio differs from the median by more than this factor has an odd size."""


@dataclass(frozen=True)
class Table:
    """The N images or vectors that are compared, of one split or of both."""

    name: str
    images: Sequence[np.ndarray]
    """uint8 (n, H, W, C) or float32 (n, D), one array after the other; those of large data sets are mapped files."""
    in_train: np.ndarray
    """bool (N,)."""
    numbers: np.ndarray
    """int64 (N,): where each stands in its split, for data without file names."""
    file_names: Sequence[str] | None
    labels: np.ndarray | None
    """int64 (N,)."""
    class_names: Sequence[str]

    @classmethod
    def of(cls, train: Dataset, test: Dataset) -> Table:
        """Both splits."""
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
        """One of them."""
        for images in self.images:
            if row < len(images):
                return np.asarray(images[row])
            row -= len(images)
        raise IndexError(row)

    def file(self, row: int) -> dict[str, Any]:
        """What a person needs to find the image."""
        split = "train" if self.in_train[row] else "test"
        name = f"{split}/{self.numbers[row]}" if self.file_names is None else self.file_names[row]
        cls = {} if self.labels is None else {"class": self.class_name(int(self.labels[row]))}
        return {"file": name, "split": split, **cls}

    def class_name(self, label: int) -> str:
        """What a label is called."""
        return str(self.class_names[label] if self.class_names else label)


class Suspect(NamedTuple):
    """One image that is odd by itself."""

    row: int
    score: float
    """From 0, the worst, to 1."""
    suggested_class: str | None = None
    """Of a doubted label."""


class Issues(NamedTuple):
    """Rows of a table that are odd. A kind that was not looked for is absent."""

    groups: Mapping[str, Sequence[np.ndarray]]
    """Kind, of :data:`GROUPS` → groups of row numbers."""
    suspects: Mapping[str, Sequence[Suspect]]
    """Kind → images, the worst first."""


def find_issues(data: DataConfig | Source, reporter: Reporter | None = None) -> dict[str, Any]:
    """Look through both splits of some data; with a trained run also at what its model makes of them.

    In the document each kind of issue has its groups of files, or its files with a ``score``. ``image_size`` is there
    where files of several sizes were compared at that one.
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
    """One line per file and kind; the files of a group have its number (SoftVQError: it cannot be written)."""
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
    """Both, and the one size at which image files of several sizes are compared."""
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
    """Look for everything that can be looked for: ``z``, the latents, and the ``folder`` of the files, if any."""
    from softvq_cli.evaluation import issues as search

    reporter.stage("looking for duplicates")
    equal = search.equal_rows(table)
    repeats = {int(row) for rows in equal for row in rows[1:]}
    unique = np.array([row for row in range(len(table)) if row not in repeats], np.int64)
    suspects: dict[str, list[Suspect]] = {}
    pairs = np.empty((0, 2), np.int64)
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
    if z is not None:
        reporter.stage("looking at the latents")
        suspects |= _of_latents(z, table, reporter)
    near = search.groups_of(pairs)
    together = [*equal, *near]
    groups = {
        "exact_duplicates": equal,
        "near_duplicates": near,
        "leaks": [rows for rows in together if 0 < table.in_train[rows].mean() < 1],
    }
    if table.labels is not None:
        groups["class_conflicts"] = [rows for rows in together if len(np.unique(table.labels[rows])) > 1]
    return Issues(groups, suspects)


def _sorted(rows: np.ndarray, scores: np.ndarray) -> list[Suspect]:
    """The worst score first."""
    order = np.argsort(scores, kind="stable")
    return [Suspect(int(rows[i]), round(float(scores[i]), 4)) for i in order]


def _sizes(table: Table, folder: Path | None) -> np.ndarray | None:
    """int64 (N, 2): width and height of each file; None where the images are not in files that Pillow reads."""
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
    """Rows whose area or aspect ratio is far from that of the others, and their scores."""
    width, height = sizes.T.astype(np.float64)
    far = np.zeros(len(sizes))
    for values in (width * height, width / height):
        far = np.maximum(far, np.abs(np.log(values / np.median(values))))
    rows = np.flatnonzero(far > np.log(_RATIO))
    return rows, np.exp(-far[rows])


def _of_latents(z: np.ndarray, table: Table, reporter: Reporter) -> dict[str, list[Suspect]]:
    """Outliers, and labels that a probe doubts."""
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
    """int64 (P, 2): nearest neighbours in z_e whose pixels hardly differ; their hashes may."""
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
