"""Find issues in a set of images: duplicates, images without content, outliers and doubtful labels.

The functions take arrays and return row numbers and scores. The thresholds were chosen on MNIST and CIFAR-10 (JPEG),
where they give few findings.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from PIL import Image

from softvq_cli.evaluation.search import nearest

SIDE, KEPT = 32, 8
"""The hash uses the lowest 8 × 8 frequencies of a greyscale thumbnail of 32 × 32 pixels."""
MOST_BITS = 6
"""Maximum number of different bits, out of 64, in the hashes of near-duplicates."""
LEAST_CORRELATION = 0.99
"""Minimum correlation of the greyscale thumbnails of near-duplicates. MNIST has 13 such groups, 341 at 0.97; CIFAR-10
(JPEG) has 20 pairs if hashes may differ in 10 bits."""
LEAST_CONTRAST = 8.0
"""Minimum standard deviation of a thumbnail, of 255; images with less have too little content to be compared."""
DARK, BRIGHT, BLURRED = 40.0, 225.0, 0.15
"""Thresholds of :func:`content`. The least sharp image of CIFAR-10 (JPEG) has 0.16, of MNIST 0.55."""
_BLOCK = 2048


class Images(Protocol):
    """A uint8 (N, H, W, C) array, or an iterable of such images."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


def equal_rows(images: Images) -> list[np.ndarray]:
    """Groups of two or more equal images, as int64 row numbers in ascending order."""
    groups: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        groups.setdefault(digest, []).append(row)
    return [np.array(rows) for rows in groups.values() if len(rows) > 1]


def thumbnails(images: Images) -> np.ndarray:
    """Convert images, uint8 (N, H, W, C), to greyscale thumbnails, uint8 (N, 32, 32)."""
    small = np.empty((len(images), SIDE, SIDE), np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
        small[row] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return small


def dct_hashes(small: np.ndarray) -> np.ndarray:
    """Perceptual hashes, uint64 (N,): one bit for each of the 64 lowest frequencies above their median (Zauner 2010).

    The most significant bit is that of the mean brightness. Hashes of images that differ in size, compression or
    brightness differ in few bits.
    """
    from scipy.fft import dct

    parts = []
    for start in range(0, len(small), _BLOCK):
        waves = dct(dct(small[start : start + _BLOCK].astype(np.float64), axis=1)[:, :KEPT], axis=2)
        low = waves[:, :, :KEPT].reshape(-1, KEPT * KEPT)
        parts.append(np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1).view(">u8")[:, 0])
    return np.concatenate(parts).astype(np.uint64) if parts else np.empty(0, np.uint64)


