"""Adam beside PyTorch's own, bit for bit, and without the compiler that PyTorch's imports."""

from __future__ import annotations

import subprocess
import sys

import torch

from softvq_cli.training.session import Adam


def test_it_takes_the_steps_of_pytorchs_fused_adam_and_goes_on_from_its_state() -> None:
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
            state = adam.state_dict()["state"]
            adam = Adam(ours, 3e-4)
            adam.load_state(state)
    for x, y in zip(ours, theirs, strict=True):
        assert torch.equal(x, y)
        assert all(torch.equal(adam.state[x][name], reference.state[y][name]) for name in reference.state[y])
    assert adam.state_dict()["state"].keys() == reference.state_dict()["state"].keys()


def test_a_training_on_digits_needs_neither_the_compiler_nor_scikit_learn(tmp_path) -> None:
    script = f"""
import sys
from softvq_cli.training import train
train({{"iterations": 2}}, out=__import__("pathlib").Path({str(tmp_path / "run")!r}), device="cpu")
assert not {{"torch._dynamo", "sklearn"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
