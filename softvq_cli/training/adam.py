"""Adam by PyTorch's fused kernel, with the state of ``torch.optim.Adam``, whose first use imports ``torch._dynamo``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam:
    """Adam (Kingma and Ba 2015) with PyTorch's defaults, for float32 parameters on one CPU or CUDA device.

    Attributes:
        state: parameter → its ``step``, ``exp_avg`` and ``exp_avg_sq``, from its first gradient on.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters, self.lr = list(parameters), lr
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient."""
        moved = [parameter for parameter in self.parameters if parameter.grad is not None]
        for parameter in moved:
            if parameter not in self.state:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
        if not moved:
            return
        states = [self.state[parameter] for parameter in moved]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            moved,
            [parameter.grad for parameter in moved if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            amsgrad=False,
            lr=self.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state by the parameters' numbers, and the settings, as ``torch.optim.Adam`` has them."""
        numbers = {parameter: number for number, parameter in enumerate(self.parameters)}
        group = {"lr": self.lr, "betas": list(BETAS), "eps": EPS, "params": list(numbers.values())}
        return {
            "state": {numbers[parameter]: state for parameter, state in self.state.items()},
            "param_groups": [group],
        }

    def load_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over moments and steps by the parameters' numbers; nothing is shared with ``state``.

        Moments are laid out in memory as their weights are, as the kernel pairs them.
        """
        self.state = {}
        for number, moments in state.items():
            parameter = self.parameters[number]
            like = {"step": torch.zeros((), device=parameter.device), "exp_avg": parameter, "exp_avg_sq": parameter}
            self.state[parameter] = {
                name: torch.empty_like(tensor.detach()).copy_(moments[name]) for name, tensor in like.items()
            }
