"""A session without the training loop; its Adam is compared with PyTorch's, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from softvq_cli.config import resolve
from softvq_cli.errors import UsageError
from softvq_cli.training.session import Adam, Session
from softvq_cli.words import BOTTLENECKS
from tests.helpers import blobs


def session(n: int = 120, note: Callable[[str], None] = pytest.fail, **settings: object) -> Session:
    dataset = blobs(n)
    chosen = {"bottleneck": "vq", "latent_dim": 4, "K": 6, "batch_size": 16, **settings}
    return Session(resolve("blobs", dataset.image_shape, chosen), dataset, dataset, torch.device("cpu"), note)


def test_a_codebook_may_begin_at_a_kmeans_of_the_first_batches() -> None:
    plain, placed = session(), session(codebook_init="kmeans")
    for name, weights in plain.model.state_dict().items():
        assert torch.equal(weights, placed.model.state_dict()[name]) == (name != "bottleneck.codebook")
    rows = torch.cat([placed.batches.indices(step) for step in range(3)])  # 8 encodings a codeword
    images = blobs(120).images[rows.numpy()]
    with torch.no_grad():
        z_e = torch.cat([plain.model.encode(x)[0] for x in plain.model.batches(images)])
    centres = placed.model.bottleneck.codebook.detach()
    distances, nearest = torch.cdist(z_e, centres).min(1)
    assert len(nearest.unique()) == 6
    for k in range(6):
        torch.testing.assert_close(z_e[nearest == k].mean(0), centres[k], rtol=1e-4, atol=1e-6)
    assert distances.mean() < 0.3 * torch.cdist(z_e, plain.model.bottleneck.codebook).min(1)[0].mean()
    again, other = session(codebook_init="kmeans"), session(codebook_init="kmeans", seed=1)
    assert torch.equal(again.model.bottleneck.codebook, placed.model.bottleneck.codebook)
    assert not torch.equal(other.model.bottleneck.codebook, placed.model.bottleneck.codebook)


def test_a_kmeans_start_needs_an_image_a_codeword() -> None:
    with pytest.raises(UsageError) as refused:
        session(20, K=21, codebook_init="kmeans")
    assert "codebook_init" in refused.value.settings
    session(20, K=20, codebook_init="kmeans")


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_compiled_steps_have_the_losses_of_eager_steps(bottleneck: str) -> None:
    settings = {"bottleneck": bottleneck, "latent_dim": 6, "noise_std": 0.1 if bottleneck == "soft-vq" else 0.0}
    eager, compiled = session(**settings), session(note=pytest.skip, compile=True, **settings)
    for step in range(5):
        expected, losses = (each.optimise(each.source.batch(step)).row() for each in (eager, compiled))
        torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-5)


def test_adam_takes_the_steps_of_pytorchs_fused_adam_and_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    shapes = (torch.randn(50, 30), torch.randn(7, 3, 3, 3).contiguous(memory_format=torch.channels_last), torch.ones(5))
    ours, theirs = ([weight.clone().requires_grad_() for weight in shapes] for _ in range(2))
    adam, reference = Adam(ours, 3e-4), torch.optim.Adam(theirs, lr=3e-4, fused=True)
    for step in range(20):
        for x, y in zip(ours, theirs, strict=True):
            x.grad = None if step < 3 and x.dim() == 1 else torch.randn_like(x)
            y.grad = None if x.grad is None else x.grad.clone()
        adam.step()
        reference.step()
        if step == 10:
            # As in a file that was written on another device: the moments of convolutions lie otherwise in memory.
            state = {
                number: {name: value.contiguous() for name, value in moments.items()}
                for number, moments in adam.state_dict()["state"].items()
            }
            assert state[1]["exp_avg"].stride() != shapes[1].stride()
            adam = Adam(ours, 3e-4)
            adam.load_state(state)
    for x, y in zip(ours, theirs, strict=True):
        assert torch.equal(x, y)
        assert all(torch.equal(adam.state[x][name], reference.state[y][name]) for name in reference.state[y])
    assert adam.state_dict()["state"].keys() == reference.state_dict()["state"].keys()


def test_a_training_on_digits_needs_neither_the_compiler_nor_scikit_learn(tmp_path: Path) -> None:
    script = f"""
import sys
from softvq_cli.training import train
train({{"iterations": 2}}, out=__import__("pathlib").Path({str(tmp_path / "run")!r}), device="cpu")
assert not {{"torch._dynamo", "sklearn"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
