"""What a codebook is used for, and what its centroids look like."""

from __future__ import annotations

import os

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.plots import style
from softvq_cli.plots.reconstructions import as_pixels, show, tiles


def usage(path: str | os.PathLike[str], counts: np.ndarray, *, dead: int | None = None) -> None:
    """Draw how often each code is used, the most used first, with the perplexity and the number of dead codes.

    Args:
        path: ends in .png, .pdf or .svg.
        counts: (K,), numbers of images, or sums of posterior probabilities; not negative, not all zero.
        dead: codes that are the most probable one for no image, where ``counts`` does not tell.

    Raises:
        InputError: other counts.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not counts.sum() > 0 or counts.min() < 0:
        raise InputError("the usage of a codebook is one count a code, not negative and not all zero")
    p = np.sort(counts)[::-1] / counts.sum()
    used = p[p > 0]
    perplexity = float(np.exp(-(used * np.log(used)).sum()))
    with style.figure(path, style.COLUMN_WIDTH, 2.2) as drawing:
        axis = drawing.subplots()
        axis.bar(np.arange(1, len(p) + 1), p, width=0.8 if len(p) <= 200 else 1.0, color=style.ACCENT, linewidth=0)
        axis.axhline(1 / len(p), color=style.NEUTRAL, linewidth=0.8, linestyle="--", label=f"uniform, 1/{len(p)}")
        axis.plot([], [], " ", label=f"perplexity {perplexity:.1f} of {len(p)}")
        unused = f"codes never used: {len(p) - len(used)}" if dead is None else f"of no image the most probable: {dead}"
        axis.plot([], [], " ", label=unused)
        share = "share of the images" if dead is None else "mean posterior"
        axis.set(xlabel="code, by use", ylabel=share, xlim=(0.2, len(p) + 0.8))
        axis.grid()
        axis.legend(handlelength=1.6)


def centroids(path: str | os.PathLike[str], images: np.ndarray, counts: np.ndarray | None = None) -> None:
    """Draw what the decoder makes of each centroid, the most used first.

    Args:
        path: ends in .png, .pdf or .svg.
        images: (K, H, W, C), uint8, or floats in [0, 1].
        counts: (K,), to sort by; in the codebook's order unless given.

    Raises:
        InputError: other shapes.
        UsageError: another suffix.
        SoftVQError: the file cannot be written.
    """
    pixels = as_pixels(images)
    if counts is not None:
        if np.shape(counts) != (len(pixels),):
            raise InputError(f"{np.shape(counts)} counts for {len(pixels)} centroids")
        pixels = pixels[np.argsort(-np.asarray(counts), kind="stable")]
    columns = min(len(pixels), int(np.ceil(np.sqrt(2 * len(pixels)))))
    image = tiles(pixels, columns)
    width = style.TEXT_WIDTH * min(1, columns / 12)
    with style.figure(path, width, width * image.shape[0] / image.shape[1]) as drawing:
        show(drawing.subplots(), image)
