"""A moving average of weights, which is validated, exported and handed on in the place of the last ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn

CURRENT = "unaveraged"
"""Key in a checkpoint of the weights that training goes on with; `state_dict` holds the averages."""


class Averaging:
    """Exponential moving average of the weights after each step of the optimiser (Polyak & Juditsky 1992).

    Early on the decay is (1 + step) / (10 + step), so that short runs do not average over their random start. Trained
    parameters and the running statistics of batch norms are averaged; everything else is as the module has it.

    Lightning's own callback (EMAWeightAveraging, 2.6) is not used: it forgets the buffers that no checkpoint holds
    (mean and standard deviation of the films) when a run is resumed, saves averages and weights the wrong way round
    when a run is interrupted in its validation, and keeps its copy on the CPU when the module moves to a GPU.

    Args:
        decay: Share of the old average in the new one, in (0, 1).

    Raises:
        ValueError: If the decay is outside its range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"--model.ema is a share between 0 and 1, such as 0.999, not {decay}.")
        self.decay = decay
        self.shown = False
        self._others: dict[str, Tensor] = {}  # the averages, or the module's own weights while it shows the averages

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the averages.

        Args:
            module: The one that is trained.
            step: Steps of the optimiser so far, this one included.
        """
        live = module.state_dict()
        if not self._others:
            self._others = {name: live[name].clone() for name in _averaged(module)}
        new = [live[name] for name in self._others]
        self._others = {name: old.to(live[name].device) for name, old in self._others.items()}
        share = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(share)(list(self._others.values()), new, None)

    def show(self, module: nn.Module) -> None:
        """Puts the averages into the module; without any, or if they are there, nothing happens."""
        if not self.shown and self._others:
            self._swap(module)

    def hide(self, module: nn.Module) -> None:
        """Puts the module's own weights back."""
        if self.shown:
            self._swap(module)

    def settle(self, module: nn.Module) -> None:
        """Leaves the averages in the module, and forgets the rest: the training is over."""
        self.show(module)
        self.shown, self._others = False, {}

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Writes both, the averages as `state_dict`."""
        state = checkpoint["state_dict"]
        here = {name: state[name] for name in self._others}
        averages, checkpoint[CURRENT] = (here, self._others) if self.shown else (self._others, here)
        checkpoint["state_dict"] = {**state, **averages}

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Takes the averages from a checkpoint, and lets the module find its own weights in `state_dict`."""
        state, current = checkpoint["state_dict"], checkpoint.get(CURRENT, {})
        self.shown, self._others = False, {name: state[name].clone() for name in current}
        checkpoint["state_dict"] = {**state, **current}

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        live = module.state_dict()
        for name, other in self._others.items():
            own = live[name].clone()
            live[name].copy_(other)
            other.copy_(own)
        self.shown = not self.shown


def _averaged(module: nn.Module) -> list[str]:
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    norms = [name for name, part in module.named_modules() if isinstance(part, _NormBase)]
    trained |= {f"{name}.{kind}" for name in norms for kind in ("running_mean", "running_var")}
    return [name for name in module.state_dict() if name in trained]
