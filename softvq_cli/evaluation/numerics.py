"""Rows made fit for distances by matrix products, wherever they lie.

‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² is fast and loses what the squares have before the difference: rows at 1e7 ± 1, or one
row at 1e9 beside others at ± 1, leave nothing of it in float32, and little in float64. Here it is told from a sample of
the rows whether the digits last; where they do not, the rows are moved so that their median is 0 (the mean would follow
one far row), and where that is not enough either, distances are taken from differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from softvq_cli.datasets.dataset import evenly_spaced

_SAMPLE = 256
"""Rows, evenly spaced, that stand for all."""
_SHARE = 0.1
"""Of the sample's nearest distances, this quantile is what the digits have to resolve."""
_ROUNDINGS = 32
"""Rows that differ by so many roundings of their norm are the same: an image that is there twice, in another batch."""
LARGEST = 1e9
"""The span to which products in float64 keep about six digits of a distance to a near row."""
_TOLERANCE = 1e-4
"""Of each component of the gradient of L-BFGS, for features of unit variance."""
_ROWS_A_FEATURE = 50
"""From so many on the features are whitened: too many to be separated by chance."""
_MANY_FEATURES = 512
"""From so many on, which are images, L-BFGS takes very long where they are correlated: fewer rows are whitened too."""
_SMALLEST = 1e-6
"""Of the largest variance: directions with less are not blown up to unit variance, but to this share of it."""
_WIDE = 1e5
"""The span of rows (see :func:`span`) that unit variance does not serve."""
_FARTHEST = 1e12
"""Of a small norm: rows beyond are drawn to it."""


@dataclass(frozen=True)
class Prepared:
    """Rows for a search in float64."""

    shift: np.ndarray | None
    """float64 (d,), to be taken from all rows that are compared; None: they may stay where they are."""
    products: bool
    """Whether distances by products keep enough digits then; if not, take them from differences."""

    @property
    def algorithm(self) -> str:
        """Of scikit-learn's search for neighbours: its trees take differences."""
        return "brute" if self.products else "kd_tree"

    def apply(self, z: np.ndarray) -> np.ndarray:
        """(N, d): ``z`` itself, or float64."""
        return z if self.shift is None else np.asarray(z - self.shift)


def prepare(z: np.ndarray) -> Prepared:
    """What the rows ``z`` (N, d), finite, need before their distances are computed in float64."""
    largest = max(float(z.max()), -float(z.min()))
    if (largest == 0 or 1e-15 < largest < 1e15) and span(z) <= LARGEST:  # float32 has the squares of such
        return Prepared(None, True)
    shift = np.median(z, axis=0).astype(np.float64)
    return Prepared(shift, span(z, shift=shift) <= LARGEST)


def span(z: np.ndarray, neighbours: int = _SAMPLE, *, shift: np.ndarray | float = 0.0, scale: Any = 1.0) -> float:
    """How many times the square of a near distance the largest squared norm of (z − shift) / scale is.

    Near is what lies between a row of a sample and the nearest other one of ``neighbours`` rows.

    ``z`` (N, d) are the rows before anything was taken from them, lest near ones have become the same. Returns 0 for
    rows that are all ``shift``, infinity for a sample of copies.
    """
    from scipy.spatial.distance import cdist

    blocks = ((z[i : i + 4096] - shift) / scale for i in range(0, len(z), 4096))
    largest = max(float(np.square(block, dtype=np.float64).sum(axis=1).max()) for block in blocks)
    if largest == 0:
        return 0.0
    sample, others = (_some(z, count) / scale for count in (_SAMPLE, neighbours))
    squares = cdist(sample, others, "sqeuclidean")
    squares[squares == 0] = np.inf  # the row itself, and its copies, which any digits tell from the others
    norms = np.add.outer(*(np.square(rows).sum(axis=1) for rows in (sample, others)))
    eps = np.finfo(np.result_type(z.dtype, np.float32)).eps
    copies = squares <= (_ROUNDINGS * eps) ** 2 * norms  # so are those that rounding has moved
    if np.isfinite(squares[~copies]).any():
        squares[copies] = np.inf
    near = squares.min(axis=1)
    near = near[np.isfinite(near)]
    return largest / float(np.quantile(near, _SHARE)) if len(near) else np.inf


