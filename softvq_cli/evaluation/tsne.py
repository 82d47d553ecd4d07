"""Maps of the latents in two dimensions, by t-SNE."""

from __future__ import annotations

import numpy as np

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.evaluation.numerics import prepare
from softvq_cli.evaluation.search import nearest, nearly_nearest
from softvq_cli.ranges import check_jobs, check_number, check_seed
from softvq_cli.reporter import Reporter
from softvq_cli.words import MAP_INITS, MapInit

FEWEST_ROWS = 4
"""Minimum number of rows of a map; with fewer, even a perplexity of 1 is too large."""
FFT_FROM = 10_000
"""Number of rows from which openTSNE's interpolation is faster than Barnes-Hut."""
APPROXIMATE_FROM = 50_000
"""With more rows, neighbours are approximate (random projections), because the exact search is quadratic."""
MOST_MAPPED = 100_000
"""Maximum number of rows in a map; larger data are subsampled."""
_EARLY = 12.0
"""Exaggeration of the early phase, openTSNE's default; a larger one later makes no sense."""
_EXPONENTS = 40
"""Rows with distances above 2 to this power, or below its inverse, are rescaled."""


@evaluation_threads()
def tsne(
    z: np.ndarray,
    *,
    perplexity: float = 30,
    exaggeration: float = 1,
    dimensions: int = 2,
    seed: int = 0,
    jobs: int | None = None,
    init: MapInit = "pca",
    reporter: Reporter | None = None,
) -> np.ndarray:
    """t-SNE by openTSNE, with the gradient method that is faster for this number of rows: float64 (N, dimensions).

    Neighbours are exact up to APPROXIMATE_FROM rows. If there are more than MOST_MAPPED rows, a sample is mapped and
    the coordinates of the others are NaN (see ``mapped``). The result depends on ``seed`` but not on ``jobs``, because
    each thread sums its own rows.

    ``z`` is (N, d). The perplexity, roughly the number of neighbours that count, is limited to (N - 1) / 3. The
    exaggeration multiplies the attraction between neighbours after the early phase; above 1, clusters are smaller and
    farther apart. ``seed`` is for the sample, random start, PCA solver and approximate neighbours. ``init="pca"``
    preserves large distances.
    """
    import openTSNE
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    if len(z) > MOST_MAPPED:
        rows = np.sort(np.random.default_rng(seed).choice(len(z), MOST_MAPPED, replace=False))
        (reporter or Reporter()).note(f"the t-SNE map shows {MOST_MAPPED:,} of {len(z):,} rows, drawn by the seed")
        coordinates = np.full((len(z), dimensions), np.nan)
        settings = {"perplexity": perplexity, "exaggeration": exaggeration, "dimensions": dimensions, "init": init}
        coordinates[rows] = tsne(z[rows], **settings, seed=seed, jobs=jobs)  # type: ignore[arg-type]
        return coordinates
    largest = (len(z) - 1) / 3
    perplexity = float(check_number("perplexity", perplexity, float, low=1))
    exaggeration = float(check_number("exaggeration", exaggeration, float, low=1, high=_EARLY))
    dimensions = int(check_number("dimensions", dimensions, low=1, high=2))
    seed, jobs = check_seed(seed), processors(check_jobs(jobs))
    if len(z) < FEWEST_ROWS:
        raise InputError(f"{len(z)} rows are too few for a t-SNE map: at least {FEWEST_ROWS} are needed")
    if perplexity > largest:
        raise InputError(
            f"the perplexity {perplexity:g} is too large for {len(z)} rows: at most {np.floor(largest * 10) / 10:g} is"
            " allowed, a third of the other rows"
        )
    if init not in MAP_INITS:
        raise UsageError(unknown_name("init", init, MAP_INITS))
    k = int(3 * perplexity)
    if len(z) > APPROXIMATE_FROM and prepare(z).products:
        distances, rows = nearly_nearest(z, k, _seed_of_32_bits(seed))
    else:
        distances, rows = nearest(z, k, jobs=jobs)
    # Affinities are invariant to scale, but openTSNE's search for their width fails from 1e18.
    _, exponents = np.frexp(distances.max(axis=1, keepdims=True))
    distances = np.ldexp(distances, np.where(np.abs(exponents) > _EXPONENTS, -exponents, 0))
    fitted = openTSNE.TSNE(
        n_components=dimensions,
        perplexity=perplexity,
        exaggeration=None if exaggeration == 1 else exaggeration,
        initialization=np.ascontiguousarray(_initial(z, init, _seed_of_32_bits(seed))[:, :dimensions]),
        neighbors=PrecomputedNeighbors(rows, distances),
        negative_gradient_method="fft" if len(z) >= FFT_FROM else "bh",
        n_jobs=jobs,
        random_state=_seed_of_32_bits(seed),
    ).fit(np.asarray(z, dtype=np.float64))
    return np.asarray(fitted)


def mapped(coordinates: np.ndarray) -> np.ndarray:
    """Which rows are in the map: bool (N,)."""
    return np.asarray(np.isfinite(coordinates[:, 0]))


def _initial(z: np.ndarray, init: MapInit, seed: int) -> np.ndarray:
    """Initial coordinates (N, 2), scaled for openTSNE. Equal rows have no principal axes and start at random."""
    from openTSNE import initialization

    z = np.asarray(prepare(z).apply(z), dtype=np.float64)  # the PCA of many rows uses sums of squares
    if init == "random" or not np.ptp(z, axis=0).any():
        return np.asarray(initialization.random(len(z), random_state=seed))
    if z.shape[1] == 1:
        z = np.pad(z, ((0, 0), (0, 1)))
    return np.asarray(initialization.pca(z, random_state=seed))


def _seed_of_32_bits(seed: int) -> int:
    """A seed for NumPy's legacy generator in openTSNE and scikit-learn: ``seed`` itself if it has at most 32 bits."""
    return seed if seed < 1 << 32 else int(np.random.SeedSequence(seed).generate_state(1)[0])
