"""Puzzles: in which of some orders do the tiles of a film lie?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.errors import below, refuse
from xrayssl.heads import ProjectionHead
from xrayssl.methods.base import Batch, Method
from xrayssl.patches import gather
from xrayssl.permutations import distant
from xrayssl.tiles import Tiles, encode


class Jigsaw(Method):
    """The tiles of a film in one of some orders; which one (Noroozi & Favaro 2016, arXiv:1603.09246).

    Their context-free network: every tile passes the backbone by itself, is pooled and shortened; the tiles side by
    side tell the order. Since no tile knows of another before that, it is what comes out of the backbone that we put in
    order. Where we depart from the paper: the backbone keeps its strides, and the head has no dropout.

    Args:
        permutations: How many orders there are to tell apart; see `permutations.distant`.
        permutation_seed: Another one gives other orders.
        cells: Per side of the film, so that there are cells x cells tiles.
        tile: Side of a tile in pixels; null takes the largest that fills 7/8 of a cell's side at most.
        jitter: Pixels by which the places of tiles differ at most; null takes all that the cell leaves. See `Tiles`.
        embedding: Width of a tile as the head sees it.
        hidden: Width of the head's hidden layer.
        whole_batches: See `Method.whole_batches`; batch norms have seen tiles.
        **kwargs: See `Method`.

    Raises:
        UserError: If the tiles do not fit, or there are not as many orders.
    """

    permutations_KT: Tensor

    def __init__(
        self,
        permutations: int = 1000,
        permutation_seed: int = 0,
        cells: int = 3,
        tile: int | None = None,
        jitter: int | None = None,
        embedding: int = 512,
        hidden: int = 4096,
        whole_batches: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.whole_batches = whole_batches
        pool_batch_norms(self.backbone)
        most = [f"model.cells must be 15 or fewer, not {cells}."] * (cells > 15)  # orders are kept in bytes
        refuse([*below(1, embedding=embedding, hidden=hidden), *most])
        self.tiles, self.permutation_seed = Tiles(self.backbone, cells, tile, jitter), permutation_seed
        orders_KT = torch.from_numpy(distant(permutations, len(self.tiles), permutation_seed))
        self.register_buffer("permutations_KT", orders_KT)
        self.embed = nn.Sequential(nn.Linear(self.backbone.width, embedding), nn.ReLU(inplace=True))
        self.head = ProjectionHead(len(self.tiles) * embedding, hidden, permutations)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the orders, one puzzle per film, and the accuracy."""
        tiles_BTE = self.embed(encode(self.backbone, self.tiles(batch["image"])))
        order_B = torch.randint(len(self.permutations_KT), (len(tiles_BTE),), device=tiles_BTE.device)
        logits_BK = self.head(gather(tiles_BTE, self.permutations_KT[order_B]).flatten(1)).float()
        accuracy = (logits_BK.argmax(dim=1) == order_B).float().mean()
        return {"loss": nn.functional.cross_entropy(logits_BK, order_B), "accuracy": accuracy}

    def _settings(self) -> dict[str, Any]:
        """Also what the puzzles are."""
        ours = {"permutations": len(self.permutations_KT), "permutation_seed": self.permutation_seed}
        named = {f"model.{name}": value for name, value in {**self.tiles.settings(), **ours}.items()}
        return {**super()._settings(), **named}
