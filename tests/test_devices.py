"""The number of threads for evaluation, and how a process treats freed memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 (loads SciPy's OpenBLAS)
from threadpoolctl import threadpool_info, threadpool_limits

from softvq_cli.devices import evaluation_threads, processors
from softvq_cli.evaluation import clustering, probe, quality, tsne

# ---- threads

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COUNTS = """
import os
import joblib
if hasattr(os, "sched_setaffinity") and "ONE_CORE" in os.environ:
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import torch
from softvq_cli.devices import inference, pick, processors
alone = torch.get_num_threads()  # PyTorch counts cores, or processors, as its OpenMP does
with inference(pick("cpu")):
    taken = torch.get_num_threads()
most = alone if "OMP_NUM_THREADS" in os.environ else min(alone, joblib.cpu_count())
print(processors(), processors(1), processors(10**6), int(taken == most and torch.get_num_threads() == alone))
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, [CORES, 1, CORES, 1]),
        ({"OMP_NUM_THREADS": "1"}, [1, 1, CORES, 1]),
        ({"OMP_NUM_THREADS": "1,4"}, [1, 1, CORES, 1]),
        ({"ONE_CORE": "yes"}, [1, 1, 1, 1]),
        ({"LOKY_MAX_CPU_COUNT": "1"}, [1, 1, 1, 1]),  # joblib takes the smaller of it and the container's limit
    ],
)
@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere a process has no affinity of its own")
def test_evaluation_takes_what_the_user_says_and_never_more_than_there_are(environment, expected):
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")}
    words = [sys.executable, "-c", COUNTS]
    done = subprocess.run(words, env=plain | environment, check=True, capture_output=True, text=True)
    assert list(map(int, done.stdout.split())) == expected


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_products_take_one_thread_within_evaluation_and_as_many_as_before_after_it():
    with threadpool_limits(2):
        if blas_threads() != {2}:
            pytest.skip("this BLAS has no threads to be set")
        with evaluation_threads() as count:
            assert blas_threads() == {1}
            assert count == processors()
        assert blas_threads() == {2}


ROWS = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
LABELS = np.arange(120) % 3


@pytest.mark.parametrize(
    ("module", "inner", "run"),
    [
        (probe, "fit_lbfgs", lambda: probe.probe(ROWS, LABELS, ROWS, LABELS)),
        (probe, "fit_lbfgs", lambda: probe.few_labels(ROWS, LABELS, ROWS, LABELS, labels_per_class=5, draws=1)),
        (clustering.kmeans, "run", lambda: clustering.cluster(ROWS, LABELS, n_init=1)),
        (clustering, "_by_other_method", lambda: clustering.cluster(ROWS, LABELS, n_init=1, method="gmm")),
        (clustering, "_silhouette", lambda: clustering.cluster(ROWS, clusters=3, n_init=1)),
        (tsne, "_initial", lambda: tsne.tsne(ROWS[:40], perplexity=3)),
        (quality, "_trustworthiness", lambda: quality.map_quality(ROWS, ROWS[:, :2])),
    ],
)
def test_every_evaluation_has_one_thread_a_product(module, inner, run, monkeypatch):
    """Its last digits are then the same for any number of processors, and no thread busy-waits."""
    seen, real = [], getattr(module, inner)
    monkeypatch.setattr(module, inner, lambda *args, **more: (seen.append(blas_threads()), real(*args, **more))[1])
    with threadpool_limits(2):
        run()
    assert seen
    assert seen[0] == {1}


# ---- memory

FAULTS = """
import resource, sys
import numpy as np
from softvq_cli.devices import keep_freed_memory
keep_freed_memory()
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.full(1 << 20, 1.0, np.float32) for _ in range(10)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.parametrize(("environment", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory_is_kept_unless_the_user_says_otherwise(environment, kept):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    words = [sys.executable, "-c", FAULTS]
    done = subprocess.run(words, env=plain | environment, check=True, capture_output=True, text=True)
    assert (int(done.stdout) < 100) == kept  # of the 10 240 pages that the blocks take
