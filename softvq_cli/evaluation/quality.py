"""Quality of a map: are neighbourhoods of the latents preserved?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from softvq_cli.devices import evaluation_threads
from softvq_cli.errors import InputError
from softvq_cli.evaluation.numerics import prepare
from softvq_cli.evaluation.search import nearest
from softvq_cli.ranges import MOST_COUNT, check_jobs, check_number, check_seed

QUALITY_ROWS = 5000
"""Maximum number of rows for the quality of a map, which needs all ranks; larger data are subsampled."""


@dataclass(frozen=True)
class MapQuality:
    """How well a map preserves neighbourhoods; both measures are 1 for a perfect map."""

    trustworthiness: float
    """Decreases if rows that are near in the map are distant in the latents (Venna and Kaski 2001)."""
    knn_recall: float
    """Fraction of the k nearest rows in the latents that are among the k nearest in the map."""
    k: int
    n: int
    """Number of rows compared."""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@evaluation_threads()
def map_quality(
    z: np.ndarray, coordinates: np.ndarray, *, k: int = 10, seed: int = 0, jobs: int | None = None
) -> MapQuality:
    """Compare the k nearest rows in a map (N, 2) with those in the latents (N, d), for at least 2 k + 2 rows.

    ``seed`` draws the rows if there are more than QUALITY_ROWS.
    """
    if len(z) != len(coordinates):
        raise InputError(f"{len(coordinates)} points cannot be a map of {len(z)} rows")
    k, seed, jobs = int(check_number("k", k, low=1, high=MOST_COUNT)), check_seed(seed), check_jobs(jobs)
    if len(z) > QUALITY_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(z), QUALITY_ROWS, replace=False))
        z, coordinates = z[rows], coordinates[rows]
    if len(z) < 2 * k + 2:
        raise InputError(
            f"{len(z)} rows are too few to compare {k} neighbours of each: at least {2 * k + 2} are needed"
        )
    near, near_in_map = nearest(z, k, jobs=jobs)[1], nearest(coordinates, k, jobs=jobs)[1]  # (N, k)
    shared = (near[:, :, None] == near_in_map[:, None, :]).sum()
    return MapQuality(_trustworthiness(z, coordinates, k), float(shared / near.size), k, len(z))


def _trustworthiness(z: np.ndarray, coordinates: np.ndarray, k: int) -> float:
    from scipy.spatial.distance import cdist
    from sklearn.manifold import trustworthiness

    prepared = prepare(z)
    z = prepared.apply(z)
    if prepared.products:
        return float(trustworthiness(z, coordinates, n_neighbors=k))
    return float(trustworthiness(cdist(z, z), coordinates, n_neighbors=k, metric="precomputed"))
