"""Find the data that a checkpoint was trained on, compare them, and apply its model to them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import InputError, Message, UsageError, param, unknown_name
from softvq_cli.files import make_folder
from softvq_cli.reporter import Reporter, tell_notes
from softvq_cli.results import evaluate
from softvq_cli.results.subject import Subject
from softvq_cli.words import SPLITS, Split

if TYPE_CHECKING:
    from softvq_cli.embeddings import Embedding
    from softvq_cli.training.checkpoint import Checkpoint


def checkpoint_file(path: Path) -> Path:
    """The checkpoint file of ``path``, which is the file or a run's folder."""
    if path.suffix in (".npy", ".parquet") and path.is_file():
        what = "an array" if path.suffix == ".npy" else "a table"
        raise InputError(f"{path} is {what}, but a checkpoint is needed here: a ckpt.pt that train wrote")
    return path / "ckpt.pt" if path.is_dir() else path


@contextlib.contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Create a folder; if the work in the block fails, remove it again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@dataclass(frozen=True)
class Source:
    """The source of images for a checkpoint's model: its training data, or other data."""

    checkpoint: Checkpoint
    data: str | None = None
    """Other data than those of the training: a name or a path."""
    data_dir: str | None = None
    """The current folder of the named data sets."""
    reporter: Reporter = field(default_factory=Reporter)
    """Receives events of downloading, decoding and embedding, notes on dropped, mapped or rounded values, and warnings
    that the data may differ from those of the checkpoint."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How other data are read, if not like those of the training: settings by name."""
    _splits: dict[str, Dataset] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise UsageError if there is ``reading`` without other data."""
        if self.reading and self.data is None:
            first = next(iter(self.reading))
            raise UsageError(
                "{} is for other data and needs {data}: the data of the checkpoint are read as in the training",
                param(first),
            )

    @classmethod
    def open(cls, path: Path, *, device: str = "auto", **more: Any) -> Source:
        """The source for the checkpoint or run folder ``path``, on a device; ``more`` are the other fields."""
        from softvq_cli.devices import pick
        from softvq_cli.training import checkpoint

        return cls(checkpoint.load(checkpoint_file(path), pick(device)), **more)

    def load(self, split: str, *, choice: bool = False) -> Dataset:
        """Load one split; ``choice``: the user chose the split and could choose another."""
        if split not in SPLITS:
            raise UsageError(unknown_name("split", split, SPLITS))
        trained, dataset = self.checkpoint.dataset, self._fitted(self._load(cast(Split, split)))
        notes = [*dataset.notes]
        if self.data is not None and dataset.drawn and split != "all":  # only a part of the data
            others = Message("; {split} all uses all of them") if choice else ""
            notes += [Message("these data have no splits: {} images were drawn as {}{}", len(dataset), split, others)]
        tell_notes(self.reporter, dataset.name, notes)
        if dataset.class_names and trained.class_names and dataset.class_names != trained.class_names:
            self.reporter.warn(
                f"{dataset.name} has other classes than the data that {self.checkpoint.path} was trained on"
            )
        return self._numbered(dataset)

    def compare(self) -> None:
        """Warn if the fingerprint of the training split differs, unless other data were requested."""
        if self.data is not None:
            return
        from softvq_cli.training.checkpoint import DatasetInfo

        trained, there = self.checkpoint.dataset, DatasetInfo.of(self._load("train"))
        if there.fingerprint != trained.fingerprint:
            self.reporter.warn(
                f"{self.checkpoint.config.data.data} is not the data that {self.checkpoint.path} was trained on: "
                f"{trained.difference(there)}"
            )

    def embed(self, split: str, out: Path, *, what: str = "z_e", batch_size: int = 512, **more: Any) -> Embedding:
        """Write a representation of one split, see :func:`softvq_cli.embeddings.embed`; creates the folder."""
        from softvq_cli import embeddings

        dataset = self.load(split, choice=True)
        self.compare()
        with output_folder(out.parent):
            return embeddings.embed(
                self.checkpoint, dataset, out, what=what, batch_size=batch_size, reporter=self.reporter, **more
            )

    def subject(self, **more: Any) -> Subject:
        """The model on both splits, after comparison with the training data; ``more`` is passed to :class:`Subject`."""

        def load(split: Split) -> Dataset:
            dataset = self.load(split)
            self.compare()
            return dataset

        return Subject(self.checkpoint, load, reporter=self.reporter, **more)

    @property
    def folder(self) -> Path:
        """The path of the data; for a named data set it is not a folder."""
        return Path(self._place.data)

    def in_training(self, dataset: Dataset) -> np.ndarray:
        """Which rows of a split, or of all images, are in the training split: bool (N,)."""
        from softvq_cli.datasets.dataset import training_rows

        if dataset.split != "all":
            return np.full(len(dataset), dataset.split == "train")
        train = None if dataset.drawn else len(self._load("train"))
        return training_rows(len(dataset), self._load("all").labels, train, self._place)

    def kept_arrays(self, rows: Embedding) -> dict[str, np.ndarray]:
        """The arrays of the run's evaluation, if ``rows`` are z_e of its labelled test split."""
        if rows.labels is None or (rows.info.get("split"), rows.info.get("representation")) != ("test", "z_e"):
            return {}
        key = {"checkpoint_sha256": self.checkpoint.sha256, "test": rows.info["fingerprint"]}
        evaluation = evaluate.read(self.checkpoint.path.parent, key)
        return {name: array for name in evaluate.ARRAYS if (array := evaluation.array(name)) is not None}

    def _fitted(self, dataset: Dataset) -> Dataset:
        """Convert the images to the model's channels (InputError: another shape)."""
        shape, expected = dataset.image_shape, self.checkpoint.dataset.image_shape
        if shape == expected:
            return dataset
        if expected == (*shape[:2], 3) and shape[2] == 1:
            self.reporter.note(f"{dataset.name}: grey images for a model of colour images: repeated to three channels")
            images = np.broadcast_to(dataset.images, (*dataset.images.shape[:3], 3))
        elif self.data is not None and expected == (*shape[:2], 1) and shape[2] == 3:
            from softvq_cli.datasets.loose import grey_of

            self.reporter.note(f"{dataset.name}: colour images for a model of grey images: converted to grey")
            images = grey_of(dataset.images)
        else:
            there, needed = (
                f"images of the shape {each} (height, width, channels)"
                if len(each) == 3
                else f"vectors of {each[0]} numbers"
                for each in (shape, expected)
            )
            raise InputError(f"{dataset.name} holds {there}, and {self.checkpoint.path} was trained on {needed}")
        return dataclasses.replace(dataset, images=images, key=None)

    def _numbered(self, dataset: Dataset) -> Dataset:
        """Number the classes as in the checkpoint's data, new classes after those; without a common name, keep the
        numbers."""
        from softvq_cli.embeddings.labels import numbering, renumber, shared

        trained = self.checkpoint.dataset.class_names
        if dataset.labels is None or dataset.class_names == trained or not shared(trained, dataset.class_names):
            return dataset
        names = numbering(trained, dataset.class_names)
        return dataclasses.replace(
            dataset, labels=renumber(dataset.labels, dataset.class_names, names), class_names=names
        )

    def _load(self, split: Split) -> Dataset:
        if split not in self._splits:
            self._splits[split] = self._read(split)
        return self._splits[split]

    def _read(self, split: Split) -> Dataset:
        """Read the split; files of other data are resized for the model unless a size is requested."""
        from softvq_cli import datasets
        from softvq_cli.datasets.naming import is_image_name

        trained, reporter = self.checkpoint.dataset, self.reporter
        if len(trained.image_shape) != 3:  # vectors
            return datasets.load(self._place, split, reporter=reporter)
        if self.data is not None and Path(self.data).is_file() and is_image_name(self.data):
            return self._single(Path(self.data), split)
        height, width, _ = trained.image_shape
        fits = self.data is not None and "image_size" not in self.reading and height == width
        try:
            dataset = datasets.load(self._place, split, reporter=reporter)
            resizable = dataset.images.ndim == 4 and dataset.file_names is not None
            if not fits or dataset.image_shape[:2] == (height, width) or not resizable:
                return dataset
        except InputError as error:
            if not fits or "image_size" not in error.settings:
                raise
        reporter.note(f"the images of {self.data} are resized to {height}x{height}, the size of the model's images")
        return datasets.load(dataclasses.replace(self._place, image_size=height), split, reporter=reporter)

    def _single(self, path: Path, split: Split) -> Dataset:
        """Read one image file."""
        from softvq_cli.datasets.loose import read_images

        config = self.checkpoint.config.data
        images = read_images([path], self.checkpoint.dataset.image_shape, config.pixel_range, self.reporter)
        return Dataset(path.stem, split, images, None, (), (path.name,))

    @cached_property
    def _place(self) -> DataConfig:
        """The settings for reading the data and their location: from the call, or as found for the run."""
        from softvq_cli import datasets
        from softvq_cli.training import run_directory

        config, folder = self.checkpoint.config.data, self.checkpoint.path.parent
        place = self.data_dir or config.data_dir or run_directory.data_dir(folder)  # an exported model has none
        config = dataclasses.replace(config, data_dir=place)
        if self.data is not None:
            return dataclasses.replace(config, data=self.data, **self.reading)
        found = datasets.find(
            config,
            folder,
            was=run_directory.data_path(folder),
            fingerprint=self.checkpoint.dataset.fingerprint,
            reporter=self.reporter,
        )
        if found.data != config.data:
            self.reporter.note(f"{config.data} is read from {found.data}")
        return found
