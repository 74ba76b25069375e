"""Neighbours: on which side of the middle tile does a tile lie?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.errors import below, refuse
from xrayssl.heads import ProjectionHead
from xrayssl.methods.base import Batch, Method
from xrayssl.tiles import Tiles, encode

MIDDLE, NEIGHBOURS = 4, (0, 1, 2, 3, 5, 6, 7, 8)
"""Of 3 x 3 tiles in raster order."""


class RelativePatch(Method):
    """The middle tile of a film and one of its eight neighbours; which one (Doersch et al. 2015, arXiv:1505.05192).

    All eight pairs of every film stand in the batch, and each of its nine tiles passes the backbone once. Both tiles
    of a pair are shortened by the same layer; side by side they tell the direction. Where we depart from the paper:
    the tiles come from a 3 x 3 grid over the film rather than from anywhere in it, and each is standardised, which does
    for grey films what dropping colours does there.

    Args:
        tile: Side of a tile in pixels; null takes the largest that fills 7/8 of a cell's side at most. Theirs are
            two thirds of a cell, so that the gap is half a tile.
        jitter: Pixels by which the places of tiles differ at most; null takes all that the cell leaves. See `Tiles`.
        embedding: Width of a tile as the head sees it.
        hidden: Width of the head's two hidden layers.
        whole_batches: See `Method.whole_batches`; batch norms have seen tiles.
        **kwargs: See `Method`.

    Raises:
        UserError: If the tiles do not fit.
    """

    def __init__(
        self,
        tile: int | None = None,
        jitter: int | None = None,
        embedding: int = 512,
        hidden: int = 1024,
        whole_batches: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.whole_batches = whole_batches
        pool_batch_norms(self.backbone)
        refuse(below(1, embedding=embedding, hidden=hidden))
        self.tiles = Tiles(self.backbone, 3, tile, jitter)
        self.embed = nn.Sequential(nn.Linear(self.backbone.width, embedding), nn.ReLU(inplace=True))
        self.head = ProjectionHead(2 * embedding, hidden, len(NEIGHBOURS), layers=3)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the eight directions of every film, and the accuracy."""
        tiles_BTE = self.embed(encode(self.backbone, self.tiles(batch["image"])))
        around_BKE = tiles_BTE[:, NEIGHBOURS]
        middle_BKE = tiles_BTE[:, MIDDLE, None].expand_as(around_BKE)
        logits_NK = self.head(torch.cat([middle_BKE, around_BKE], dim=2).flatten(0, 1)).float()
        side_N = torch.arange(len(NEIGHBOURS), device=logits_NK.device).repeat(len(tiles_BTE))
        accuracy = (logits_NK.argmax(dim=1) == side_N).float().mean()
        return {"loss": nn.functional.cross_entropy(logits_NK, side_N), "accuracy": accuracy}

    def _settings(self) -> dict[str, Any]:
        """Also how tiles are cut."""
        return {**super()._settings(), **{f"model.{name}": value for name, value in self.tiles.settings().items()}}
