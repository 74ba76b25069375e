"""Bootstrap your own latent: predicting what a slower copy of the network makes of another view."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.contrast import variance_hinge
from xrayssl.errors import below, refuse
from xrayssl.heads import ProjectionHead
from xrayssl.methods.base import Batch, Method
from xrayssl.momentum import MomentumNetwork, check_momentum
from xrayssl.views import TWO_VIEWS, check_views, pair


class BYOL(Method):
    """Predicts a film's embedding by a slowly following copy of the network from another view of it, without negatives
    (Grill et al. 2020, arXiv:2006.07733).

    The copy is in training mode, as in the paper's code. Batch norms take their statistics over all processes, as
    there; ours do so on any device (`PooledBatchNorm2d`).

    On films that look alike the loss may fall because all embeddings become one: watch their spread, and give
    `variance` a weight.

    The paper trains by LARS at large batches. AdamW at rates of 1.5e-4 to 1e-3 trains CNN and ViT.

    Args:
        momentum: Share of its old weights that the copy keeps in the first step, 0-1; it grows to 1 by a half cosine
            over the training (section 3.2).
        hidden: Width of the hidden layer of projector and predictor.
        embedding: E of the embeddings that are predicted.
        variance: Weight of the variance hinge (Bardes et al. 2021, arXiv:2105.04906) on the projections, scaled to the
            length sqrt(E); 0 for none.
        **kwargs: See `Method`.

    Raises:
        UserError: If an argument makes no sense, or films come in one view.
    """

    needs: ClassVar[tuple[str, ...]] = (TWO_VIEWS,)

    def __init__(
        self,
        momentum: float = 0.996,
        hidden: int = 4096,
        embedding: int = 256,
        variance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        small = [*below(1, hidden=hidden, embedding=embedding), *below(0, variance=variance)]
        refuse([*check_momentum(momentum), *small])
        self.momentum, self.variance = momentum, variance
        self.projector = ProjectionHead(self.backbone.width, hidden, embedding, norm=True)
        self.predictor = ProjectionHead(embedding, hidden, embedding, norm=True)
        pool_batch_norms(self)
        self.target_backbone, self.target_projector = MomentumNetwork(self.backbone), MomentumNetwork(self.projector)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """2 - 2 cos between prediction and target, of either view from the other one, added (equations 2 and 3)."""
        views = pair("BYOL", batch)
        projections = [self.projector(self.backbone(view_BCHW).mean(dim=(2, 3))) for view_BCHW in views]
        targets = [self.target_projector(self.target_backbone(view_BCHW).mean(dim=(2, 3))) for view_BCHW in views]
        distances = [
            _distance(self.predictor(one_BE), other_BE)
            for one_BE, other_BE in zip(projections, reversed(targets), strict=True)
        ]
        distance = torch.stack(distances).sum()
        if not self.variance:
            return {"loss": distance}
        hinge = torch.stack([variance_hinge(_spread(one_BE)) for one_BE in projections]).mean()
        return {"loss": distance + self.variance * hinge, "distance": distance, "hinge": hinge}

    def project(self, feature_BD: Tensor) -> Tensor:
        """The embeddings (B, E) of mean-pooled features."""
        return self.projector(feature_BD)

    @property
    def target_momentum(self) -> float:
        """The momentum of the next step: 1 - (1 - momentum) * (cos(pi * progress) + 1) / 2."""
        return 1 - (1 - self.momentum) * (math.cos(math.pi * self.progress) + 1) / 2

    def setup(self, stage: str) -> None:
        """Refuses films in one view."""
        super().setup(stage)
        together = 2 if stage == "fit" and self.trainer.world_size == 1 else 1  # the heads' batch norms need two films
        check_views("BYOL", getattr(self.trainer, "datamodule", None), together)

    def start(self) -> None:
        """Takes the weights that `init_from` names, in the copy, too."""
        super().start()
        self._follow(0.0)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lets the copy follow."""
        super().optimizer_step(*args, **kwargs)
        self._follow(self.target_momentum)

    def _follow(self, momentum: float) -> None:
        self.target_backbone.follow(self.backbone, momentum)
        self.target_projector.follow(self.projector, momentum)

    def _settings(self) -> dict[str, Any]:
        """Also how the copy follows, and the hinge's weight."""
        return {**super()._settings(), "model.momentum": self.momentum, "model.variance": self.variance}


def _distance(one_BE: Tensor, other_BE: Tensor) -> Tensor:
    return (2 - 2 * nn.functional.cosine_similarity(one_BE.float(), other_BE.float())).mean()


def _spread(one_BE: Tensor) -> Tensor:
    """Directions, as vectors of length sqrt(E)."""
    return math.sqrt(one_BE.shape[1]) * nn.functional.normalize(one_BE.float())
