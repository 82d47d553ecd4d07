"""Many training steps as one CUDA graph: one launch, no host in between."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from softvq_cli.training.session import Session

STEPS = 50
"""Steps a graph: the launch of a graph costs about as much as a step of the small models."""


class Chunk:
    """``steps`` steps of a session from a buffer of batch indices on the device to a buffer of loss rows.

    Gather, scale, noise, forward, backward and Adam all lie inside. Where there is no CUDA the same body runs
    without being captured, which is how it is tested against single steps.
    """

    def __init__(self, session: Session, steps: int = STEPS) -> None:
        self.session, self.steps = session, steps
        batch = session.config.train.batch_size
        self.indices = torch.zeros(steps, batch, dtype=torch.int64, device=session.device)
        self.rows = torch.zeros(steps, len(session.interval.names), device=session.device)
        self.stats: dict[str, Tensor] = {}
        self.graph = self._capture() if session.device.type == "cuda" else None

    def run(self) -> None:
        """Advance the session by ``steps`` steps and record them in its interval."""
        session = self.session
        batches = [session.batches.indices(session.step + i) for i in range(self.steps)]
        if self.graph is None:
            self.indices.copy_(torch.stack(batches))
            self._body()
        else:
            self.indices.copy_(torch.stack(batches).pin_memory(), non_blocking=True)  # the host does not wait
            self.graph.replay()
        session.interval.add_rows(self.rows, self.stats)

    def _body(self) -> None:
        self.stats = {}
        for i in range(self.steps):
            result = self.session.optimise(self.indices[i])
            self.rows[i] = result.row()
            for name, value in result.stats.items():
                self.stats[name] = self.stats[name] + value if name in self.stats else value.clone()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture the body. The warm-up that this needs trains for real, so its effects are taken back.

        Warm-up and capture have a stream of their own, because autograd's nodes and cuBLAS's workspace belong to the
        stream on which they were first used: with a shared one, graphs that run side by side would share the workspace.
        """
        session = self.session
        optimiser, model, noise = session.optimiser, session.model, session.noise
        before = copy.deepcopy((model.state_dict(), optimiser.state_dict(), noise.get_state()))
        stream = torch.cuda.Stream(session.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                session.optimise(self.indices[0])
        torch.cuda.current_stream().wait_stream(stream)
        model.load_state_dict(before[0])
        noise.set_state(before[2])
        _restore_moments(optimiser, before[1])
        optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        _register(graph, noise)
        with torch.cuda.graph(graph, stream=stream):
            self._body()
        return graph


def _register(graph: torch.cuda.CUDAGraph, generator: torch.Generator) -> None:
    """Have each replay draw on from where the generator stands, and advance it.

    Newer releases of PyTorch find that out by themselves; this method warns there that it does nothing any more.
    """
    if hasattr(graph, "register_generator_state"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph.register_generator_state(generator)


def _restore_moments(optimiser: torch.optim.Optimizer, before: dict[str, dict[int, dict[str, Tensor]]]) -> None:
    """Put Adam's moments back in place: the graph will hold on to the tensors that the warm-up created."""
    for i, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            saved = before["state"].get(i)
            value.copy_(saved[name] if saved else torch.zeros_like(value))
