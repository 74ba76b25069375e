"""A network that follows the one that is trained, slowly: the momentum encoder, or target network."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class MomentumNetwork(nn.Module):
    """A copy of a module that gets no gradient and moves towards it (He et al. 2019, arXiv:1911.05722, equation 2).

    A copy of a compiled network is compiled. It is in training mode where its owner is, so that its batch norms
    normalise by their batch, as in the code of MoCo and BYOL (Grill et al. 2020, arXiv:2006.07733).

    Args:
        online: What is trained, as it shall be copied; the two share no tensor.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.copy = deepcopy(online).requires_grad_(False)
        if online._compiled_call_impl is not None:  # copying leaves that out
            self.copy.compile()

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the copy says, without a gradient."""
        return self.copy(*inputs)

    @torch.no_grad()
    def follow(self, online: nn.Module, momentum: float) -> None:
        """Sets every weight to momentum * its own + (1 - momentum) * that of the trained module.

        Buffers of floats, such as running statistics, go the same way; others are taken over.

        Args:
            online: What is trained.
            momentum: 0-1; with 0 the copy becomes equal.
        """
        own, other = _tensors(self.copy), _tensors(online)
        floats = [(mine, its) for mine, its in zip(own, other, strict=True) if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [its for _, its in floats], 1 - momentum)
        for mine, its in zip(own, other, strict=True):
            if not mine.is_floating_point():
                mine.copy_(its)


def check_momentum(momentum: float) -> list[str]:
    """A sentence where a momentum makes no sense."""
    return [] if 0 <= momentum <= 1 else [f"model.momentum is a share from 0 to 1, such as 0.999, not {momentum}."]


def _tensors(module: nn.Module) -> list[Tensor]:
    groups: tuple[Iterable[Tensor], ...] = (module.parameters(), module.buffers())
    return [tensor for group in groups for tensor in group]
