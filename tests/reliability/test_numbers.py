"""Numerical problems: bfloat16, losses that overflow, codebooks that collapse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from softvq_cli.model.bottlenecks.base import Output
from softvq_cli.model.bottlenecks.soft_vq import SoftVQ
from softvq_cli.model.bottlenecks.vae import VAE
from softvq_cli.reporter import Reporter
from softvq_cli.training import checkpoint, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import Zygote, softvq, state, temporaries, tiny
from tests.helpers import train as trained

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_bfloat16_from_training_to_embeddings(bottleneck: str, npz: Path, tmp_path: Path) -> None:
    """Train and embed: all values are finite, and weights and moments are still float32."""
    more = {"bottleneck": bottleneck, "precision": "bfloat16", "log_every": 5}
    run = trained(npz, tmp_path / "run", iterations=20, **more)
    model = checkpoint.load(run / "ckpt.pt").model
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    softvq("embed", run, "-o", tmp_path / "z.npy", "-q").done()  # which refuses NaN


def test_a_killed_bfloat16_run_resumes_to_the_same_bytes(zygote: Zygote, npz: Path, tmp_path: Path) -> None:
    words = ["train", *tiny(npz, precision="bfloat16", iterations=5, checkpoint_every=1), "-o", "run"]
    for name, moment in (("whole", None), ("killed", 20)):
        (tmp_path / name).mkdir()
        zygote.run(*words, cwd=tmp_path / name, die_at=moment)
    assert 1 <= state(tmp_path / "killed" / "run")["checkpoint"]["step"] < 5
    zygote.run(*words, "--resume", cwd=tmp_path / "killed").done()
    assert state(tmp_path / "whole" / "run") == state(tmp_path / "killed" / "run")


# ---- a loss that is not finite


def injecting(real: Callable[..., Output], term: str, value: float, at: int) -> Callable[..., Output]:
    """The forward pass of a bottleneck with one of its loss terms replaced at one training step."""
    steps = 0

    def forward(self: Any, z_e: torch.Tensor, h: torch.Tensor, eps: torch.Tensor | None = None) -> Output:
        nonlocal steps
        out = real(self, z_e, h, eps)
        if eps is None:  # validation
            return out
        steps += 1
        bad = {term: out.losses[term] * value} if steps == at else {}
        return out._replace(losses={**out.losses, **bad})

    return forward


@pytest.mark.parametrize(
    ("kind", "bottleneck", "term"),
    [(SoftVQ, "soft-vq", "codebook"), (SoftVQ, "soft-vq", "commitment"), (VAE, "vae", "kl")],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [1, 6, 8])
def test_the_diagnosis_names_the_term_and_the_step(
    kind: Any, bottleneck: str, term: str, value: float, at: int, npz: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kind, "forward", injecting(kind.forward, term, value, at))
    words = tiny(npz, bottleneck=bottleneck, iterations=12, log_every=4, checkpoint_every=5)
    run = tmp_path / "run"
    softvq("train", *words, "-q", "-o", run).refused(1, f"step {at} ", term, "--lr", *[f"{run}/ckpt.pt"] * (at > 5))
    assert not temporaries(run)
    if at > 5:
        saved = checkpoint.load(run / "ckpt.pt")
        assert saved.step == 5
        assert all(torch.isfinite(weight).all() for weight in saved.model.state_dict().values())


def test_weights_that_overflow_in_the_last_step_are_noticed(npz: Path, tmp_path: Path) -> None:
    """The loss of that step was still finite."""
    words = tiny(npz, bottleneck="ae", iterations=1, lr="1e39")
    softvq("train", *words, "-q", "-o", tmp_path / "run").refused(1, "weights", "step 1", "--lr")
    assert not (tmp_path / "run" / "ckpt.pt").exists()


def test_a_gradient_too_large_for_its_square_is_noticed(npz: Path, tmp_path: Path) -> None:
    """Otherwise, Adam would divide by infinity and never change that weight again."""
    words = tiny(npz, bottleneck="ae", iterations=1, reconstruction_scale="1e30")
    softvq("train", *words, "-q", "-o", tmp_path / "run").refused(1, "gradient", "step 1")


# ---- codebooks


class Notes(Reporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        if not text.startswith("training in"):
            self.heard.append(text)


def noted(npz: Path, out: Path, **more: object) -> list[str]:
    notes = Notes()
    chosen = {"data": str(npz), "latent_dim": 2, "batch_size": 8, "iterations": 30, "log_every": 30}
    train({**chosen, **more}, out=out, reporter=notes, device="cpu")
    return notes.heard


@pytest.mark.parametrize("bottleneck", ["vq", "soft-vq"])
def test_a_collapsed_codebook_is_reported_with_advice(
    bottleneck: str, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def far_from_all_but_one(self: Any, *args: Any) -> Any:
        """The initial codebook determines which codes are ever used."""
        with torch.no_grad():
            self.codebook[1:] += 1e3
        return real_quantise(self, *args)

    from softvq_cli.model.bottlenecks import soft_vq, vq

    kind = {"vq": vq.VQ, "soft-vq": soft_vq.SoftVQ}[bottleneck]
    real_quantise = kind.quantise
    monkeypatch.setattr(kind, "quantise", far_from_all_but_one)
    heard = noted(npz, tmp_path / "run", bottleneck=bottleneck, K=20, lr=1e-4)
    assert len(heard) == 1 and "codebook" in heard[0] and "20 codes" in heard[0] and " K" in heard[0]


@pytest.mark.parametrize(
    "more", [{"bottleneck": "soft-vq", "K": 3}, {"bottleneck": "vq", "K": 1}, {"bottleneck": "ae"}]
)
def test_a_codebook_in_use_is_not_reported(more: dict[str, Any], npz: Path, tmp_path: Path) -> None:
    assert noted(npz, tmp_path / "run", **more) == []


@pytest.mark.parametrize(
    ("K", "active", "perplexity", "n", "collapsed"),
    [
        (128, 41, 24.5, 8000, False),  # VQ on MNIST
        (128, 20, 12.9, 8000, False),
        (128, 13, 12.8, 8000, True),
        (128, 128, 1.9, 8000, True),  # all are used now and then, and one nearly always
        (128, 1, 106.0, 8000, False),  # one is always the most probable, by a little
        (3, 1, 1.0, 8000, True),
        (3, 2, 1.5, 8000, False),
        (1, 1, 1.0, 8000, False),
        (128, 1, 1.0, 1279, False),  # too few images to tell
    ],
)
def test_what_counts_as_collapse(K: int, active: int, perplexity: float, n: int, collapsed: bool) -> None:
    from softvq_cli.config import ModelConfig
    from softvq_cli.model.bottlenecks import build_bottleneck

    bottleneck = build_bottleneck(ModelConfig(K=K, latent_dim=2), hidden_dim=4)
    assert (bottleneck.diagnose({"active_codes": active, "perplexity": perplexity}, n) is not None) == collapsed


def test_a_collapsed_posterior_is_reported_with_advice(npz: Path, tmp_path: Path) -> None:
    heard = noted(npz, tmp_path / "run", bottleneck="beta-vae", beta=1e5, lr=1e-2, iterations=200)
    assert len(heard) == 1 and "posterior" in heard[0] and "KL" in heard[0]
    assert noted(npz, tmp_path / "other", bottleneck="vae", iterations=20) == []
