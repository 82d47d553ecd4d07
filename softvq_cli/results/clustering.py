"""The clusters of one embedding file, and of its map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from softvq_cli.evaluation.clustering import Clustering
    from softvq_cli.results.maps import OnMap


@dataclass(frozen=True)
class FileClustering:
    """What was found in a file's rows."""

    clustering: Clustering
    on_map: OnMap | None
    """The same on a t-SNE map of the rows, where that was asked for."""

    @property
    def assignments(self) -> np.ndarray:
        """int64 (N,), the cluster of each row: on the map, where there is one."""
        return (self.on_map or self).clustering.assignments

    def as_dict(self, *, starts: bool = False) -> dict[str, Any]:
        """For JSON; with the value of every start of K-means, or their mean and range alone."""
        document = self.clustering.as_dict()
        found = [document["starts"]]
        if self.on_map is not None:
            document["map"] = self.on_map.as_dict()
            found.append(document["map"]["clustering"]["starts"])
        if not starts:
            for spread in (spread for one in found for spread in one.values()):
                del spread["values"]
        return document


def cluster_file(
    path: Path,
    labels: Path | None = None,
    *,
    on_map: Mapping[str, Any] | None = None,
    begun: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    **how: Any,
) -> FileClustering:
    """Cluster the rows of an embedding file.

    Args:
        path: the ``.npy`` file.
        labels: of its rows, where they are not beside it.
        on_map: settings of a t-SNE map of the rows that is clustered too, see :func:`softvq_cli.results.maps.on_map`;
            None for no map.
        begun: is told what is being done.
        note: is told what is to be said of the map.
        how: for :func:`softvq_cli.evaluation.clustering.cluster`.

    Raises:
        InputError: a file cannot be used.
        UsageError: as clustering does.
    """
    from softvq_cli import embeddings
    from softvq_cli.evaluation.clustering import cluster
    from softvq_cli.results import maps

    rows = embeddings.read(path, labels)
    begun("clustering")
    found = cluster(rows.z, rows.labels, **how)
    if on_map is None:
        return FileClustering(found, None)
    begun("mapping")
    return FileClustering(found, maps.on_map(rows.z, rows.labels, note=note, **on_map, **how))
