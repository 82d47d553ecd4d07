"""Evaluation with different numbers of threads, on idle and on busy cores, in new processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from benchmarks.evaluation import CLASSES, latents
from benchmarks.load import PLAIN, busy, counts_of, variables_of
from benchmarks.models import SHAPES, session
from benchmarks.setting import Setting
from benchmarks.timing import in_new_process, table
from softvq_cli.devices import pick
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.evaluation.probe import probe
from softvq_cli.evaluation.tsne import tsne
from softvq_cli.model import represent

Task = Callable[[], Any]


def section(setting: Setting) -> str:
    cores = joblib.cpu_count()
    programs = (0,) if setting.quick else tuple(sorted({0, 1, cores}))
    found: dict[tuple[str, int], list[str]] = {}
    for count in programs:
        with busy(count):
            for threads in [1] if setting.quick else [*counts_of(cores), PLAIN]:
                for task, times in _measured(threads, setting).items():
                    wall, processor = np.median(times, axis=0)
                    found.setdefault((task, threads), []).append(f"{wall:.2f} ({processor:.2f})")
    header = ["", *(f"{count} busy programs" for count in programs)]
    blocks = [
        "## Evaluation and its threads",
        "",
        f"Seconds of wall time (of processor time); {cores} cores, medians of {setting.rounds} processes.",
        "",
        table(header, ([_name(*key), *cells] for key, cells in sorted(found.items()))),
    ]
    return "\n".join(blocks)


def _name(task: str, threads: int) -> str:
    return f"{task}, " + ("libraries as they are" if threads == PLAIN else f"{threads} thread{'s' * (threads > 1)}")


def _measured(threads: int, setting: Setting) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) seconds of each task in each round."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(1 if setting.quick else setting.rounds):
        if setting.quick:
            times = seconds(threads, quick=True)  # starting a process would take seconds
        else:
            variables = variables_of(threads) | ({} if threads == PLAIN else {"OMP_NUM_THREADS": str(threads)})
            times = in_new_process(seconds, threads, variables=variables)
        for task, pair in times.items():
            found.setdefault(task, []).append(pair)
    return found


def seconds(threads: int, *, quick: bool = False) -> dict[str, tuple[float, float]]:
    """(wall, processor) seconds of each task in this process, when it runs for the second time."""
    torch.manual_seed(0)
    found = {}
    for name, task in tasks(threads, quick=quick).items():
        task()
        wall, processor = time.perf_counter(), time.process_time()
        task()
        found[name] = time.perf_counter() - wall, time.process_time() - processor
    return found


def tasks(threads: int, *, quick: bool) -> Mapping[str, Task]:
    """The measured tasks by name; some are those of other libraries."""
    (z, labels), size = latents(300 if quick else 3000, 8 if quick else 64), 10 if quick else 2000
    setting, random = Setting(quick, 1, threads, "wall", pick("cpu")), np.random.default_rng(0)
    embeds: dict[str, Task] = {}
    for data, network, times in (("mnist", "MLP", 5), ("svhn", "CNN", 1)):
        model = session(data, setting).model.eval()
        images = random.integers(0, 256, (times * size, *SHAPES[data]), dtype=np.uint8)
        embeds[f"embed, {network}, {len(images)} images"] = lambda model=model, images=images: represent(model, images)
    starts, rows = (2, z[:100]) if quick else (20, z[:500])
    own: dict[str, Task] = {
        f"probe, {z.shape[0]} × {z.shape[1]}": lambda: probe(z, labels, z, labels),
        f"K-means, {starts} starts": lambda: cluster(z, clusters=CLASSES, n_init=starts),
        f"t-SNE, {len(rows)} rows": lambda: tsne(rows),
    }
    if threads == PLAIN:
        peers: tuple[Task, Task] = (
            lambda: LogisticRegression(C=np.inf, max_iter=2000).fit(z, labels).predict(z),
            lambda: KMeans(CLASSES, n_init=starts, random_state=0).fit(z),
        )
        own = dict(zip(own, peers, strict=False))  # openTSNE uses one thread by default
    return embeds | own
