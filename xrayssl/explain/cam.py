"""Class activation maps from the gradient at one layer, and nothing else: raw, exact, and the network stays as it was.

Grad-CAM: Selvaraju et al. 2017 (arXiv:1610.02391). The layer is a backbone's `grid` (`xrayssl.backbone`), the last map
of features of any network; any other layer with an output (B, D, h, w) will do. With mean pooling and a linear head
the map is that of Zhou et al. 2016 (arXiv:1512.04150).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from xrayssl.explain.passes import Cut, explaining, hooked

Weigh = Callable[[Tensor, Tensor], Tensor]
EPSILON = 1e-6
"""In the denominator of Grad-CAM++, as pytorch-grad-cam has it."""


def grad_cam(activation_BDhw: Tensor, gradient_BDhw: Tensor) -> Tensor:
    """Each feature weighed by the mean of its gradient, summed, without what is negative (equations 1 and 2).

    Returns:
        map_Bhw; over a grid with mean pooling and a linear head in units of the logit: without the ReLU, the sum over
        the cells is what the film adds to the bias.
    """
    weight_BD11 = gradient_BDhw.mean(dim=(2, 3), keepdim=True)
    return (weight_BD11 * activation_BDhw).sum(dim=1).relu()


def grad_cam_plus_plus(activation_BDhw: Tensor, gradient_BDhw: Tensor) -> Tensor:
    """Each feature weighed by the sum of its positive gradients, each times a share that is less where it acts in many
    places; summed, without what is negative (Chattopadhay et al. 2018, arXiv:1710.11063, equation 19).

    The paper explains exp(logit), which multiplies a film's map by a constant that is left out here. As in
    pytorch-grad-cam, whose maps these are, the denominator has `EPSILON`: gradients below about 1e-3, as of a grid of
    many cells, weigh less than in the paper. The paper's features are 0 or more; of signed ones, as those of a ViT or
    Swin, it favours what is low (a denominator may come near 0, too): of an untrained Swin nine maps in ten are empty.

    Returns:
        map_Bhw, in no unit.
    """
    total_BD11 = activation_BDhw.sum(dim=(2, 3), keepdim=True)
    square_BDhw = gradient_BDhw**2
    share_BDhw = square_BDhw / (2 * square_BDhw + total_BD11 * gradient_BDhw**3 + EPSILON)
    weight_BD11 = (share_BDhw * gradient_BDhw.relu()).sum(dim=(2, 3), keepdim=True)
    return (weight_BD11 * activation_BDhw).sum(dim=1).relu()


def hires_cam(activation_BDhw: Tensor, gradient_BDhw: Tensor) -> Tensor:
    """Each feature weighed by its gradient in the same place, summed, without what is negative (HiResCAM, Draelos &
    Carin 2020, arXiv:2011.08891).

    Where every place is normalised right after the layer, as attentive pooling does, the sum is 0 up to rounding: by
    Euler's theorem, as the scale of a place has no effect.

    Returns:
        map_Bhw, in units of the logit; over a grid with mean pooling and a linear head that of `grad_cam`.
    """
    return (gradient_BDhw * activation_BDhw).sum(dim=1).relu()


def maps(
    model: nn.Module, layer: nn.Module, image_BCHW: Tensor, classes: Sequence[int], weigh: Weigh = grad_cam
) -> tuple[Tensor, Tensor]:
    """Maps of films for some outputs, in float32 and in evaluation, whatever the model's state and the caller's.

    See `passes.explaining` for what may be and what stays. Gradients reach no further than the layer, so that the time
    is that of one forward pass, with many classes, too, where little stands on the layer.

    Args:
        model: From normalised films to logits (B, N).
        layer: Inside it; called once per pass, with an output (B, D, h, w).
        image_BCHW: Normalised films.
        classes: Numbers of the K outputs to explain.
        weigh: Makes a map of activation and gradient.

    Returns:
        map_BKhw, raw: neither scaled nor resized; and the logits (B, K) that it explains.

    Raises:
        ValueError: If the layer is not called once, or its output is no map of the films.
    """
    cut = Cut(image_BCHW)
    with explaining(model, image_BCHW) as logits, hooked(layer, cut):
        logit_BN = logits(image_BCHW)
        leaf_BDhw = cut.leaf
        found = [weigh(leaf_BDhw.detach(), gradient) for gradient in _gradients(logit_BN, leaf_BDhw, classes)]
    return torch.stack(found, dim=1), logit_BN.detach()[:, list(classes)]


def _gradients(logit_BN: Tensor, leaf_BDhw: Tensor, classes: Sequence[int]) -> Iterator[Tensor]:
    """Of each of these logits with respect to the leaf; in evaluation no film enters another's."""
    for number in classes:
        (gradient_BDhw,) = torch.autograd.grad(logit_BN[:, number].sum(), leaf_BDhw, retain_graph=True)
        yield gradient_BDhw