def _some(z: np.ndarray, count: int) -> np.ndarray:
    """float64: at most ``count`` rows, evenly spaced."""
    return np.asarray(z[evenly_spaced(len(z), count)], dtype=np.float64)


@dataclass(frozen=True)
class Features:
    """Rows on which L-BFGS converges, and the way back."""

    rows: np.ndarray
    """(N, d): ((x − shift) / scale) @ axes − offset; float64, or where there are axes float32, which is enough for
    unit variance and twice as fast."""
    shift: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None
    """(d, d); None for the identity."""
    tolerance: float
    """That brings the gradient for unit variance down to the one that is asked for."""
    offset: np.ndarray | float = 0.0
    """(d,): where most of the rows would be without it."""
    tentative: bool = False
    """Whitened although so few rows may be separated by chance; if they are, there is no optimum to come to sooner."""


def conditioned(x: np.ndarray, *, whiten: bool, classes: int | None = None) -> Features:
    """Unit variance, and where there are enough rows or only that helps, no correlation.

    Correlated features are what L-BFGS takes long for: without them it needs a quarter of the iterations. The optimum
    is the same, but where a few rows can be separated there is none, and what is found then is better left as it was.
    With their number of ``classes``, wide rows are whitened as soon as not any labels could be separated.
    """
    n, d = x.shape
    whiten = whiten and d > 1
    shift, scale = _standardisation(x)
    if whiten:
        median = np.median(x, axis=0).astype(np.float64)
        if span(x, shift=median, scale=scale) > _WIDE:
            return _of_few_places(x, median)
    rows = np.subtract(x, shift, dtype=np.float64)  # the one copy: raw pixels in float64 are large
    rows /= scale
    many = n >= _ROWS_A_FEATURE * d
    tentative = not many and classes is not None and d >= _MANY_FEATURES and n >= classes * d
    if not (whiten and (many or tentative)):
        return Features(rows, shift, scale, None, _TOLERANCE)
    variances, axes = np.linalg.eigh(rows.T @ rows / n)
    axes, tolerance = _to_unit_variance(axes, np.sqrt(np.maximum(variances, _SMALLEST * variances[-1])))
    return Features((rows @ axes).astype(np.float32), shift, scale, axes, tolerance, tentative=tentative)


def _of_few_places(x: np.ndarray, median: np.ndarray) -> Features:
    """Of rows that are near each other and far from others: unit variance would leave nothing to learn from.

    Centred where most of them are: in a direction in which they hardly differ, that is far from 0.
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
    """(axes that divide by the standard deviations along them, the smallest first; the tolerance then)."""
    positive = np.where(deviations > 0, deviations, 1.0)  # none is, of constant rows: a collapsed codebook's
    return axes / positive, _TOLERANCE / max(1.0, deviations[-1])


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(standard deviations, the smallest first; axes) of centred rows, without their squares, which have half the
    digits."""
    _, values, axes = np.linalg.svd(np.linalg.qr(rows)[1])
    values = np.maximum(values, 1e-15 * values[0])[::-1] / np.sqrt(len(rows))
    return np.pad(values, (len(axes) - len(values), 0), mode="edge"), axes.T[:, ::-1]


def _without_the_farthest(rows: np.ndarray) -> np.ndarray:
    """float64 ``rows`` of which those too far for any digit of the others to be kept beside them come nearer."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    most = _FARTHEST * np.quantile(norms[norms > 0], 0.1) if norms.any() else 1.0
    return np.asarray(rows * np.minimum(1.0, most / np.maximum(norms, most)))


def _standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column in float64; 1 for a column that does not vary."""
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    rounding = 1e-6 if x.dtype.itemsize <= 4 else 1e-14
    return mean, np.where(std > rounding * np.abs(mean), std, 1.0)
