"""Public calls in two threads at once give the results of one thread and do not change the state of the process."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.base import clone
from threadpoolctl import threadpool_info

import softvq_cli
from softvq_cli import AutoencoderEmbedder, KMeansManyStarts, layers
from softvq_cli.evaluation import clustering, probe, search
from softvq_cli.evaluation.tsne import tsne
from softvq_cli.plots import images as pictures
from softvq_cli.training import train
from tests.helpers import blobs, encoded, plain
from tests.helpers import train as trained

IMAGES = blobs(40).images
ROWS = IMAGES.reshape(len(IMAGES), -1).astype(np.float32)
LABELS = np.arange(len(ROWS)) % 3
SETTINGS = {"iterations": 4, "batch_size": 8, "latent_dim": 2, "K": 3}


def process() -> dict[str, Any]:
    """The process-wide state, and the number of PyTorch threads in a new thread."""
    status = Path("/proc/self/status")
    with ThreadPoolExecutor(1) as new:
        threads = new.submit(torch.get_num_threads).result()
    return {
        "threads": (torch.get_num_threads(), threads, torch.get_num_interop_threads()),
        "pools": sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info()),
        "torch": torch.get_rng_state().tolist(),
        "modes": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
        "tf32": (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32),
        "numpy": str(np.random.get_state()) + str(np.geterr()),
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "logging": (logging.root.manager.disable, logging.root.level, logging.getLogger("openTSNE").level),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "mask": [line for line in status.read_text().splitlines() if "Umask" in line] if status.exists() else [],
        "matplotlib": dict(mpl.rcParams),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    np.savez(folder / "blobs.npz", images=IMAGES, labels=LABELS)
    (folder / "a.png").write_bytes(encoded(IMAGES[0, ..., 0]))
    return trained(folder / "blobs.npz", folder / "run", iterations=4)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Simulate two cores, so that another number of threads would be noticed."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def embedder(**more: Any) -> AutoencoderEmbedder:
    return AutoencoderEmbedder(device="cpu", **SETTINGS | more)


def layer(name: str, training: bool) -> Any:
    """Draws its weights and noise from the global generator, as PyTorch modules do."""
    made = getattr(layers, name)(2, **{} if name == "FSQ" else {"K": 3})
    for weights in made.parameters():
        torch.nn.init.constant_(weights, 0.5)
    made.start(torch.from_numpy(ROWS[:, :2]))
    return made.train(training)


FITTED = embedder()
KMEANS = KMeansManyStarts(3, n_init=4)
CALLS: dict[str, Callable[[Path, Path], Any]] = {
    "load": lambda run, out: softvq_cli.load(run / "ckpt.pt").model.state_dict(),
    "embed, a path": lambda run, out: softvq_cli.embed(run / "ckpt.pt", IMAGES),
    "embed, files": lambda run, out: softvq_cli.embed(run / "ckpt.pt", [run.parent / "a.png"], "reconstruction"),
    "fit": lambda run, out: plain(embedder().fit(ROWS).model_.state_dict()),
    "fit, two threads": lambda run, out: plain(embedder(settings={"threads": 2}).fit(ROWS).model_.state_dict()),
    "fit, K-means start": lambda run, out: embedder(settings={"codebook_init": "kmeans"}).fit(IMAGES).transform(IMAGES),
    "partial_fit": lambda run, out: embedder().partial_fit(ROWS).partial_fit(ROWS).transform(ROWS),
    "fit_transform": lambda run, out: embedder(bottleneck="vae").fit_transform(IMAGES),
    "transform": lambda run, out: FITTED.transform(ROWS),
    "reconstruct": lambda run, out: FITTED.reconstruct(ROWS),
    "inverse_transform": lambda run, out: FITTED.inverse_transform(ROWS[:, :2]),
    "score": lambda run, out: FITTED.score(ROWS),
    "save and load": lambda run, out: (FITTED.save(out / "e.pt"), AutoencoderEmbedder.load(out / "e.pt").history_[-1:]),
    "clone": lambda run, out: repr(clone(FITTED)),
    "KMeansManyStarts": lambda run, out: KMeansManyStarts(3, n_init=4).fit(ROWS).inertias_,
    "KMeansManyStarts.predict": lambda run, out: KMEANS.predict(ROWS),
    **{
        f"layers.{name}": lambda run, out, name=name: LAYERS[name](torch.from_numpy(ROWS[:, :2]))
        for name in layers.__all__
        if name != "Quantised"
    },
    "train": lambda run, out: plain(
        softvq_cli.load(
            train({"data": str(run.parent / "blobs.npz"), **SETTINGS}, out=out / "run", device="cpu").path
        ).model.state_dict()
    ),
    "cluster": lambda run, out: [
        clustering.cluster(ROWS[:, :4], clusters=3, n_init=4, method=name).assignments for name in ("kmeans", "gmm")
    ],
    "probe": lambda run, out: probe.probe(ROWS[:, :4], LABELS, ROWS[:, :4], LABELS),
    "probe, Adam": lambda run, out: probe.probe(ROWS, LABELS, ROWS, LABELS, solver="adam", iterations=20),
    "nearest": lambda run, out: search.nearest(ROWS, 3),
    "tsne": lambda run, out: tsne(ROWS, perplexity=3),
}
LAYERS: dict[str, Any] = {}


def comparable(value: Any) -> Any:
    """With ``==``: arrays and tensors by their bytes, objects by their fields."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value).tobytes()
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in value.items() if name not in ("seconds", "steps_per_second")}
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    return comparable(vars(value)) if hasattr(value, "__dataclass_fields__") else value


@pytest.fixture(scope="module", autouse=True)
def fitted() -> None:
    FITTED.fit(ROWS)
    KMEANS.fit(ROWS)
    LAYERS.update({name: layer(name, False) for name in layers.__all__ if name != "Quantised"})


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_two_threads_is_as_in_one_and_changes_nothing(name: str, run: Path, tmp_path: Path) -> None:
    def call(number: int) -> Any:
        out = tmp_path / str(number)
        out.mkdir()
        return comparable(CALLS[name](run, out))

    alone = call(0)
    before = process()
    ready = threading.Barrier(2)

    def together(number: int) -> Any:
        ready.wait()
        return call(number)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(together, (1, 2)))
    after = process()
    assert [part for part in before if before[part] != after[part]] == []
    assert results == [alone] * 2


def test_all_calls_at_once(run: Path, tmp_path: Path) -> None:
    """A thread that starts while another works must not take its settings for those of the process."""

    def call(number: int) -> Any:
        out = tmp_path / str(number)
        out.mkdir()
        return comparable(CALLS[order[number % len(order)]](run, out))

    order = sorted(CALLS)
    random.Random(0).shuffle(order)
    alone = [call(number) for number in range(len(order))]
    before = process()
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(call, range(len(order), 2 * len(order))))
    assert results == alone
    after = process()
    assert [part for part in before if before[part] != after[part]] == []


def test_pictures_are_drawn_one_after_the_other(tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        pictures.reconstructions(tmp_path / f"{number}.png", IMAGES[:4], IMAGES[4:8])
        return (tmp_path / f"{number}.png").read_bytes()

    alone, before = draw(0), process()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(draw, range(1, 5))) == [alone] * 4
    assert process() == before
