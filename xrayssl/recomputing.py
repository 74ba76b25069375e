"""Gradient checkpointing: what a block holds for its gradient is forgotten, and computed again when it is due."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from xrayssl.errors import UserError


def recompute_network(network: Any, architecture: str) -> None:
    """Lets a timm network recompute its blocks (Chen et al. 2016, arXiv:1604.06174).

    Raises:
        UserError: If timm cannot do so with this network.
    """
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):
        raise UserError(
            f"{architecture} has no gradient checkpointing; leave --model.grad_checkpointing out, or take a smaller "
            "--data.batch_size with --trainer.accumulate_grad_batches."
        ) from None


def recompute_blocks(decoder: nn.Module) -> None:
    """Lets a decoder recompute each of its `blocks`."""
    for block in decoder.blocks.children():  # type: ignore[union-attr]
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def count_once(module: nn.Module) -> None:
    """Keeps the second pass out of the running statistics of batch norms, which would move twice; once is enough."""
    for part in module.modules():
        if isinstance(part, _NormBase) and part.track_running_stats and not hasattr(part, "held"):
            part.held = None  # type: ignore[assignment]
            part.register_forward_pre_hook(_hold)
            part.register_forward_hook(_release, always_call=True)


def _hold(norm: Any, inputs: Any) -> None:
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:  # within a backward pass
        norm.held = norm.momentum, norm.num_batches_tracked.clone()
        norm.momentum = 0.0


def _release(norm: Any, inputs: Any, output: Any) -> None:
    if norm.held is not None:
        norm.momentum, count = norm.held
        norm.num_batches_tracked.copy_(count)
        norm.held = None
