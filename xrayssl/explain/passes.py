"""Passes of a model that is explained: exact, in evaluation, and the model is afterwards what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from xrayssl.callbacks.frozen import evaluating

Logits = Callable[[Tensor], Tensor]


@contextmanager
def explaining(model: nn.Module, image_BCHW: Tensor) -> Iterator[Logits]:
    """Within it the model is in evaluation and uncompiled, and gradients are taken in full precision.

    It may be frozen, compiled, in training, in bfloat16, and the caller under `no_grad`, `inference_mode` or autocast.
    No parameter is touched; mode, hooks and random state are afterwards what they were.

    Args:
        model: From normalised films to logits (B, N).
        image_BCHW: Films on the device of the model.

    Returns:
        What gives the logits of films, by weights in float32, for which no gradient is kept.
    """
    compiled = {part: part._compiled_call_impl for part in model.modules() if part._compiled_call_impl is not None}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(image_BCHW.device.type, enabled=False))
        stack.enter_context(evaluating(model))
        tensors = _tensors(model)
        try:
            for part in compiled:
                part._compiled_call_impl = None
            yield lambda film_BCHW: functional_call(model, tensors, (_plain(film_BCHW),))
        finally:
            for part, call in compiled.items():
                part._compiled_call_impl = call


class Cut:
    """A hook that cuts a layer's output off from what made it, and keeps it: the leaf that gradients are taken for.

    Args:
        image_BCHW: Films whose map it shall be.
    """

    def __init__(self, image_BCHW: Tensor) -> None:
        self.size = tuple(image_BCHW.shape[2:])
        self._leaves: list[Tensor] = []

    def __call__(self, layer: nn.Module, inputs: Any, output: Any) -> Tensor:
        """What the rest of the network goes on with.

        Raises:
            ValueError: If the output is no map (B, D, h, w) of the films.
        """
        shape = tuple(output.shape) if isinstance(output, Tensor) else (type(output).__name__,)
        if len(shape) != 4 or not _is_alike(shape[2:], self.size):
            raise ValueError(
                f"The output of the layer is ({', '.join(map(str, shape))}), not a map (B, D, h, w) of films of "
                f"{self.size[0]} x {self.size[1]} px; name another layer, such as backbone.grid."
            )
        self._leaves.append(output.detach().requires_grad_())
        return self._leaves[-1].clone()  # what follows may work in place

    @property
    def leaf(self) -> Tensor:
        """The output.

        Raises:
            ValueError: If the layer was not called once.
        """
        if len(self._leaves) != 1:
            raise ValueError(f"The layer was called {len(self._leaves)} times in a pass; name one that is called once.")
        return self._leaves[0]


@contextmanager
def hooked(layer: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    """Within it a hook sees the layer's output, and what it returns stands in its place."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _is_alike(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether both have the same proportions, up to what padding adds to a grid: (B, h, w, D) has others."""
    return abs(grid[0] * size[1] - grid[1] * size[0]) <= 4 * max(size)


def _plain(image_BCHW: Tensor) -> Tensor:
    """Films in float32, as a tensor that may stand in a graph."""
    return (image_BCHW.clone() if image_BCHW.is_inference() else image_BCHW).detach().float()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers in float32, for which no gradient is kept."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in named}
