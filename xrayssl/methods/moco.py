"""Momentum contrast: which of many films is this another view of?"""

from __future__ import annotations

import logging
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from xrayssl.contrast import info_nce, variance_hinge
from xrayssl.errors import below, not_above_zero, refuse
from xrayssl.gathering import shuffled, world
from xrayssl.heads import ProjectionHead
from xrayssl.memory_bank import MemoryBank
from xrayssl.methods.base import Batch, Method
from xrayssl.momentum import MomentumNetwork, check_momentum
from xrayssl.views import TWO_VIEWS, check_views, pair

log = logging.getLogger(__name__)


class MoCo(Method):
    """Tells the other view of a film from a queue of other films (He et al. 2019, arXiv:1911.05722; version 2: Chen et
    al. 2020, arXiv:2003.04297).

    One view's query comes from the network, the other's key from a slowly following copy; both through a perceptron
    without batch norm. The queue has the keys of earlier batches, and random directions before there are any. Two
    departures: earlier keys of a film are not among its own negatives, and a queue is never longer than there are
    training films, of which it would hold the same one twice. On 65536 films of ImageNet's 1.3 million neither matters;
    on a few thousand chest films every query would be pushed away from itself.

    Batch norms leak: a query and its own key have seen the same batch, the queue's have not. Over several processes
    keys are shuffled between them, as in the paper (section 3.3). One process has nobody to shuffle with: `splits` lets
    it do so between parts of its batch. A ViT has no batch norms, and nothing is shuffled.

    On films that look alike this method can collapse: all embeddings in one direction, the loss at log(queue + 1).
    `variance` holds against it.

    The papers train CNNs by SGD at a rate of 0.03. Ours is AdamW for CNN and ViT, as in version 3 for ViT (Chen et al.
    2021, arXiv:2104.02057): rates of 1.5e-4 to 1e-3 train both.

    Args:
        queue: Keys of other films to compare with.
        momentum: Share of its old weights that the copy keeps in a step, 0-1. It needs some 1 / (1 - momentum) steps to
            follow: for a run of a few thousand, 0.99 is better than 0.999.
        temperature: Divides the cosines, > 0.
        hidden: Width of the perceptron's hidden layer; null is that of the backbone.
        embedding: E of the embeddings that are compared.
        symmetric: Each view is a query once and a key once: more is learned from a step, which takes twice as long.
        variance: Weight of the variance hinge (Bardes et al. 2021, arXiv:2105.04906) on the queries, times sqrt(E);
            0 for none.
        splits: Parts of a process's batch whose batch norms do not see each other.
        fixed_patches: Leave a ViT's random patch projection as it is, which keeps large batches stable (Chen et al.
            2021, section 4.2).
        **kwargs: See `Method`.

    Raises:
        UserError: If an argument makes no sense, or films come in one view.
    """

    needs: ClassVar[tuple[str, ...]] = (TWO_VIEWS,)

    def __init__(
        self,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        hidden: int | None = None,
        embedding: int = 128,
        symmetric: bool = False,
        variance: float = 0.0,
        splits: int = 1,
        fixed_patches: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        widths = {"hidden": self.backbone.width if hidden is None else hidden, "embedding": embedding}
        _check(queue, momentum, temperature, variance, splits, fixed_patches and not self.backbone.is_vit, widths)
        self.queue, self.momentum, self.temperature = queue, momentum, temperature
        self.symmetric, self.variance, self.splits, self.fixed_patches = symmetric, variance, splits, fixed_patches
        self.head = ProjectionHead(self.backbone.width, widths["hidden"], embedding)
        if fixed_patches:
            self.backbone.network.patch_embed.proj.requires_grad_(False)
        self.target_backbone, self.target_head = MomentumNetwork(self.backbone), MomentumNetwork(self.head)
        self.has_batch_norms = any(isinstance(part, _NormBase) for part in self.backbone.modules())
        self.bank = MemoryBank(queue, embedding)
        self._fresh: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE over a film's own key and the queue, and the share of films whose own key is the most similar."""
        one, two = pair("MoCo", batch)
        views = [(one, two), (two, one)][: 1 + self.symmetric]
        queries, keys = [self.query(seen) for seen, _ in views], [self.key(other) for _, other in views]
        apart_BN = batch["index"][:, None] == self.bank.film_N
        found = [
            info_nce(query_BE, key_BE, self.bank.embedding_NE, self.temperature, apart_BN)
            for query_BE, key_BE in zip(queries, keys, strict=True)
        ]
        contrast, accuracy = (torch.stack(values).mean() for values in zip(*found, strict=True))
        if self.training:
            self._fresh = torch.cat(keys), batch["index"].repeat(len(keys))
        if not self.variance:
            return {"loss": contrast, "accuracy": accuracy}
        hinge = torch.stack([variance_hinge(math.sqrt(one.shape[1]) * one) for one in queries]).mean()
        return {"loss": contrast + self.variance * hinge, "contrast": contrast, "hinge": hinge, "accuracy": accuracy}

    def query(self, image_BCHW: Tensor) -> Tensor:
        """Embeddings of length 1 of views, from the network that is trained: query_BE."""
        grid_BDhw = torch.cat([self.backbone(part) for part in self._parts(image_BCHW)])
        return nn.functional.normalize(self.head(grid_BDhw.mean(dim=(2, 3))).float())

    def project(self, feature_BD: Tensor) -> Tensor:
        """The embeddings (B, E) of mean-pooled features."""
        return self.head(feature_BD)

    def key(self, image_BCHW: Tensor) -> Tensor:
        """The same from the copy that follows, without a gradient: key_BE."""
        mixes = self.training and self.has_batch_norms and (world() > 1 or self.splits > 1)
        return shuffled(self._encode, image_BCHW) if mixes else self._encode(image_BCHW)

    def setup(self, stage: str) -> None:
        """Fits the queue to the training films."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        parts = self.splits if self.has_batch_norms else 1
        check_views("MoCo", data, 2 * parts if stage == "fit" and parts > 1 else 1)
        if stage != "fit":  # the checkpoint's is taken then
            return
        films = len(data.manifest.rows("train")) if hasattr(data, "manifest") else self.queue
        if 0 < films < len(self.bank):
            log.warning("The queue of %d embeddings would hold each of the %d training films more than once: it gets "
                        "%d places. --model.queue %d says the same.", len(self.bank), films, films, films)  # fmt: skip
            self.bank.shorten(films)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also takes the length of its queue where nothing is trained: that run may have learned from other films."""
        kept = checkpoint["state_dict"].get("bank.film_N")
        if not self._fits and kept is not None:
            self.bank.shorten(len(kept))
        super().on_load_checkpoint(checkpoint)

    def start(self) -> None:
        """Takes the weights that `init_from` names, in the copy, too."""
        super().start()
        self._follow(0.0)

    def on_after_backward(self) -> None:
        """Puts the step's keys into the queue, which its gradient has been computed with by now."""
        if self._fresh is not None:
            self.bank.enqueue(*self._fresh)
            self._fresh = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lets the copy follow."""
        super().optimizer_step(*args, **kwargs)
        self._follow(self.momentum)

    def _follow(self, momentum: float) -> None:
        self.target_backbone.follow(self.backbone, momentum)
        self.target_head.follow(self.head, momentum)

    def _encode(self, image_BCHW: Tensor) -> Tensor:
        grid_BDhw = torch.cat([self.target_backbone(part) for part in self._parts(image_BCHW)])
        return nn.functional.normalize(self.target_head(grid_BDhw.mean(dim=(2, 3))).float())

    def _parts(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        return image_BCHW.tensor_split(self.splits if self.training and self.has_batch_norms else 1)

    def _settings(self) -> dict[str, Any]:
        """Also what the films are compared with, and how."""
        names = ("queue", "momentum", "temperature", "symmetric", "variance", "splits", "fixed_patches")
        return {**super()._settings(), **{f"model.{name}": getattr(self, name) for name in names}}


def _check(
    queue: int, momentum: float, temperature: float, variance: float, splits: int, patchless: bool,
    widths: dict[str, int],
) -> None:  # fmt: skip
    small = [*below(1, queue=queue, splits=splits, **widths), *below(0, variance=variance)]
    unfit = ["model.fixed_patches is for a ViT: leave it out for this network."] * patchless
    refuse([*check_momentum(momentum), *small, *not_above_zero(temperature=temperature), *unfit])
