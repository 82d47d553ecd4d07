"""A name or a path to images, labels and class names."""

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.fetch import fetch
from softvq_cli.datasets.load import find, load
from softvq_cli.datasets.named import Status, data_folder, describe, names
from softvq_cli.datasets.overview import Overview, look

__all__ = [
    "Dataset",
    "Overview",
    "Status",
    "data_folder",
    "describe",
    "fetch",
    "find",
    "load",
    "look",
    "names",
]
