"""Telling every film from every other, whatever is done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.contrast import cosines, nt_xent
from xrayssl.errors import below, not_above_zero, refuse
from xrayssl.gathering import before, gather
from xrayssl.heads import ProjectionHead
from xrayssl.methods.base import Batch, Method
from xrayssl.views import check_views, features, pair

NAME = "Exemplar (kind: instance)"


class Exemplar(Method):
    """Each training film is a class of its own, and its random views are the examples.

    "surrogate" has a linear layer with one output per film (Dosovitskiy et al. 2014, arXiv:1406.6909), which is for
    small sets: beyond some 8000 classes the paper gained nothing more, and the layer outgrows the network. "instance"
    compares two views of a film with those of the other films of a batch instead (Wu et al. 2018, arXiv:1805.01978;
    with NT-Xent, Chen et al. 2020, arXiv:2002.05709), for any number of films.

    A film that was never trained on has no class, so that validation of "surrogate" has no loss. Where there are two
    views it measures `val/matched`: the share of films whose second view is, by the cosine of pooled features, the
    most similar to the first of the second views of all films in the batch.

    Args:
        kind: "surrogate", "instance", or "auto": the first for up to `most_classes` training films.
        most_classes: For "auto".
        temperature: For "instance": divides the cosines, > 0.
        hidden: For "instance": width of the projection's hidden layer.
        embedding: For "instance": width of the embedding.
        **kwargs: See `Method`.

    Raises:
        UserError: If a number is outside its range.
    """

    needs: ClassVar[tuple[str, ...]] = ("two views of a film, `--data.augment.views 2`, for the kind `instance`",)
    row_N: Tensor
    head: nn.Module

    def __init__(
        self,
        kind: Literal["surrogate", "instance", "auto"] = "auto",
        most_classes: int = 8000,
        temperature: float = 0.1,
        hidden: int = 512,
        embedding: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(most_classes=most_classes, hidden=hidden, embedding=embedding, temperature=temperature)
        self.kind, self.most_classes, self.temperature = kind, most_classes, temperature
        self.widths = hidden, embedding
        self.register_buffer("row_N", torch.zeros(0, dtype=torch.int64), persistent=False)
        if kind == "instance":
            self.discriminate()

    def configure_model(self) -> None:
        """Builds what depends on the number of films, before there is an optimiser, a checkpoint or DDP.

        Raises:
            UserError: If "instance" gets films in one view.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if "head" not in self._modules:
            self._choose(data.manifest.rows("train").tolist())
        if self.kind == "instance":
            check_views(NAME, data, 2 if self._fits and self.trainer.world_size == 1 else 1)  # others to be told from

    def _choose(self, rows: list[int]) -> None:
        """Makes up its mind by the number of training films, and says so."""
        if self.kind == "auto" and len(rows) > self.most_classes:
            rank_zero_info(
                f"Exemplar: {len(rows)} training films are more than the {self.most_classes} of model.most_classes, "
                "so two views of each are compared with those of others (kind: instance)."
            )
            self.discriminate()
        else:
            rank_zero_info(f"Exemplar: {len(rows)} training films are as many classes (kind: surrogate).")
            self.classify(rows)

    def classify(self, rows: Sequence[int]) -> None:
        """Makes a class of each of these films.

        Args:
            rows: Of the manifest; a batch's `index` names films by them.
        """
        self.kind, self.row_N = "surrogate", torch.tensor(sorted(rows), device=self.device)
        self.head = nn.Linear(self.backbone.width, len(rows), device=self.device)

    def discriminate(self) -> None:
        """Compares films, however many there are; with those of other processes, whose statistics are shared."""
        self.kind = "instance"
        pool_batch_norms(self.backbone)
        self.head = ProjectionHead(self.backbone.width, *self.widths).to(self.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of telling films apart, in nats, and how often that succeeds."""
        if self.kind == "instance":
            return self._compare(pair(NAME, batch))
        views = batch.get("views", [batch["image"]])
        return self._classify(views, batch["index"]) if self.training else self._match(views)

    def project(self, feature_BD: Tensor) -> Tensor | None:
        """The embeddings (B, E) of mean-pooled features, where they are compared."""
        return self.head(feature_BD) if self.kind == "instance" else None

    def _classify(self, views: list[Tensor], index_B: Tensor) -> dict[str, Tensor]:
        class_M = torch.searchsorted(self.row_N, index_B).repeat(len(views))
        logits_MN = self.head(torch.cat(features(self.backbone, views))).float()
        accuracy = (logits_MN.argmax(dim=1) == class_M).float().mean()
        return {"loss": nn.functional.cross_entropy(logits_MN, class_M), "accuracy": accuracy}

    def _compare(self, views: list[Tensor]) -> dict[str, Tensor]:
        embedding_ME = self.head(torch.cat(features(self.backbone, views)))
        one_BE, two_BE = nn.functional.normalize(embedding_ME.float()).chunk(2)
        loss, accuracy = nt_xent(one_BE, two_BE, self.temperature)
        return {"loss": loss, "accuracy": accuracy}

    def _match(self, views: list[Tensor]) -> dict[str, Tensor]:
        """How often two views of a film find each other; nothing where there are no two of one size."""
        if len(views) < 2 or views[0].shape != views[1].shape:
            return {}
        one_BD, two_BD = (nn.functional.normalize(view_BD.float()) for view_BD in features(self.backbone, views[:2]))
        own_B = before(one_BD) + torch.arange(len(one_BD), device=one_BD.device)
        nearest_B = cosines(one_BD, gather(two_BD)).argmax(dim=1)
        return {"matched": (nearest_B == own_B).float().mean()}

    def _settings(self) -> dict[str, Any]:
        """Also how films are told apart."""
        settings = {**super()._settings(), "model.kind": self.kind}
        if self.kind == "instance":
            settings.update({"model.temperature": self.temperature, "model.hidden, model.embedding": self.widths})
        return settings


def _check(most_classes: int, hidden: int, embedding: int, temperature: float) -> None:
    small = [*below(0, most_classes=most_classes), *below(1, hidden=hidden), *below(2, embedding=embedding)]
    refuse([*small, *not_above_zero(temperature=temperature)])
