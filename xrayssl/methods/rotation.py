"""Predicting by how many quarter turns a film was rotated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xrayssl.errors import UserError
from xrayssl.heads import LinearHead
from xrayssl.methods.base import Batch, Method


class RotationProxy(Method):
    """All four quarter turns of every film stand in the batch; a linear layer names them (Gidaris et al. 2018,
    arXiv:1803.07728).

    Turns are exact (`torch.rot90`), so no interpolation gives them away. High accuracy is not the aim and may come
    from side markers or collimation: judge the backbone by what it is good for afterwards.

    Args:
        **kwargs: See `Method`.

    Raises:
        UserError: If the films are not square.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.backbone.img_size[0] != self.backbone.img_size[1]:
            raise UserError("Rotation needs square films; set --data.img_size to one number.")
        self.head = LinearHead(self.backbone.width, 4)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Four-way cross-entropy over the turned films, and the accuracy."""
        image_BCHW = batch["image"]
        turned = torch.cat([image_BCHW.rot90(turns, dims=(2, 3)) for turns in range(4)])
        turns = torch.arange(4, device=image_BCHW.device).repeat_interleave(len(image_BCHW))
        logits = self.head(self.backbone(turned)).float()
        accuracy = (logits.argmax(dim=1) == turns).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, turns), "accuracy": accuracy}
