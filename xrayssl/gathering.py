"""Rows of all processes, one behind the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed


def world() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if world() > 1 else 0


def gather(rows_BE: Tensor, gradients: bool = False) -> Tensor:
    """The rows of all processes in the order of their ranks; in one process they are what came in.

    Args:
        rows_BE: Of this process; others may have more or fewer.
        gradients: Let the losses of all processes reach this one's rows. As DDP takes the mean of the processes'
            gradients, the mean of their losses is what is minimised then.

    Returns:
        (N, E), without a gradient unless it is asked for.
    """
    if world() == 1:
        return rows_BE if gradients else rows_BE.detach()
    return _Gather.apply(rows_BE) if gradients else _joined(rows_BE.detach())[0]


def before(rows_BE: Tensor) -> int:
    """How many rows `gather` puts before those of this process."""
    return sum(_counts(rows_BE)[: rank()]) if world() > 1 else 0


def shuffled(function: Callable[[Tensor], Tensor], rows_B: Tensor) -> Tensor:
    """What a function without gradient makes of rows that are dealt to the processes anew, at random (ShuffleBN: He et
    al. 2019, arXiv:1911.05722, section 3.3).

    Args:
        function: Of rows, in the same order.
        rows_B: Of this process, any shape behind the first axis.

    Returns:
        The results for this process's rows, in their order.
    """
    all_N = gather(rows_B)
    order_N = torch.randperm(len(all_N), device=rows_B.device)
    if world() > 1:
        distributed.broadcast(order_N, 0)
    result_N = gather(function(all_N[order_N.tensor_split(world())[rank()]]))
    start = before(rows_B)
    return result_N[order_N.argsort()[start : start + len(rows_B)]]


class _Gather(torch.autograd.Function):
    """All rows; the derivative of the sum of the processes' losses."""

    @staticmethod
    def forward(ctx: Any, rows_BE: Tensor) -> Tensor:
        """The rows of all."""
        joined_NE, counts = _joined(rows_BE)
        start = sum(counts[: rank()])
        ctx.own = slice(start, start + len(rows_BE))
        return joined_NE

    @staticmethod
    def backward(ctx: Any, grad_NE: Tensor) -> Tensor:
        """The sum of what every process's loss says of this one's rows."""
        total_NE = grad_NE.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total_NE)
        return total_NE[ctx.own]


def _joined(rows_BE: Tensor) -> tuple[Tensor, list[int]]:
    """All rows, and how many are of each process."""
    counts = _counts(rows_BE)
    room_BE = rows_BE.new_zeros((max(counts), *rows_BE.shape[1:]))  # gathering needs equal parts
    room_BE[: len(rows_BE)] = rows_BE
    parts = [torch.empty_like(room_BE) for _ in counts]
    distributed.all_gather(parts, room_BE)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]), counts


def _counts(rows_BE: Tensor) -> list[int]:
    own = torch.tensor([len(rows_BE)], device=rows_BE.device)
    counts = [torch.empty_like(own) for _ in range(world())]
    distributed.all_gather(counts, own)
    return [int(count) for count in counts]
