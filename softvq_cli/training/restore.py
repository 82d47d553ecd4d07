"""Going on from a checkpoint: its training state, checked against the session that is to have it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from softvq_cli.model import Autoencoder
from softvq_cli.training.session import Session


def restore(session: Session, step: int, model: Autoencoder, state: Mapping[str, Any]) -> None:
    """Put a session that has not taken a step where another one like it was when its state was saved.

    Args:
        session: a new one; its moments are replaced, so nothing may hold on to them yet (a captured graph would).
        step: the steps that were done.
        model: as it was then.
        state: what :meth:`Session.state_dict` gave.

    Raises:
        ValueError: the state is not one of a session like this; nothing was changed.
        RuntimeError: the session has taken steps.
    """
    _check_new(session)
    _check_state(session, step, state)
    _put(session, step, model, state)
    session.interval.load_state_dict(state["interval"])


def go_on(session: Session, step: int, model: Autoencoder, state: Mapping[str, Any]) -> None:
    """As :func:`restore`, from the end of a training: all its steps are reported, and the images may be others.

    Nothing of ``state`` is shared with the session.
    """
    _check_new(session)
    _check_progress(session, step, state)
    _put(session, step, model, copy.deepcopy(state))


def _check_new(session: Session) -> None:
    if session.step or session.optimiser.state:
        raise RuntimeError("only a session that has not taken a step can be restored")


def _put(session: Session, step: int, model: Autoencoder, state: Mapping[str, Any]) -> None:
    session.step = step
    session.model.load_state_dict(model.state_dict())
    groups = session.optimiser.state_dict()["param_groups"]  # ours: they follow from the configuration
    session.optimiser.load_state_dict({"state": state["optimiser"]["state"], "param_groups": groups})
    for weights, moments in session.optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):  # fused Adam pairs them with the weights as they lie in memory
            moments[name] = torch.empty_like(weights).copy_(moments[name])
    session.noise.set_state(state["noise"])


def _check_state(session: Session, step: int, state: Mapping[str, Any]) -> None:
    """Make sure that ``state`` is what a session like this one has after ``step`` steps, or raise ValueError."""
    _check_progress(session, step, state)
    _check_interval(session, step, _get(state, "interval"))


def _check_progress(session: Session, step: int, state: Mapping[str, Any]) -> None:
    """The same, of all but the steps since the last report."""
    if not state:
        raise ValueError("it is an exported model, without the state of its training")
    _check_noise(session, _get(state, "noise"))
    _check_moments(list(session.model.parameters()), step, _get(_get(state, "optimiser"), "state"))


def _check_noise(session: Session, noise: Any) -> None:
    own = session.noise.get_state()
    if not isinstance(noise, Tensor) or noise.dtype != own.dtype or noise.dim() != 1:
        raise ValueError("its random state is none")
    if noise.shape != own.shape:
        raise ValueError(
            f"its random state is not one of the device {session.device.type}: resume on the kind of "
            "device on which it began"
        )


def _check_moments(parameters: list[Tensor], step: int, state: Any) -> None:
    if not isinstance(state, dict) or not set(state) <= set(range(len(parameters))) or bool(state) != (step > 0):
        raise ValueError("its optimiser is that of another model")
    for number, moments in state.items():
        weights = parameters[number]
        _check_tensor("the optimiser's step", _get(moments, "step"), torch.Size(()), torch.float32)
        for name in ("exp_avg", "exp_avg_sq"):
            _check_tensor(f"the optimiser's {name}", _get(moments, name), weights.shape, weights.dtype)


def _check_interval(session: Session, step: int, interval: Any) -> None:
    """A row a step since the last report, and what one batch of the bottleneck would add up.

    A run that was lengthened reported its former last step, too.
    """
    rows = _get(interval, "rows")
    done = min(step % session.config.train.log_every, len(rows) if isinstance(rows, Tensor) and rows.dim() else 0)
    shape = torch.Size((done, len(session.interval.names)))
    _check_tensor("the loss terms", rows, shape, torch.float32)
    stats = _get(interval, "stats")
    expected = session.model.bottleneck.stats_shapes() if done else {}
    if not isinstance(stats, dict) or set(stats) != set(expected):
        raise ValueError("its sums since the last report are those of another bottleneck")
    for name, size in expected.items():
        _check_tensor(name, stats[name], size, torch.float32)


def _check_tensor(what: str, value: Any, shape: torch.Size, dtype: torch.dtype) -> None:
    if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
        raise ValueError(f"{what} is not {dtype} of shape {tuple(shape)}")


def _get(values: Any, name: str) -> Any:
    if not isinstance(values, Mapping) or name not in values:
        raise ValueError(f"it has no {name}")
    return values[name]
