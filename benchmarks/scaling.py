"""How the cost grows with the number of images, d, K and the image size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.evaluation import CLASSES, latents
from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, table
from softvq_cli.evaluation import tsne
from softvq_cli.evaluation.clustering import cluster

Run = Callable[[], object]


def section(setting: Setting) -> str:
    """Each line is a series of sizes, measured alternately."""
    quick = setting.quick
    batch = 8 if quick else 32

    def step(**chosen: object) -> Run:
        take = training(session("mnist", setting, batch_size=batch, **chosen))
        return lambda: take(2)

    def images(side: int) -> Run:
        take = training(session("svhn", setting, shape=(side, side, 3), batch_size=batch))
        return lambda: take(2)

    def starts(n: int, d: int) -> Run:
        z, _ = latents(n, d)
        return lambda: cluster(z, clusters=CLASSES, n_init=4, jobs=setting.threads)

    def a_map(n: int) -> Run:
        z, _ = latents(100 if quick else n, 16)
        return lambda: tsne.tsne(z, jobs=setting.threads)

    blocks = ["## How cost grows", ""]
    series: Iterable[tuple[str, str, Callable[[int], Run], tuple[int, ...], int, int]] = (
        ("Training step, soft-vq MLP", "K", lambda K: step(K=K), (32, 128, 512, 2048, 8192), 2, setting.rounds),
        ("Training step, soft-vq MLP", "d", lambda d: step(latent_dim=d), (16, 64, 256, 1024), 2, setting.rounds),
        ("Training step, soft-vq CNN", "pixels per side", images, (16, 32, 64, 128), 2, min(setting.rounds, 5)),
        ("One K-means start, d = 64", "N", lambda n: starts(n, 64), (1000, 4000, 16_000, 64_000), 4, 3),
        ("One K-means start, N = 10 000", "d", lambda d: starts(10_000, d), (16, 64, 256, 1024), 4, 3),
        ("t-SNE", "N", a_map, (1000, 4000, 16_000), 1, 1),
    )
    for what, name, run, sizes, count, rounds in series:
        kept = sizes[:1] if quick else sizes
        seconds = in_turn({str(size): run(size) for size in kept}, rounds, setting.clock)
        cells = [f"{np.median(own) / count * 1e3:.4g}" for own in seconds.values()]
        blocks += [table([f"{what}; {name} =", *map(str, kept)], [["ms", *cells]]), ""]
    return "\n".join(blocks).rstrip()
