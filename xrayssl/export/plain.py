"""A classifier as a plain timm network: the same numbers from `timm.create_model` and one strict load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from xrayssl.errors import UserError
from xrayssl.heads import LinearHead

TOLERANCE = 1e-5
"""Of the logits of timm's network, as a share of the largest or, below 1, of 1."""
HEADS: tuple[dict[str, Any], ...] = ({"global_pool": "avg", "fc_norm": False}, {"global_pool": "avg"})
"""Options under which a timm network may pool as ours: the mean over the grid behind the last norm."""
BARE = "head.norm"
"""A norm between pooling and classifier that ConvNeXt has and we have not, since our grid is pooled as it is."""


@dataclass(frozen=True)
class Plain:
    """A timm network with the weights of a classifier.

    Args:
        network: In evaluation; it gives logits.
        options: Of `timm.create_model` beside its name.
        bare: Whether `head.norm` was taken out before the weights came in.
    """

    network: nn.Module
    options: dict[str, Any]
    bare: bool

    @property
    def tensors(self) -> dict[str, Tensor]:
        """timm's key names to values."""
        return {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}


def plain(method: Any) -> Plain:
    """Writes a classifier as a network of timm, and sees that it gives the same logits.

    Args:
        method: A `Finetune`, in evaluation, on the CPU.

    Raises:
        UserError: If its head or network cannot be written so.
    """
    weight_KD, bias_K = _linear(method)
    backbone = method.backbone
    generator = torch.Generator().manual_seed(0)
    image_BCHW = torch.randn(4, backbone.in_chans, *backbone.img_size, generator=generator)
    with torch.no_grad():
        wanted_BK = method(image_BCHW)
        for candidate in _candidates(backbone, weight_KD, bias_K):
            found_BK = candidate.network(image_BCHW)
            if (found_BK - wanted_BK).abs().max() <= TOLERANCE * max(1.0, float(wanted_BK.abs().max())):
                return candidate
    raise UserError(
        f"{backbone.architecture} cannot be written for timm alone: between its last map and its classifier timm has "
        "layers that this classifier has not. `--onnx` writes it whole."
    )


def _linear(method: Any) -> tuple[Tensor, Tensor]:
    """The head as one linear layer behind the mean over the grid; a probe's batch norm is folded into it."""
    head = method.head
    pool, hidden = getattr(head, "pool", None), getattr(head, "hidden", None)
    attentive = pool is not None and any(True for _ in pool.parameters())
    if type(head) is not LinearHead or attentive or not isinstance(hidden, nn.Identity | None):
        what = "attentive pooling" if attentive else "a hidden layer"
        raise UserError(f"A head with {what} cannot be written for timm alone, whose heads are linear behind a mean; "
                        "`--onnx` writes it whole.")  # fmt: skip
    weight_KD, bias_K = head.linear.weight.detach(), head.linear.bias.detach()
    if isinstance(head.norm, nn.Identity):
        return weight_KD, bias_K
    mean_D, variance_D = head.norm.running_mean, head.norm.running_var
    assert mean_D is not None
    assert variance_D is not None
    scaled_KD = weight_KD / (variance_D + head.norm.eps).sqrt()
    return scaled_KD, bias_K - scaled_KD @ mean_D


def _candidates(backbone: Any, weight_KD: Tensor, bias_K: Tensor) -> Iterator[Plain]:
    """Networks of timm that take the weights, every one of them."""
    known = timm.get_pretrained_cfg(backbone.architecture)
    shape = {"num_classes": len(bias_K), "in_chans": backbone.in_chans}
    if known is not None and known.fixed_input_size:
        shape["img_size"] = backbone.img_size
    classifier = backbone.network.pretrained_cfg["classifier"]
    ours = {**backbone.network.state_dict(), f"{classifier}.weight": weight_KD, f"{classifier}.bias": bias_K}
    for head in HEADS:
        for bare in (False, True):
            try:
                network = timm.create_model(backbone.architecture, **shape, **head)
                if bare:
                    network.get_submodule(BARE)
                    network.set_submodule(BARE, nn.Identity())
                own = {name: value for name, value in ours.items() if not (bare and name.startswith(f"{BARE}."))}
                network.load_state_dict(own)
            except (TypeError, RuntimeError, AttributeError):  # an option or a layer that this family has not
                continue
            yield Plain(network.eval(), {**shape, **head}, bare)
