"""Data-parallel training with torchrun: each process trains on its part of every batch.

The encoder and decoder process the rows of their rank. The latents of all ranks are gathered, and each rank computes
the bottleneck for the whole batch. Moving averages, batch statistics, noise and restarts of dead codes are therefore
those of a single process, for every bottleneck. Gradients are summed over the ranks. Results differ from those of one
process only by the rounding of these sums.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import io
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from softvq_cli.config import LossConfig
from softvq_cli.devices import torchrun
from softvq_cli.errors import Message, SoftVQError, UsageError
from softvq_cli.model import Autoencoder
from softvq_cli.training.objective import Objective, weighted

PATIENCE = datetime.timedelta(days=1)
"""Timeout for other ranks, because the first may have to decode a data set. Failed ranks are reported earlier."""


class Ranks:
    """The processes of this training; this one has index ``rank`` of ``size``."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.stop = threading.Event()
        """Set in the same step on all ranks, after a stop was requested on one of them."""
        self._asked = threading.Event()

    def follow(self, asked: threading.Event) -> threading.Event:
        """Return the event to check instead of ``asked``, which may be set on another rank only."""
        self._asked, self.stop = asked, threading.Event()
        return self.stop

    def part(self, rows: int) -> slice:
        """The part of ``rows`` rows that belongs to this rank."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def tell(self, news: dict[str, Any] | None = None) -> dict[str, Any]:
        """Broadcast a dictionary from the first rank to all. Tensors are moved to the CPU."""
        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(news, buffer)
        told = [buffer.getvalue()]
        with _others():
            dist.broadcast_object_list(told, src=0, device=self.device)
        # torch.distributed also sends objects by pickle; all ranks belong to one user.
        content: dict[str, Any] = torch.load(io.BytesIO(told[0]), map_location="cpu", weights_only=False)
        return content

    def sum(self, values: Tensor) -> Tensor:
        """Sum contiguous ``values`` over the ranks, in place."""
        with _others():
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients of all ranks; the same message carries stop requests."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        asked = torch.full((1,), float(self._asked.is_set()), device=self.device)
        flat = self.sum(torch.cat([*(gradient.reshape(-1) for gradient in gradients), asked]))
        parts = torch.split(flat[:-1], [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        if flat[-1] > 0:
            self.stop.set()

    def objective(
        self, batch: int, model: Autoencoder, x: Tensor, eps: Tensor | None, weights: LossConfig
    ) -> Objective:
        """The loss of a batch of ``batch`` images; ``x`` is this rank's part, ``eps`` the noise of the whole batch.

        Summed over the ranks, the gradients are those of the whole batch.
        """
        own_images, P = self.part(batch), model.positions
        part = slice(own_images.start * P, own_images.stop * P)
        z_e, h = model.encode(x)
        rows = _Together.apply(torch.cat([z_e.float(), h.float()], 1), self, part, batch * P)
        with torch.autocast(x.device.type, enabled=False):
            code = model.bottleneck(rows[:, : z_e.shape[1]], rows[:, z_e.shape[1] :], eps)
        own = model.nmse(x, model.decoder(code.z_q[part])) * (len(x) / batch)
        nmse = own + (self.sum(own.detach().clone()) - own.detach())  # value of the batch, gradient of this part
        # The terms of the bottleneck are the same on every rank; each rank contributes an equal part of the gradient.
        losses = {name: term.detach() + (term - term.detach()) / self.size for name, term in code.losses.items()}
        return weighted(model.bottleneck, nmse, code._replace(losses=losses), weights)


class _Together(torch.autograd.Function):
    """Gather the rows (B, n) of all ranks; the backward pass returns this rank's gradient, summed over all ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, part: slice, total: int) -> Tensor:
        ctx.ranks, ctx.part = ranks, part
        whole = rows.new_zeros(total, rows.shape[1])
        whole[part] = rows
        return ranks.sum(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.ranks.sum(gradients[0].contiguous().clone())[ctx.part], None, None, None


@functools.cache
def joined(device: torch.device) -> Ranks | None:
    """Wait for all ranks and return them; None if torchrun has not started several processes."""
    place = torchrun()
    if place is None:
        return None
    if device.type == "mps":
        raise UsageError(
            Message("{device} mps takes one process for a training: start it without torchrun, or use {device} cpu")
        )
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        with _others():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Ranks(*place, device)


@contextlib.contextmanager
def _others() -> Iterator[None]:
    """Convert communication errors to an error about the rank that failed."""
    try:
        yield
    except RuntimeError as error:
        raise SoftVQError("another process of this training has ended: its own message says why") from error
