"""Load data sets: from a name or a path to images, labels and class names."""

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.fetch import fetch
from softvq_cli.datasets.load import Overview, find, load, load_for_training, look, place_of
from softvq_cli.datasets.named import Status, data_folder, describe, names

__all__ = [
    "Dataset",
    "Overview",
    "Status",
    "data_folder",
    "describe",
    "fetch",
    "find",
    "load",
    "load_for_training",
    "look",
    "names",
    "place_of",
]
