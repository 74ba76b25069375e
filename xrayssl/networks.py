"""Networks of timm by their names, for grey films of any size."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from torch import nn

from xrayssl.attention import quicken
from xrayssl.errors import UserError


def create(
    architecture: str, img_size: tuple[int, int], in_chans: int, drop_path: float, pretrained: bool
) -> nn.Module:
    """Makes a network without a classifier, quick in training on CPUs.

    Args:
        architecture: timm's name.
        img_size: Height and width of the films in pixels.
        in_chans: Channels of a film.
        drop_path: Rate of stochastic depth, 0-1.
        pretrained: Take timm's weights, from the hub or its cache.

    Raises:
        UserError: If timm knows no such network or has no weights of it, or it cannot be as it should.
    """
    _check_known(architecture)
    config = timm.get_pretrained_cfg(architecture)
    options: dict[str, Any] = {"img_size": img_size} if config is not None and config.fixed_input_size else {}
    if not 0 <= drop_path < 1:
        raise UserError(f"model.drop_path is a rate from 0 to below 1, not {drop_path}.")
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        network = timm.create_model(architecture, pretrained=pretrained, num_classes=0, in_chans=in_chans, **options)
    except Exception as error:  # the hub, its cache and the network fail each in their own way
        if "drop_path_rate" in str(error):
            raise UserError(f"{architecture} has no stochastic depth; set --model.drop_path 0.") from None
        if not pretrained:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"timm's weights for {architecture} cannot be had ({reason}); they are downloaded once, so go online "
            "for that, or start from a file: --model.init_from PATH."
        ) from None
    check(architecture, img_size, network)
    quicken(network)
    return network


def check(architecture: str, img_size: tuple[int, int], network: Any, name: str = "Films") -> None:
    """Sees whether a network gives maps of films of a size.

    Args:
        architecture: timm's name.
        img_size: Height and width in pixels.
        network: To be fed.
        name: What the error calls the films.

    Raises:
        UserError: If it does not.
    """
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"The network {architecture!r} gives no feature maps; choose another timm network.")
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", (1, 1))
    if any(side % step for side, step in zip(img_size, patch, strict=True)):
        sides, steps = (" x ".join(map(str, pair)) for pair in (img_size, patch))
        raise UserError(
            f"{name} of {sides} px cannot be cut into the {steps} patches of {architecture}; set --data.img_size."
        )


def _check_known(architecture: str) -> None:
    if timm.is_model(architecture):
        return
    close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"timm knows no network {architecture!r}.{hint}")


def grey_statistics(network: Any) -> tuple[float, float]:
    """Mean and standard deviation of grey values of 0-1: the means of those of timm's three channels."""
    config = network.pretrained_cfg
    return sum(config["mean"]) / len(config["mean"]), sum(config["std"]) / len(config["std"])
