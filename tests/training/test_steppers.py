"""Many steps together, as in a CUDA graph, compared with single steps."""

from __future__ import annotations

import copy

import pytest
import torch

from softvq_cli.config import resolve
from softvq_cli.training.batches import ResidentImages
from softvq_cli.training.checkpoint import restore
from softvq_cli.training.session import Session
from softvq_cli.training.steppers import EagerStepper, GraphStepper
from softvq_cli.words import BOTTLENECKS
from tests.helpers import blobs

SETTINGS = {"latent_dim": 4, "K": 6, "batch_size": 16, "noise_std": 0.1, "log_every": 20}


def session(bottleneck: str, device: str = "cpu") -> Session:
    dataset = blobs(120)
    config = resolve("blobs", dataset.image_shape, {**SETTINGS, "bottleneck": bottleneck})
    return Session(config, dataset, dataset, torch.device(device))


def take(stepper: EagerStepper | GraphStepper, steps: int) -> None:
    while steps:
        steps -= stepper.advance(steps)


def assert_same_weights(a: Session, b: Session, **tolerance: float) -> None:
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, msg=lambda text, name=name: f"{name}: {text}", **tolerance)  # type: ignore[misc]


def addresses(one: Session) -> list[int]:
    """Addresses of all tensors that live longer than a step, because a graph uses the addresses at its capture."""
    assert isinstance(one.source, ResidentImages)
    state = [*one.model.state_dict().values(), one.source.pixels]
    state += [value for moments in one.optimiser.state.values() for value in moments.values()]
    return [tensor.data_ptr() for tensor in state]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_steps_in_one_piece_equal_steps_one_by_one(bottleneck: str) -> None:
    single, whole = session(bottleneck), session(bottleneck)
    take(EagerStepper(single), 12)
    take(GraphStepper(whole, steps=5), 12)  # two pieces, and two steps by themselves
    assert single.step == whole.step == 12
    assert_same_weights(single, whole, rtol=0, atol=0)
    assert single.report() == pytest.approx(whole.report(), rel=1e-5)


def test_a_limit_below_the_piece_is_kept() -> None:
    steps = GraphStepper(session("soft-vq"), steps=5)
    assert [steps.advance(limit) for limit in (1, 4, 5, 9)] == [1, 1, 5, 5]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_restored_session_goes_on_in_pieces_whose_tensors_stay_where_they_are(bottleneck: str) -> None:
    whole, resumed = session(bottleneck), session(bottleneck)
    uninterrupted = GraphStepper(whole, steps=4)
    take(uninterrupted, 8)
    restore(resumed, 8, copy.deepcopy(whole.model.state_dict()), copy.deepcopy(whole.state_dict()))
    before = addresses(resumed)
    again = GraphStepper(resumed, steps=4)
    for _ in range(2):  # with a report in between, which may replace nothing either
        take(uninterrupted, 5)
        take(again, 5)
        assert whole.report() == resumed.report()
    assert addresses(resumed) == before
    assert_same_weights(whole, resumed, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_captured_steps_equal_eager_steps_on_the_gpu(bottleneck: str) -> None:
    eager, captured = session(bottleneck, "cuda"), session(bottleneck, "cuda")
    take(EagerStepper(eager), 10)
    take(GraphStepper(captured, steps=5), 10)
    # Adam's first steps have the length lr whatever the gradient: one near zero whose sign the order of a sum decides
    # moves its weight by a few times 3e-4.
    assert_same_weights(eager, captured, rtol=1e-4, atol=3e-3)
    assert eager.report() == pytest.approx(captured.report(), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_captured_after_a_restore_goes_on_on_the_gpu() -> None:
    whole, resumed = session("soft-vq", "cuda"), session("soft-vq", "cuda")
    uninterrupted = GraphStepper(whole, steps=5)
    take(uninterrupted, 10)
    restore(resumed, 10, copy.deepcopy(whole.model.state_dict()), copy.deepcopy(whole.state_dict()))
    take(uninterrupted, 10)
    take(GraphStepper(resumed, steps=5), 10)
    assert_same_weights(whole, resumed, rtol=1e-4, atol=3e-3)
