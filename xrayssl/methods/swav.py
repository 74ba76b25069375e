"""Predicting which prototypes one view of a film belongs to, from another view."""

from __future__ import annotations

import logging
import math
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.contrast import cosines, variance_hinge
from xrayssl.errors import below, not_above_zero, refuse
from xrayssl.gathering import rank, world
from xrayssl.heads import ProjectionHead
from xrayssl.memory_bank import MemoryBank
from xrayssl.methods.base import Batch, Method
from xrayssl.sinkhorn import sinkhorn
from xrayssl.views import TWO_VIEWS, check_views, features, pair

log = logging.getLogger(__name__)
ASSIGNED = 2  # views that get a code: the large ones
EVEN = 0.9  # of all prototypes: a code over more of them is taken for one over all


class SwAV(Method):
    """Predicts from one view of a film which prototypes another view is assigned to (Caron et al. 2020,
    arXiv:2006.09882).

    The embedding of a view is compared with prototypes, which are learned. Codes share the films of a batch, of all
    processes, out evenly over the prototypes (`xrayssl.sinkhorn`); each other view of the film is to predict the code.
    The first two views get codes, further ones and small crops (--data.augment.small) only predict (section 3.2).
    Batch norms pool their statistics over all processes. Where we depart from the paper: prototypes are normalised
    where they are used, not after each step, and AdamW stands for LARS.

    Validation predicts the codes of the validation batch, beside the films in the queue, and moves nothing.

    Args:
        prototypes: How many there are; 3000 in the paper, for 1000 classes of photographs. A batch and the queue
            together should have more films than that.
        hidden: Width of the projector's hidden layer.
        embedding: Width of the embedding.
        temperature: Of the predictions, > 0.
        epsilon: Smoothness of the codes, > 0; 0.05 in the paper. Films resemble each other, so that their cosines lie
            close together: with 0.03 the codes of a ViT became uniform within 50 steps, with 0.02 CNN and ViT learned.
        iterations: Of Sinkhorn and Knopp, 1 or more.
        queue: Embeddings of earlier films, for each of the two views, that are shared out together with a small batch
            (3840 in the paper); 0 for none.
        queue_after: Epochs before the queue is used, as what it holds changes too fast at first.
        freeze: Epochs at the start in which the prototypes stay as they are (appendix A).
        variance: Weight of the variance hinge of VICReg on the embeddings of the first two views, a remedy where all
            films are mapped to one point; 0 for none.
        **kwargs: See `Method`.

    Raises:
        UserError: If a number is outside its range, or films come in one view.
    """

    needs: ClassVar[tuple[str, ...]] = (TWO_VIEWS,)
    queued: Tensor
    used_K: Tensor
    entropy: Tensor

    def __init__(
        self,
        prototypes: int = 300,
        hidden: int = 2048,
        embedding: int = 128,
        temperature: float = 0.1,
        epsilon: float = 0.02,
        iterations: int = 3,
        queue: int = 0,
        queue_after: int = 15,
        freeze: int = 1,
        variance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.options = {
            "prototypes": prototypes, "hidden": hidden, "embedding": embedding, "temperature": temperature,
            "epsilon": epsilon, "iterations": iterations, "queue": queue, "queue_after": queue_after,
            "freeze": freeze, "variance": variance,
        }  # fmt: skip
        _check(self.options)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.queue_after, self.frozen_epochs, self.variance = queue_after, freeze, variance
        self.head = ProjectionHead(self.backbone.width, hidden, embedding, norm=True)
        self.prototype_KE = nn.Parameter(nn.functional.normalize(torch.randn(prototypes, embedding)))
        self.queues = nn.ModuleList(MemoryBank(queue, embedding) for _ in range(ASSIGNED) if queue)
        self.register_buffer("queued", torch.zeros((), dtype=torch.bool))  # for whoever validates the weights alone
        self.register_buffer("used_K", torch.zeros(prototypes), persistent=False)
        self.register_buffer("entropy", torch.zeros(()), persistent=False)  # of the codes of validation films, summed
        self._even = False
        pool_batch_norms(self)

    def setup(self, stage: str) -> None:
        """Refuses films in one view, and says so where they are few for the prototypes."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        check_views("SwAV", data, 2 if stage == "fit" and self.trainer.world_size == 1 else 1)  # for the batch norm
        together = getattr(data, "batch_size", math.inf) * self.trainer.world_size + self.options["queue"]
        if stage == "fit" and together < len(self.prototype_KE):
            log.warning(
                "%d films at a time are shared out over %d prototypes, too many to be told apart: raise "
                "--data.batch_size or --model.queue (3840 in the paper), or lower --model.prototypes.",
                together, len(self.prototype_KE),
            )  # fmt: skip

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of the swapped predictions, in nats; with `variance` its hinge beside it."""
        pair("SwAV", batch)
        units = self.embed(batch["views"])
        scores = [cosines(unit_BE, self._prototypes()) for unit_BE in units]
        codes = [self._code(number, units[number], scores[number]) for number in range(ASSIGNED)]
        swapped = [
            nn.functional.cross_entropy(scores[view] / self.temperature, codes[number])
            for number, view in product(range(ASSIGNED), range(len(units)))
            if view != number
        ]
        if not self.training:
            self.used_K += torch.bincount(scores[0].argmax(dim=1), minlength=len(self.used_K))
            self.entropy -= torch.special.xlogy(codes[0], codes[0]).sum()
        loss = torch.stack(swapped).mean()
        if not self.variance:
            return {"loss": loss}
        scale = self.options["embedding"] ** 0.5
        hinge = torch.stack([variance_hinge(unit_BE * scale) for unit_BE in units[:ASSIGNED]]).mean()
        return {"loss": loss + self.variance * hinge, "swapped": loss, "variance": hinge}

    def embed(self, views: list[Tensor]) -> list[Tensor]:
        """Embeddings of length 1, (B, E) of each view; all pass the projector together."""
        embedding_ME = self.head(torch.cat(features(self.backbone, views)))
        return list(nn.functional.normalize(embedding_ME.float()).chunk(len(views)))

    def project(self, feature_BD: Tensor) -> Tensor:
        """The embeddings (B, E) of mean-pooled features."""
        return self.head(feature_BD)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keeps the prototypes as they are in the first epochs."""
        if self.current_epoch < self.frozen_epochs:
            self.prototype_KE.grad = None

    def on_validation_epoch_start(self) -> None:
        """Counts the prototypes in use anew."""
        self.used_K.zero_()
        self.entropy.zero_()

    def on_validation_epoch_end(self) -> None:
        """Logs how many prototypes are the nearest of some validation film, how evenly, and how many a film's code is
        spread over; says it in words when that is nearly all of them."""
        reduce = self.trainer.strategy.reduce
        used_K, entropy = (reduce(sums.clone(), reduce_op="sum") for sums in (self.used_K, self.entropy))
        films = used_K.sum().clamp(min=1)
        share_K, per_film = used_K / films, torch.exp(entropy / films)
        self.log("val/prototypes_used", (used_K > 0).float().sum())
        self.log("val/prototypes_per_film", per_film)
        self.log("val/perplexity", torch.exp(-torch.special.xlogy(share_K, share_K).sum()), prog_bar=True)
        even = per_film.item() > EVEN * len(used_K) and self._fits and self.current_epoch >= self.frozen_epochs
        if even and not self._even:
            log.warning(
                "The codes tell next to nothing: a film's is spread over %.0f of %d prototypes, and the loss stays at "
                "log(prototypes), %.2f. Lower --model.epsilon (0.02 or 0.01), or --model.optim.lr.",
                per_film.item(), len(used_K), math.log(len(used_K)),
            )  # fmt: skip
        self._even = even

    def _prototypes(self) -> Tensor:
        return nn.functional.normalize(self.prototype_KE)

    @torch.no_grad()
    def _code(self, number: int, unit_BE: Tensor, score_BK: Tensor) -> Tensor:
        """The codes of one of the first views, among what the queue holds of the same view."""
        if not self.queues:
            return sinkhorn(score_BK, self.epsilon, self.iterations)
        bank = self.queues[number]
        assert isinstance(bank, MemoryBank)
        if self.training:
            self.queued.fill_(self.current_epoch >= self.queue_after)
        if self.queued and bank.filled == len(bank):
            part_NE = bank.embedding_NE[rank() :: world()]  # alike in all processes, and to be counted once
            score_BK = torch.cat([score_BK, cosines(part_NE, self._prototypes())])
        if self.training:
            bank.enqueue(unit_BE)
        return sinkhorn(score_BK, self.epsilon, self.iterations)[: len(unit_BE)]

    def _settings(self) -> dict[str, Any]:
        """Also what the prototypes, codes and queue are."""
        return {**super()._settings(), **{f"model.{name}": value for name, value in self.options.items()}}


def _check(options: dict[str, Any]) -> None:
    def of(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names}

    refuse([
        *below(2, **of("prototypes", "embedding")), *below(1, **of("hidden", "iterations")),
        *not_above_zero(**of("temperature", "epsilon")), *below(0, **of("queue", "queue_after", "freeze", "variance")),
    ])  # fmt: skip
