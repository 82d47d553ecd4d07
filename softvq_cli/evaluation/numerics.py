"""Prepare rows so that distances by matrix products keep their precision.

‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² is fast, but loses the digits in which the squares agree. For rows at 1e7 ± 1, or one row
at 1e9 among others at ± 1, nothing of the distance is left in float32 and little in float64. A sample of the rows shows
whether the precision suffices. If not, the rows are shifted so that their median is 0 (the mean would follow one
distant row). If that is not enough either, distances are computed from differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.datasets.dataset import evenly_spaced

_SAMPLE = 256
"""Size of the sample: evenly spaced rows."""
_SHARE = 0.1
"""The quantile of the sample's nearest distances that must be resolved."""
_ROUNDINGS = 32
"""Rows that differ by at most this many rounding errors of their norm are equal (one image in two batches)."""
LARGEST = 1e9
"""The span up to which float64 products keep about six digits of the distance to a near row."""
_TOLERANCE = 1e-4
"""Tolerance of each gradient component of L-BFGS, for features with unit variance."""
_ROWS_A_FEATURE = 50
"""With at least this many rows per feature, the features are whitened: random labels could not be separated."""
_MANY_FEATURES = 512
"""With more features (images), L-BFGS is very slow if they are correlated; then fewer rows are whitened too."""
_SMALLEST = 1e-6
"""Minimum variance of a direction, relative to the largest; smaller ones are scaled as if they had this variance."""
_WIDE = 1e5
"""The span of rows (see :func:`span`) above which scaling to unit variance does not help."""
_FARTHEST = 1e12
"""Maximum norm of a row, relative to a small norm; more distant rows are moved to it."""


@dataclass(frozen=True)
class Prepared:
    """How to prepare rows for a search in float64."""

    shift: np.ndarray | None
    """float64 (d,): subtracted from all rows that are compared; None: no shift is needed."""
    products: bool
    """Whether distances by products are then precise enough; if not, use differences."""

    @property
    def algorithm(self) -> str:
        """The algorithm of scikit-learn's neighbour search; its trees use differences."""
        return "brute" if self.products else "kd_tree"

    def apply(self, z: np.ndarray) -> np.ndarray:
        """Apply the shift: (N, d), ``z`` itself or float64."""
        return z if self.shift is None else np.asarray(z - self.shift)


def prepare(z: np.ndarray) -> Prepared:
    """Decide how the finite rows ``z`` (N, d) must be prepared before distances in float64."""
    largest = max(float(z.max()), -float(z.min()))
    if (largest == 0 or 1e-15 < largest < 1e15) and span(z) <= LARGEST:  # the squares are in the range of float32
        return Prepared(None, True)
    shift = np.median(z, axis=0).astype(np.float64)
    return Prepared(shift, span(z, shift=shift) <= LARGEST)


def span(z: np.ndarray, neighbours: int = _SAMPLE, *, shift: np.ndarray | float = 0.0, scale: Any = 1.0) -> float:
    """The largest squared norm of (z − shift) / scale, divided by the square of a near distance.

    A near distance is that from a row of a sample to the nearest other row of ``neighbours`` rows.

    ``z`` (N, d) must be the original rows, so that near rows are still different. Returns 0 if all rows equal
    ``shift``, infinity if the sample consists of copies.
    """
    from scipy.spatial.distance import cdist

    blocks = ((z[i : i + 4096] - shift) / scale for i in range(0, len(z), 4096))
    largest = max(float(np.square(block, dtype=np.float64).sum(axis=1).max()) for block in blocks)
    if largest == 0:
        return 0.0
    sample, others = (_some(z, count) / scale for count in (_SAMPLE, neighbours))
    squares = cdist(sample, others, "sqeuclidean")
    squares[squares == 0] = np.inf  # the row itself and its copies, which need no digits to be resolved
    norms = np.add.outer(*(np.square(rows).sum(axis=1) for rows in (sample, others)))
    eps = np.finfo(np.result_type(z.dtype, np.float32)).eps
    copies = squares <= (_ROUNDINGS * eps) ** 2 * norms  # copies that differ by rounding
    if np.isfinite(squares[~copies]).any():
        squares[copies] = np.inf
    near = squares.min(axis=1)
    near = near[np.isfinite(near)]
    return largest / float(np.quantile(near, _SHARE)) if len(near) else np.inf


