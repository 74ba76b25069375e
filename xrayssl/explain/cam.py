"""Class activation maps from the gradient at one layer, and nothing else: raw, exact, and the network stays as it was.

Grad-CAM: Selvaraju et al. 2017 (arXiv:1610.02391). The layer is a backbone's `grid` (`xrayssl.backbone`), the last map
of features of any network; any other layer with an output (B, D, h, w) will do. With mean pooling and a linear head
the map is that of Zhou et al. 2016 (arXiv:1512.04150).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from xrayssl.callbacks.frozen import evaluating

Weigh = Callable[[Tensor, Tensor], Tensor]


def grad_cam(activation_BDhw: Tensor, gradient_BDhw: Tensor) -> Tensor:
    """Each feature weighed by the mean of its gradient, summed, without what is negative (equations 1 and 2).

    Returns:
        map_Bhw; over a grid with mean pooling and a linear head in units of the logit: without the ReLU, the sum over
        the cells is what the film adds to the bias.
    """
    weight_BD11 = gradient_BDhw.mean(dim=(2, 3), keepdim=True)
    return (weight_BD11 * activation_BDhw).sum(dim=1).relu()


def maps(
    model: nn.Module, layer: nn.Module, image_BCHW: Tensor, classes: Sequence[int], weigh: Weigh = grad_cam
) -> tuple[Tensor, Tensor]:
    """Maps of films for some outputs, in float32 and in evaluation, whatever the model's state and the caller's.

    The model may be frozen, compiled, in training, in bfloat16, and the caller under `no_grad`, `inference_mode` or
    autocast. Gradients reach no further than the layer: no parameter's is touched, and mode, hooks and random state
    are afterwards what they were.

    Args:
        model: From normalised films to logits (B, N).
        layer: Inside it; called once per pass, with an output (B, D, h, w).
        image_BCHW: Normalised films.
        classes: Numbers of the K outputs to explain.
        weigh: Makes a map of activation and gradient.

    Returns:
        map_BKhw, raw: neither scaled nor resized; and the logits (B, K) that it explains.

    Raises:
        ValueError: If the layer is not called once, or its output is no map.
    """
    cut = _Cut()
    with explaining(model, image_BCHW), _watched(layer, cut):
        image_BCHW = image_BCHW.clone() if image_BCHW.is_inference() else image_BCHW
        logit_BN = functional_call(model, _tensors(model), (image_BCHW.detach().float(),))
        if len(cut.leaves) != 1:
            raise ValueError(f"The layer was called {len(cut.leaves)} times in a pass; name one that is called once.")
        found = [weigh(cut.leaves[0].detach(), gradient) for gradient in _gradients(logit_BN, cut.leaves[0], classes)]
    return torch.stack(found, dim=1), logit_BN.detach()[:, list(classes)]


@contextmanager
def explaining(model: nn.Module, image_BCHW: Tensor) -> Iterator[None]:
    """Within it the model is in evaluation and uncompiled, and gradients are taken in full precision."""
    compiled = {part: part._compiled_call_impl for part in model.modules() if part._compiled_call_impl is not None}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(image_BCHW.device.type, enabled=False))
        stack.enter_context(evaluating(model))
        try:
            for part in compiled:
                part._compiled_call_impl = None
            yield
        finally:
            for part, call in compiled.items():
                part._compiled_call_impl = call


class _Cut:
    """A hook that cuts a layer's output off from what made it, and keeps it: the leaf that gradients are taken for."""

    def __init__(self) -> None:
        self.leaves: list[Tensor] = []

    def __call__(self, layer: nn.Module, inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"The output of the layer is {shape}, not a map (B, D, h, w); name another layer.")
        self.leaves.append(output.detach().requires_grad_())
        return self.leaves[-1].clone()  # what follows may work in place


@contextmanager
def _watched(layer: nn.Module, hook: _Cut) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers in float32, for which no gradient is kept."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in named}


def _gradients(logit_BN: Tensor, leaf_BDhw: Tensor, classes: Sequence[int]) -> Iterator[Tensor]:
    """Of each of these logits with respect to the leaf; in evaluation no film enters another's."""
    for number in classes:
        (gradient_BDhw,) = torch.autograd.grad(logit_BN[:, number].sum(), leaf_BDhw, retain_graph=True)
        yield gradient_BDhw
