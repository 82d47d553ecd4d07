"""Clustering, probe and map compared with other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from benchmarks.setting import Setting
from benchmarks.timing import in_turn, ratio, table
from softvq_cli.evaluation import quality, tsne
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.evaluation.probe import probe

Run = Callable[[], Any]
CLASSES = 10


def latents(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, d) and int64 (n,): ten overlapping classes in eight directions of unequal variance, with noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, n)
    within = min(d, 8)
    inner = random.normal(0, 1.2, (CLASSES, within))[labels] + random.normal(size=(n, within))
    outer = inner @ random.normal(size=(within, d)) + 0.3 * random.normal(size=(n, d))
    return outer.astype(np.float32), labels


def clustering_section(setting: Setting) -> str:
    rounds = min(setting.rounds, 5)
    blocks = ["## Clustering", "", f"Gaussian classes; medians of {rounds} rounds in turn."]
    for n, d in ((300, 8),) if setting.quick else ((10_000, 64), (26_032, 256)):
        blocks += ["", f"### 100 K-means starts, {n} × {d}", "", _clustering(setting, n, d, rounds)]
    return "\n".join(blocks)


def probe_section(setting: Setting) -> str:
    n, d = (300, 8) if setting.quick else (60_000, 64)
    z, labels = latents(n + n // 6, d)
    train, test = (z[:n], labels[:n]), (z[n:], labels[n:])
    runs: dict[str, Run] = {
        "softvq probe": lambda: probe(*train, *test).accuracy,
        "scikit-learn's LogisticRegression": lambda: LogisticRegression(max_iter=2000).fit(*train).score(*test),
    }
    compared = _compare(runs, min(setting.rounds, 5), setting, "test accuracy", "{:.4f}")
    return f"## Softmax probe, {n} × {d}\n\n{compared}"


def tsne_section(setting: Setting) -> str:
    """One run each: openTSNE with both gradient methods; softvq chooses the faster one by N."""
    import openTSNE

    n, d = (100, 8) if setting.quick else (10_000, 64)
    z, _ = latents(n, d)
    chosen = "fft" if n >= tsne.FFT_FROM else "bh"
    runs: dict[str, Run] = {
        f"softvq tsne ({chosen})": lambda: tsne.tsne(z, jobs=setting.threads),
        **{
            f"openTSNE, {method}": lambda method=method: openTSNE.TSNE(
                negative_gradient_method=method, n_jobs=setting.threads, random_state=0
            ).fit(z)
            for method in (("bh",) if setting.quick else ("bh", "fft"))
        },
    }

    def kept(points: Any) -> float:
        return quality.map_quality(z, points).knn_recall

    return f"## t-SNE, {n} × {d}\n\n" + _compare(runs, 1, setting, "neighbours kept", "{:.3f}", kept)


def _clustering(setting: Setting, n: int, d: int, rounds: int) -> str:
    z, _ = latents(n, d)
    starts = 3 if setting.quick else 100
    runs: dict[str, Run] = {
        "softvq cluster": lambda: cluster(z, clusters=CLASSES, n_init=starts, jobs=setting.threads).inertia,
        "scikit-learn's KMeans": lambda: KMeans(CLASSES, n_init=starts, random_state=0).fit(z).inertia_,
        **_faiss(z, starts),
    }
    return _compare(runs, rounds, setting, "inertia", "{:.6g}") + (
        "" if len(runs) > 2 else "\n\nNot measured: faiss is not installed."
    )


def _faiss(z: np.ndarray, starts: int) -> dict[str, Run]:
    """faiss's K-means with its own initial centres, 25 iterations on all rows, without early stopping."""
    try:
        import faiss
    except ImportError:
        return {}

    def run() -> float:
        found = faiss.Kmeans(z.shape[1], CLASSES, niter=25, nredo=starts, seed=1, max_points_per_centroid=len(z))
        found.train(z)
        return float(found.index.search(z, 1)[0].sum())

    return {"faiss.Kmeans, 25 iterations": run}


def _compare(
    runs: dict[str, Run],
    rounds: int,
    setting: Setting,
    what: str,
    form: str,
    measure: Callable[[Any], float] = float,
) -> str:
    """Compare the runs; that of softvq is the first."""
    results: dict[str, Any] = {}

    def keep(name: str) -> Callable[[], None]:
        return lambda: results.update({name: runs[name]()})

    seconds = in_turn({name: keep(name) for name in runs}, rounds, setting.clock)
    ours = next(iter(seconds.values()))
    rows = [
        [name, f"{np.median(own):.3g}", ratio(own, ours), form.format(measure(results[name]))]
        for name, own in seconds.items()
    ]
    return table(["", "s", "times softvq's", what], rows)
