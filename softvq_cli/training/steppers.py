"""What advances a session: step by step, or many steps as one CUDA graph with no host in between."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from softvq_cli.process import quiet
from softvq_cli.training.batches import ResidentImages
from softvq_cli.training.objective import add_stats
from softvq_cli.training.session import Session

STEPS = 50
"""Steps in a graph: the launch of a graph costs about as much as a step of the small models."""


def stepper(session: Session) -> EagerStepper:
    """The fastest for the session's device; from a checkpoint, restore the session first."""
    resident = isinstance(session.source, ResidentImages) and not session.divided
    return GraphStepper(session) if resident and session.device.type == "cuda" else EagerStepper(session)


class EagerStepper:
    """One step at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def advance(self, limit: int = 1) -> int:
        """Take at least one and at most ``limit`` optimiser steps, record them in the interval; returns how many."""
        session = self._session
        result = session.optimise(session.source.batch(session.step))
        session.interval.add(result.row()[None], result.stats)
        session.step += 1
        return 1


class GraphStepper(EagerStepper):
    """``steps`` steps at a time where the limit allows, else one.

    They run from a buffer of batch indices on the device to a buffer of loss rows: gather, scale, noise, forward,
    backward and Adam all lie inside. The graph is captured when it is first needed, and from then on holds the
    session's tensors where they lie: weights and moments may only change in place. Where there is no CUDA the same
    body runs without being captured, which is how it is tested against single steps.
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
        """Take ``steps`` steps, or one if that is more than ``limit``."""
        if limit < self._steps:
            return super().advance()
        session = self._session
        batches = torch.stack([session.batches.indices(session.step + i) for i in range(self._steps)])
        if session.device.type == "cuda":
            self._graph = self._graph or self._capture()
            self._indices.copy_(batches.pin_memory(), non_blocking=True)  # the host does not wait
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
        """Capture the body. The warm-up that this needs trains for real, so its effects are taken back.

        Warm-up and capture have a stream of their own, because autograd's nodes and cuBLAS's workspace belong to the
        stream on which they were first used: with a shared one, graphs that run side by side would share the workspace.
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
        # In place: the graph will hold on to the moments that the warm-up created.
        for i, moments in optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                saved = before[1]["state"].get(i)
                value.copy_(saved[name] if saved else torch.zeros_like(value))
        optimiser.zero_grad()
        graph = torch.cuda.CUDAGraph()
        if hasattr(graph, "register_generator_state"):  # each replay draws on from where the generator stands
            with quiet():  # newer releases of PyTorch find that out by themselves, and warn that this does nothing
                graph.register_generator_state(noise)
        # Of this thread alone: another session's may fetch pinned memory meanwhile, which ends a "global" capture.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._body()
        return graph
