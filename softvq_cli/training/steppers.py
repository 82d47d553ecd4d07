"""How a session takes its steps: one at a time, or many as one CUDA graph without the host."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from softvq_cli.process import quiet
from softvq_cli.training.batches import ResidentImages
from softvq_cli.training.objective import add_stats
from softvq_cli.training.session import Session

STEPS = 50
"""Steps per graph: launching a graph takes about as long as one step of a small model."""


def stepper(session: Session) -> EagerStepper:
    """The fastest stepper for the session's device; to continue from a checkpoint, restore the session first."""
    resident = isinstance(session.source, ResidentImages) and not session.divided
    return GraphStepper(session) if resident and session.device.type == "cuda" else EagerStepper(session)


class EagerStepper:
    """Takes one step at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def advance(self, limit: int = 1) -> int:
        """Take at least one and at most ``limit`` optimiser steps and record them; returns the number of steps."""
        session = self._session
        result = session.optimise(session.source.batch(session.step))
        session.interval.add(result.row()[None], result.stats)
        session.step += 1
        return 1


class GraphStepper(EagerStepper):
    """Takes ``steps`` steps at a time if the limit allows, otherwise one.

    The steps read batch indices from a buffer on the device and write losses to another: gathering, scaling, noise,
    forward and backward pass and Adam are all in the graph. It is captured on first use and then holds the session's
    tensors, so weights and moments may only be changed in place. Without CUDA, the same code runs without capture,
    which is how tests compare it with single steps.
    """

    def __init__(self, session: Session, steps: int = STEPS) -> None:
        assert isinstance(session.source, ResidentImages)
        super().__init__(session)
        self._steps, self._pixels = steps, session.source.pixels
        batch = session.config.train.batch_size
        self._indices = torch.zeros(steps, batch, dtype=torch.int64, device=session.device)
        self._rows = torch.zeros(steps, len(session.interval.names), device=session.device)
        self._stats: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def advance(self, limit: int = 1) -> int:
        """Take ``steps`` steps, or one if ``limit`` is smaller."""
        if limit < self._steps:
            return super().advance()
        session = self._session
        batches = torch.stack([session.batches.indices(session.step + i) for i in range(self._steps)])
        if session.device.type == "cuda":
            self._graph = self._graph or self._capture()
            self._indices.copy_(batches.pin_memory(), non_blocking=True)  # without waiting on the host
            self._graph.replay()
        else:
            self._indices.copy_(batches)
            self._body()
        session.interval.add(self._rows, self._stats)
        session.step += self._steps
        return self._steps

    def _body(self) -> None:
        self._stats = {}
        for i in range(self._steps):
            result = self._session.optimise(self._pixels[self._indices[i]])
            self._rows[i] = result.row()
            add_stats(self._stats, result.stats)

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture the graph. The warm-up steps before it are real training steps, so their effects are reverted.

        Both use a separate stream, because autograd nodes and cuBLAS's workspace belong to the stream of their first
        use. With a common stream, concurrent graphs would share the workspace.
        """
        session = self._session
        optimiser, model, noise = session.optimiser, session.model, session.noise
        before = copy.deepcopy((model.state_dict(), optimiser.state_dict(), noise.get_state()))
        stream = torch.cuda.Stream(session.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                session.optimise(self._pixels[self._indices[0]])
        torch.cuda.current_stream().wait_stream(stream)
        model.load_state_dict(before[0])
        noise.set_state(before[2])
        # In place, because the graph will reference the moments that the warm-up created.
        for i, moments in optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                saved = before[1]["state"].get(i)
                value.copy_(saved[name] if saved else torch.zeros_like(value))
        optimiser.zero_grad()
        graph = torch.cuda.CUDAGraph()
        if hasattr(graph, "register_generator_state"):  # each replay continues from the generator's state
            with quiet():  # newer PyTorch releases do this themselves and warn that the call has no effect
                graph.register_generator_state(noise)
        # Thread-local: another session may allocate pinned memory meanwhile, which would abort a "global" capture.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._body()
        return graph
