"""Many steps in one piece, the form that a CUDA graph captures, against one step at a time."""

from __future__ import annotations

import pytest
import torch

from softvq_cli.config import resolve
from softvq_cli.training.chunk import Chunk
from softvq_cli.training.session import Session
from softvq_cli.words import BOTTLENECKS
from tests.conftest import blobs

SETTINGS = {"latent_dim": 4, "K": 6, "batch_size": 16, "noise_std": 0.1, "log_every": 20}


def session(bottleneck: str, device: str = "cpu") -> Session:
    dataset = blobs(120)
    config = resolve("blobs", dataset.image_shape, {**SETTINGS, "bottleneck": bottleneck})
    return Session(config, dataset, dataset, torch.device(device))


def assert_same_weights(a: Session, b: Session, **tolerance: float) -> None:
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, msg=lambda text, name=name: f"{name}: {text}", **tolerance)  # type: ignore[misc]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_chunk_equals_its_steps_one_by_one(bottleneck: str) -> None:
    single, chunked = session(bottleneck), session(bottleneck)
    for _ in range(10):
        single.advance()
    chunk = Chunk(chunked, steps=5)
    for _ in range(2):
        chunk.run()
        chunked.step += 5
    assert_same_weights(single, chunked, rtol=0, atol=0)
    assert single.report() == pytest.approx(chunked.report(), rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_captured_chunk_equals_eager_steps_on_the_gpu(bottleneck: str) -> None:
    eager, captured = session(bottleneck, "cuda"), session(bottleneck, "cuda")
    for _ in range(10):
        eager.advance()
    chunk = Chunk(captured, steps=5)
    for _ in range(2):
        chunk.run()
        captured.step += 5
    # Adam's first steps have the length lr whatever the gradient: one near zero whose sign the order of a sum decides
    # moves its weight by a few times 3e-4.
    assert_same_weights(eager, captured, rtol=1e-4, atol=3e-3)
    assert eager.report() == pytest.approx(captured.report(), rel=1e-3)
