"""The data of a comparison, looked at once before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import UsageError, param
from softvq_cli.experiments.measure import labels_of
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.datasets.progress import Progress

TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10"}


@dataclass(frozen=True)
class Material:
    """One data set: what it is and where to load it from."""

    config: DataConfig
    name: str
    """What its loader calls it: ``mnist``, or the name of the user's file or folder."""
    train: int
    """Images of the training split."""
    test: int
    image_shape: tuple[int, int, int]
    fingerprints: tuple[str, str]
    """Of the training and the test split."""

    @property
    def title(self) -> str:
        """For people."""
        return TITLES.get(self.name, self.name)

    @property
    def pixels(self) -> int:
        """Of an image, over all channels."""
        height, width, channels = self.image_shape
        return height * width * channels

    def check_batch(self, config: RunConfig) -> None:
        """Raise UsageError if a batch is larger than the training split, before a hundred cells find out."""
        if config.train.batch_size > self.train:
            raise UsageError(
                f"{param('batch_size')} {config.train.batch_size} is larger than the training split of {self.name}, "
                f"which has {self.train} images"
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "train": self.train,
            "test": self.test,
            "image_shape": list(self.image_shape),
            "fingerprints": list(self.fingerprints),
        }


def look_at(config: DataConfig, progress: Progress | None = None) -> Material:
    """Load both splits, fetching and decoding what is missing, and describe them.

    Raises:
        SoftVQError: as loading does, or the data have no labels.
    """
    from softvq_cli import datasets

    train = datasets.load(config, "train", progress=progress)
    test = datasets.load(config, "test", progress=progress)
    labels_of(train)
    return Material(config, train.name, len(train), len(test), train.image_shape, (train.fingerprint, test.fingerprint))


def shown_settings(config: RunConfig) -> dict[str, Any]:
    """The settings of a model row that a reader needs to repeat it; those that it does not read are left out."""
    flat = config.flat()
    common = ("arch", "latent_dim", "iterations", "batch_size", "lr", "reconstruction_scale")
    return {name: flat[name] for name in (*common, *BOTTLENECKS[config.model.bottleneck].settings)}