def near_pairs(small: np.ndarray, hashes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pairs of near-duplicates among ``rows``, int64 (P, 2).

    Only images that share one of the four 16-bit words of the hash are compared. No pair is missed whose hashes differ
    in at most three bits.
    """
    rows = rows[small[rows].reshape(len(rows), -1).std(axis=1) >= LEAST_CONTRAST]
    keys = [np.empty(0, np.int64)]  # each pair as one number, to remove repetitions between words
    for bucket in _buckets(hashes, rows):
        for start in range(0, len(bucket), _BLOCK):
            part, rest = bucket[start : start + _BLOCK], bucket[start:]
            first, second = np.nonzero(np.bitwise_count(hashes[part][:, None] ^ hashes[rest][None]) <= MOST_BITS)
            ends = np.stack([part[first], rest[second]])[:, first < second]
            keys.append(ends.min(axis=0) * len(small) + ends.max(axis=0))
    pairs = np.stack(np.divmod(np.unique(np.concatenate(keys)), len(small)), axis=1)
    blocks = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
    correlation = np.concatenate([np.empty(0), *(_correlation(small[b[:, 0]], small[b[:, 1]]) for b in blocks)])
    return np.asarray(pairs[correlation >= LEAST_CORRELATION])


def _buckets(hashes: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows that share a word of the hash, for each of the four words and each value."""
    for shift in (0, 16, 32, 48):
        words = (hashes[rows] >> np.uint64(shift)) & np.uint64(0xFFFF)
        order = np.argsort(words, kind="stable")
        bounds = np.flatnonzero(np.diff(words[order])) + 1
        yield from (rows[part] for part in np.split(order, bounds) if len(part) > 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of each pair of thumbnails, uint8 (P, S, S): float64 (P,)."""
    x, y = (part.reshape(len(part), -1).astype(np.float32) for part in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / np.maximum(norms, 1e-9), np.float64)


def groups_of(pairs: np.ndarray) -> list[np.ndarray]:
    """Connected groups of rows, int64, one array per group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    return [rows[labels == label] for label in range(labels.max() + 1)] if len(rows) else []


def content(
    images: Images, small: np.ndarray, sides: np.ndarray | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Find images with little content: kind → (rows, a score from 0, the worst, to 1 for each).

    - ``constant``: all pixels are equal.
    - ``dark``: 99 % of the grey pixels are below DARK of 255; the score is that percentile.
    - ``bright``: 99 % are above BRIGHT; the score is the distance of that percentile from white.
    - ``blurred``: the standard deviation of the Laplacian is below BLURRED times that of the image. ``sides`` has the
      shorter side of each image before resizing, so that enlarged images are not reported as blurred.
    """
    n, start = len(images), 0
    constant, sharpness = np.zeros(n, bool), np.empty(n)
    each = iter(images)
    while some := list(itertools.islice(each, 256)):
        block = np.stack(some)
        part = slice(start, start := start + len(block))
        constant[part] = (block == block[:, :1, :1]).all(axis=(1, 2, 3))
        grey = sum(block[..., c].astype(np.float32) for c in range(block.shape[3])) / block.shape[3]
        sharpness[part] = _sharpness(grey)
        own = np.full(len(block), min(grey.shape[1:])) if sides is None else sides[part]
        for row in np.flatnonzero(own < min(grey.shape[1:])):
            sharpness[part][row] = _sharpness(_shrunk(grey[row], int(own[row]))[None])[0]
    low, high = _percentiles(small, (1, 99))
    contrast = small.reshape(n, -1).std(axis=1) if n else np.empty(0)
    kinds = {
        "constant": (constant, np.zeros(n)),
        "dark": (~constant & (high < DARK), high / 255),
        "bright": (~constant & (low > BRIGHT), 1 - low / 255),
        "blurred": (~constant & (contrast >= LEAST_CONTRAST) & (sharpness < BLURRED), sharpness),
    }
    return {kind: (np.flatnonzero(rows), np.clip(score[rows], 0, 1)) for kind, (rows, score) in kinds.items()}


def _percentiles(small: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """Percentiles of the pixels of each thumbnail: float64 (len(wanted), N)."""
    blocks = (small[start : start + _BLOCK].reshape(-1, SIDE * SIDE) for start in range(0, len(small), _BLOCK))
    return np.concatenate([np.empty((len(wanted), 0)), *(np.percentile(b, wanted, axis=1) for b in blocks)], axis=1)


def _sharpness(grey: np.ndarray) -> np.ndarray:
    """The standard deviation of the Laplacian divided by that of the image, float32 (n, H, W): (n,)."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    laplacian = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] - 4 * grey
    return np.asarray(laplacian.std(axis=(1, 2)) / np.maximum(grey.std(axis=(1, 2)), 1e-9))


def _shrunk(grey: np.ndarray, side: int) -> np.ndarray:
    """Reduce an enlarged image, float32 (H, W), to its original size."""
    height, width = (max(1, round(length * side / min(grey.shape))) for length in grey.shape)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.LANCZOS))


def outliers(z: np.ndarray, *, k: int = 5, factor: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Find outliers: rows, int64, and scores, from 1 for typical rows towards 0 for distant ones.

    A row is an outlier if the distance to its k-th nearest row (Ramaswamy et al., SIGMOD 2000) exceeds the third
    quartile of all such distances by ``factor`` interquartile ranges. With k above 1, this also finds pairs of outliers
    that are near each other.
    """
    distances = nearest(z, k)[0][:, -1]
    low, high = np.percentile(distances, [25, 75])
    limit = high + factor * (high - low)
    far = np.flatnonzero(distances > limit)
    order = far[np.argsort(-distances[far], kind="stable")]
    return order, np.clip(limit / np.maximum(distances[order], 1e-12), 0, 1)


def doubted_labels(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find labels that contradict out-of-sample probabilities, by confident learning (Northcutt et al. 2021, eq. 1, 2).

    t_j is the mean probability of class j over the rows labelled j. A row labelled i is counted for class j, the most
    probable of the classes with p_j ≥ t_j. Its label is doubtful if j ≠ i. Returns the rows with doubtful labels,
    int64, the most doubtful first; the class for which each is counted; and the probability of its label as a score.
    """
    thresholds = np.array([probabilities[labels == label, label].mean() for label in range(probabilities.shape[1])])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.argmax(axis=1)
    doubted = np.flatnonzero((confident.max(axis=1) >= 0) & (counted != labels))
    own = probabilities[np.arange(len(labels)), labels]
    order = doubted[np.argsort(own[doubted], kind="stable")]
    return order, counted[order], own[order]


def cross_validated(z: np.ndarray, labels: np.ndarray, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Cross-validated softmax probabilities, float64 (N, C): each row is predicted by a probe trained without it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    division = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(probe, z, labels, cv=division, method="predict_proba"))
