"""What each command prints as JSON, name by name. docs/generate.py makes the schemas in docs/schemas of these classes.

Numbers of an evaluation are called the same everywhere; :mod:`softvq_cli.results.measures` explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from softvq_cli.evaluation.quality import MapQuality

Numbers = dict[str, float | None]
"""Results or losses by name."""
Config = dict[str, dict[str, int | float | str | bool | None]]
"""Settings by section and name."""


class Document(TypedDict):
    """Of any command."""

    version: Literal[1]


class Wrote(Document):
    """tsne, export and the like: what was written."""

    path: str


class Train(Wrote):
    """A trained model."""

    config: Config
    metrics: Numbers


class Embed(Wrote):
    """A file of rows."""

    rows: int
    columns: int
    labels: bool


class Tsne(Wrote):
    """A picture of maps, and the files of their coordinates."""

    coordinates: list[str]


class Report(Wrote):
    """A page: the number of images of each run, and its size."""

    images: dict[str, int]
    bytes: int


class Export(Wrote):
    """A model in another form; the names of an ONNX model's outputs."""

    outputs: NotRequired[list[str]]


class Spread(TypedDict):
    """Over several starts, draws or seeds."""

    mean: float
    std: float | None
    n: int
    min: float
    max: float
    values: NotRequired[list[float]]


class Clusters(TypedDict):
    """Clusters of rows, compared with classes where there are labels."""

    clustering_accuracy: NotRequired[float]
    nmi: NotRequired[float]
    ari: NotRequired[float]
    silhouette: NotRequired[float | None]
    inertia: float
    clusters: int
    method: NotRequired[str]
    n_init: int
    n: int
    principal_components: NotRequired[dict[str, float]]
    starts: dict[str, Spread]


class OnMap(TypedDict):
    """The same on a t-SNE map."""

    perplexity: float
    exaggeration: float
    dimensions: int
    clustering: Clusters
    quality: MapQuality


class Cluster(Document, Clusters):
    """The clusters of a file's rows."""

    map: NotRequired[OnMap]


class FewLabels(Spread):
    """A probe on a few labels of each class."""

    labels_per_class: int


class Probe(Document):
    """The softmax probe, and the others that were asked for."""

    probe_accuracy: float
    train_accuracy: float
    per_class: dict[str, float]
    confusion: list[list[int]]
    classes: list[str]
    n_train: int
    n_test: int
    solver: str
    settings: NotRequired[dict[str, Any]]
    knn_accuracy: NotRequired[float]
    knn: NotRequired[dict[str, Any]]
    few_labels: NotRequired[list[FewLabels]]


class Run(Document):
    """A run that is trained and evaluated."""

    folder: str
    checkpoint_sha256: str
    config: Config
    training: Numbers
    results: Numbers


class State(TypedDict):
    """A named data set on this machine."""

    name: str
    description: str
    path: str | None
    present: bool
    complete: bool
    intact: bool | None
    size: int
    problem: str


class Data(Document):
    """data list, fetch and check."""

    data_dir: str
    data: list[State]


class DataShow(Document):
    """data show: what was understood of one data set."""

    name: str
    image_shape: list[int]
    counts: dict[str, int]
    classes: dict[str, dict[str, int]]
    drawn: bool
    duplicates: int
    shared: int
    constant: int
    fingerprints: dict[str, str]
    notes: list[str]
    sheet: str | None


class Info(Document):
    """What a file or folder is; which names there are depends on ``kind``."""

    kind: Literal["checkpoint", "embeddings", "run", "onnx", "study"]
    path: str


class Row(TypedDict):
    """One row of a study; cells by column."""

    row: str
    label: str
    kind: Literal["model", "control"]
    seeds: dict[str, list[int]]
    cells: dict[str, Any]


class Study(Document):
    """The document of reproduce, sweep and compare; their files have it, too."""

    name: str
    title: str
    softvq: str
    command: str
    columns: list[dict[str, Any]]
    rows: list[Row]
    failed: list[Any]
    notes: list[str]


class File(TypedDict):
    """An image of a group; ``class`` is there where the data have classes."""

    file: str
    split: Literal["train", "test"]


class Issues(Document):
    """Groups of duplicates, and per kind of issue the files with a score."""

    data: str
    images: int
    exact_duplicates: list[list[File]]
    near_duplicates: list[list[File]]
    leaks: list[list[File]]


Neighbour = TypedDict("Neighbour", {"file": str, "class": str | None, "distance": float})
Neighbour.__doc__ = "A training image near a new one."
Prediction = TypedDict(
    "Prediction",
    {
        "file": str,
        "class": str | None,
        "probability": float | None,
        "cluster": int,
        "outlier": float,
        "neighbours": list[Neighbour],
    },
)
Prediction.__doc__ = "What a run says of one new image; class and probability are null without labels."


class Predict(Document):
    """What a run says of new images; with ``-o`` only where it was written, and of how many images."""

    predictions: NotRequired[list[Prediction]]
    path: NotRequired[str]
    images: NotRequired[int]


DOCUMENTS: Mapping[str, type] = {
    "data": Data,
    "data-show": DataShow,
    "train": Train,
    "embed": Embed,
    "cluster": Cluster,
    "probe": Probe,
    "tsne": Tsne,
    "run": Run,
    "compare": Study,
    "reproduce": Study,
    "sweep": Study,
    "issues": Issues,
    "predict": Predict,
    "report": Report,
    "info": Info,
    "export": Export,
}
"""Command → its document. Some have more names than those that are listed, by what they are about."""
OPEN = (DataShow, File, Issues, Run, Info, Study, Row, Probe)
"""Documents with further names."""
