"""The fields of each command's JSON output. docs/generate.py generates docs/schemas from them.

Measures have the same names everywhere; :mod:`softvq_cli.results.measures` explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import GenericAlias
from typing import Any, Literal, NotRequired

from softvq_cli.evaluation.quality import MapQuality

Numbers = dict[str, float | None]
"""Results or losses by name."""
Config = dict[str, dict[str, int | float | str | bool | None]]
"""Settings by section and name."""


def shape(text: str, **fields: Any) -> type:
    """Define a JSON object: its description, and the types of its fields."""
    return type("Shape", (), {"__doc__": text, "__annotations__": fields})


def many(kind: Any) -> Any:
    """A list of objects of this kind."""
    return GenericAlias(list, (kind,))


def optional(kind: Any) -> Any:
    """The type of an optional field."""
    return NotRequired.__getitem__(kind)


def document(text: str, **fields: Any) -> type:
    """Define the complete output of a command."""
    return shape(text, version=Literal[1], **fields)


SPREAD = {"mean": float, "std": float | None, "n": int, "min": float, "max": float, "values": optional(list[float])}
Spread = shape("Over several starts, draws or seeds.", **SPREAD)
FewLabels = shape("A probe on a few labels of each class.", **SPREAD, labels_per_class=int)
CLUSTERS = {
    "clustering_accuracy": optional(float),
    "nmi": optional(float),
    "ari": optional(float),
    "silhouette": optional(float | None),
    "inertia": float,
    "clusters": int,
    "method": optional(str),
    "n_init": int,
    "n": int,
    "principal_components": optional(dict[str, float]),
    "starts": GenericAlias(dict, (str, Spread)),
}
Clusters = shape("Clusters of rows, compared with classes where there are labels.", **CLUSTERS)
OnMap = shape(
    "The same on a t-SNE map.",
    perplexity=float,
    exaggeration=float,
    dimensions=int,
    clustering=Clusters,
    quality=MapQuality,
)
State = shape(
    "A named data set on this machine.",
    name=str,
    description=str,
    path=str | None,
    present=bool,
    complete=bool,
    intact=bool | None,
    size=int,
    problem=str,
)
Row = shape(
    "One row of a study; cells by column.",
    row=str,
    label=str,
    kind=Literal["model", "control"],
    seeds=dict[str, list[int]],
    cells=dict[str, Any],
)
File = shape(
    "An image of a group; ``class`` is there where the data have classes.", file=str, split=Literal["train", "test"]
)
NAMED = {"file": str, "class": str | None}
Neighbour = shape("A training image near a new one.", **NAMED, distance=float)
Prediction = shape(
    "What a run says of one new image; class and probability are null without labels.",
    **NAMED,
    probability=float | None,
    cluster=int,
    outlier=float,
    neighbours=many(Neighbour),
)

Study = document(
    "The document of reproduce, sweep and compare; their files have it, too.",
    name=str,
    title=str,
    softvq=str,
    command=str,
    columns=list[dict[str, Any]],
    rows=many(Row),
    failed=list[Any],
    notes=list[str],
)
DOCUMENTS: Mapping[str, type] = {
    "data": document("data list, fetch and check.", data_dir=str, data=many(State)),
    "data-show": document(
        "data show: what was understood of one data set.",
        name=str,
        image_shape=list[int],
        counts=dict[str, int],
        classes=dict[str, dict[str, int]],
        drawn=bool,
        duplicates=int,
        shared=int,
        constant=int,
        fingerprints=dict[str, str],
        notes=list[str],
        sheet=str | None,
    ),
    "train": document("A trained model.", path=str, config=Config, metrics=Numbers),
    "embed": document("A file of rows.", path=str, rows=int, columns=int, labels=bool),
    "cluster": document("The clusters of a file's rows.", **CLUSTERS, map=optional(OnMap)),
    "probe": document(
        "The softmax probe, and the others that were asked for.",
        probe_accuracy=float,
        train_accuracy=float,
        per_class=dict[str, float],
        confusion=list[list[int]],
        classes=list[str],
        n_train=int,
        n_test=int,
        solver=str,
        settings=optional(dict[str, Any]),
        knn_accuracy=optional(float),
        knn=optional(dict[str, Any]),
        few_labels=optional(many(FewLabels)),
    ),
    "tsne": document("A picture of maps, and the files of their coordinates.", path=str, coordinates=list[str]),
    "run": document(
        "A run that is trained and evaluated.",
        folder=str,
        checkpoint_sha256=str,
        config=Config,
        training=Numbers,
        results=Numbers,
    ),
    **dict.fromkeys(("compare", "reproduce", "sweep"), Study),
    "issues": document(
        "Groups of duplicates, and per kind of issue the files with a score.",
        data=str,
        images=int,
        image_size=optional(int),
        exact_duplicates=many(many(File)),
        near_duplicates=optional(many(many(File))),
        leaks=many(many(File)),
    ),
    "predict": document(
        "What a run says of new images; with ``-o`` only where it was written, and of how many images.",
        predictions=optional(many(Prediction)),
        path=optional(str),
        images=optional(int),
    ),
    "report": document(
        "A page: the number of images of each run, and its size.", path=str, images=dict[str, int], bytes=int
    ),
    "info": document(
        "What a file or folder is; which names there are depends on ``kind``.",
        kind=Literal["checkpoint", "embeddings", "run", "onnx", "study"],
        path=str,
    ),
    "export": document(
        "A model in another form; the names of an ONNX model's outputs.", path=str, outputs=optional(list[str])
    ),
}
"""Command → its document. Some documents have additional fields that depend on their subject."""
OPEN = (File, Row, *(DOCUMENTS[name] for name in ("data-show", "issues", "run", "info", "compare", "probe")))
"""Documents with additional fields."""
