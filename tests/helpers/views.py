"""A view of artificial images, with names that contain scripts."""

from __future__ import annotations

import numpy as np

from softvq_cli.plots.page import Codebook, Number, View

HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "$$\\frac{1}{2}$$ \u202eright-to-left",
)


def view(n: int = 120, seed: int = 0, **changes) -> View:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = random.integers(0, 256, (n, 6, 5, 3)).astype(np.uint8)
    values = {
        "title": "</script><script>window.hacked=1</script>",
        "numbers": [Number("clustering accuracy", 0.5, "share"), Number("NMI", 0.25)],
        "facts": {"data": {HOSTILE[0]: HOSTILE[1]}},
        "again": "softvq run --data '<b>'",
        "notes": ["<b>a note</b>"],
        "rows": np.arange(n) * 2,
        "images": images,
        "reconstructions": 255 - images,
        "errors": random.uniform(size=n),
        "neighbours": np.stack([(np.arange(n) + step) % n for step in (1, 2, 3)], axis=1),
        "distances": np.tile([0.5, 1.0, 1.5], (n, 1)),
        "groups": {"exact_duplicates": [[0, 1], [4, 7, 8]], "leaks": []},
        "suspects": {"dark": [], "outliers": [(5, "0.5")], "doubted_labels": [(6, HOSTILE[1])]},
        "baselines": {"chance": [Number("clustering accuracy", 0.1, "share")]},
        "clusters": np.arange(n) % 4,
        "centre_distances": random.uniform(size=n),
        "coordinates": random.normal(size=(n, 2)) * 30,
        "labels": labels,
        "class_names": HOSTILE,
        "predicted": (labels + (np.arange(n) % 10 == 0)) % 3,
        "file_names": [f"{HOSTILE[i % 3]}/{i}.png" for i in range(n)],
        "codewords": np.arange(n) % 5,
        "codeword_distances": random.uniform(size=n),
        "codebook": Codebook(
            images=images[:6],
            numbers=np.arange(6),
            usage=np.array([0.3, 0.2, 0.2, 0.2, 0.1, 0.0]),
            counts=np.bincount(np.arange(n) % 5, minlength=6),
            size=6,
            sigma=np.linspace(0.1, 0.6, 6),
        ),
        "curves": [{"step": step, "loss": 1 / step, "nmse": 2 / step, "test_nmse": 3 / step} for step in (5, 10, 200)],
    }
    return View(**{**values, **changes})
