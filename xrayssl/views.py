"""The views of a film that a method compares."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError, refuse

TWO_VIEWS = "two views of a film: `--data.augment.views 2`"
"""What a method needs that compares them."""


def check_views(name: str, data: Any, together: int = 1) -> None:
    """Whether films come in two views, and enough of them at a time, before any is read.

    Args:
        name: Of the method.
        data: The data module; one that does not say is believed.
        together: Films that a batch of a process must have.

    Raises:
        UserError: With the keys that ask for them.
    """
    single = getattr(getattr(data, "augment", None), "views", 2) < 2
    batch = getattr(data, "batch_size", together)
    few = f"{name} needs batches of {together} or more films, not {batch}: raise --data.batch_size."
    refuse([*[_sentence(name)] * single, *[few] * (batch < together)])


def pair(name: str, batch: Mapping[str, Any]) -> list[Tensor]:
    """The first two views of each film, image_BCHW of one size.

    Raises:
        UserError: If there are no two.
    """
    views: list[Tensor] = batch.get("views", [])[:2]
    if len(views) < 2 or views[0].shape != views[1].shape:
        raise UserError(_sentence(name))
    return views


def features(backbone: Backbone, views: list[Tensor]) -> list[Tensor]:
    """The mean-pooled grid of each view, (B, D); neighbours of one size pass the backbone together.

    Raises:
        UserError: If the network cannot see views of such a size.
    """
    pooled: list[Tensor] = []
    for (*_, height, width), group in groupby(views, key=lambda view_BCHW: view_BCHW.shape):
        backbone.check_size("Small crops", (height, width))
        same = list(group)
        pooled += backbone(torch.cat(same)).mean(dim=(2, 3)).chunk(len(same))
    return pooled


def _sentence(name: str) -> str:
    return f"{name} compares two views of a film: set --data.augment.views 2."