def _some(z: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` evenly spaced rows, as float64."""
    return np.asarray(z[evenly_spaced(len(z), count)], dtype=np.float64)


_WHOLE = 4096
"""Matrices of at most this size are decomposed completely, which takes less than a minute."""


@dataclass(frozen=True)
class Features:
    """Rows on which L-BFGS converges, and how to transform the weights back."""

    rows: np.ndarray
    """(N, d): ((x − shift) / scale) @ axes − offset; float64, or with ``axes`` float32, which is precise enough for
    unit variance and twice as fast."""
    shift: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None
    """(d, d); None: the identity."""
    tolerance: float
    """Scales the gradient tolerance for unit variance to that of these features."""
    offset: np.ndarray | float = 0.0
    """(d,): subtracted to centre most of the rows."""
    tentative: bool = False
    """Whitened although so few rows may be separable. If they are, there is no finite optimum."""


def conditioned(x: np.ndarray, *, whiten: bool, classes: int | None = None) -> Features:
    """Scale features to unit variance and, with enough rows or if nothing else helps, whiten them.

    Without correlations, L-BFGS needs a quarter of the iterations. The optimum is the same. But a few rows may be
    separable; then there is no optimum, and whitening would change the result. If the number of ``classes`` is known,
    wide rows are whitened as soon as random labels could not be separated.
    """
    n, d = x.shape
    whiten = whiten and d > 1
    shift, scale = _standardisation(x)
    if whiten:
        median = np.median(x, axis=0).astype(np.float64)
        if span(x, shift=median, scale=scale) > _WIDE:
            return _of_few_places(x, median)
    rows = np.subtract(x, shift, dtype=np.float64)  # the only copy, because raw pixels in float64 are large
    rows /= scale
    many = n >= _ROWS_A_FEATURE * d
    tentative = not many and classes is not None and d >= _MANY_FEATURES and n >= classes * d
    if not (whiten and (many or tentative)):
        return Features(rows, shift, scale, None, _TOLERANCE)
    variances, axes = np.linalg.eigh(rows.T @ rows / n)
    axes, tolerance = _to_unit_variance(axes, np.sqrt(np.maximum(variances, _SMALLEST * variances[-1])))
    return Features((rows @ axes).astype(np.float32), shift, scale, axes, tolerance, tentative=tentative)


def _of_few_places(x: np.ndarray, median: np.ndarray) -> Features:
    """Features of groups of near rows that are far from each other; with unit variance nothing could be learned.

    They are centred at most of the rows, which may be far from 0 in a direction in which they hardly differ.
    """
    rows = _without_the_farthest(x - median)
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    rows /= scale
    deviations, axes = _principal(rows - rows.mean(axis=0))
    axes, tolerance = _to_unit_variance(axes, deviations)
    whitened = rows @ axes
    offset = np.median(whitened, axis=0)
    return Features((whitened - offset).astype(np.float32), median, scale, axes, tolerance, offset)


def _to_unit_variance(axes: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, float]:
    """(axes divided by the standard deviations along them, smallest first; the resulting tolerance)."""
    positive = np.where(deviations > 0, deviations, 1.0)  # constant rows (a collapsed codebook) have only zeros
    return axes / positive, _TOLERANCE / max(1.0, deviations[-1])


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(standard deviations, smallest first; axes) of centred rows, computed without squares, which would lose half of
    the digits."""
    _, values, axes = np.linalg.svd(np.linalg.qr(rows)[1])
    values = np.maximum(values, 1e-15 * values[0])[::-1] / np.sqrt(len(rows))
    return np.pad(values, (len(axes) - len(values), 0), mode="edge"), axes.T[:, ::-1]


def largest_eigenvectors(matrix: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``d`` largest eigenvalues, largest first, of a symmetric matrix (n, n), and their vectors (n, d).

    The matrix is overwritten: those of images with thousands of pixels have gigabytes.
    """
    from scipy.linalg import eigh

    n = len(matrix)
    if n <= _WHOLE:  # the published tables were measured with all vectors; another algorithm has other signs
        values, vectors = np.linalg.eigh(matrix)
        return values[::-1][:d], vectors[:, ::-1][:, :d]
    values, vectors = eigh(matrix, subset_by_index=(max(n - d, 0), n - 1), overwrite_a=True)
    return values[::-1], vectors[:, ::-1]


def axes_of_few(centred: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(sums of squares along the ``d`` principal axes, largest first; the axes (D, d); the sum of all squares).

    For fewer centred rows (n, D) than columns: the products of rows are the smaller matrix, and have the same
    eigenvalues. Axes along which the rows do not vary are 0.
    """
    products = centred @ centred.T
    total = float(np.trace(products))
    squares, vectors = largest_eigenvectors(products, d)
    scale, varying = np.zeros_like(squares), squares > len(centred) * np.finfo(float).eps * squares[0]
    scale[varying] = squares[varying] ** -0.5
    return squares, centred.T @ (vectors * scale), total


def _without_the_farthest(rows: np.ndarray) -> np.ndarray:
    """``rows`` as float64, with the most distant ones moved closer so that the others keep their digits."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    most = _FARTHEST * np.quantile(norms[norms > 0], 0.1) if norms.any() else 1.0
    return np.asarray(rows * np.minimum(1.0, most / np.maximum(norms, most)))


def _standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column in float64; 1 for a constant column."""
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    rounding = 1e-6 if x.dtype.itemsize <= 4 else 1e-14
    return mean, np.where(std > rounding * np.abs(mean), std, 1.0)
