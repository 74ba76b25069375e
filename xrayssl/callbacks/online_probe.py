"""Whether the representation improves, and not only the loss: probes on labelled films while a stage trains."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from xrayssl.callbacks.checkpoints import ends
from xrayssl.callbacks.frozen import by_the_first, features, frozen, parts, some
from xrayssl.data import XrayDataModule
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError
from xrayssl.methods import Method
from xrayssl.probing import Probe, both_outcomes, probe

log = logging.getLogger(__name__)


class OnlineProbe(Callback):
    """Logs probe/knn_auroc and probe/linear_auroc: what the frozen backbone's mean-pooled grid tells of labels.

    Training films are what is learned from, validation films what is measured; test films are never read. See
    `xrayssl.probing` for the two probes. The training is the same, bit for bit, with and without. The films are read
    once, by the first process, and kept in memory (50 KB each at 224 px).

    Args:
        every: Epochs between two probes. One comes before the training, another at its end.
        films: Most films of each of the two splits; null takes all. Patients are taken whole, in the order of a hash of
            their names.
        corpora: Labelled films, as --data.corpora, with the split that a stage has which is given no other; null takes
            those that are trained on. What --data says of reading, preparing and excluding holds for them too.
        labels: Classes of those corpora to probe for; null takes all.

    Raises:
        UserError: If an argument makes no sense.
    """

    def __init__(
        self,
        every: int = 5,
        films: int | None = 2000,
        corpora: dict[str, str | dict[str, Any]] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        if every < 1 or (films is not None and films < 1):
            raise UserError(f"OnlineProbe: every and films must be 1 or more, not {every} and {films}.")
        if labels is not None and corpora is None:
            raise UserError("OnlineProbe: labels go with corpora; for the run's own films set --data.labels.")
        self.every, self.films, self.corpora, self.labels = every, films, corpora, labels
        self._data: XrayDataModule
        self._rows: list[np.ndarray] = []
        self._images: list[Tensor] = []
        self._labels: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the films.

        Raises:
            UserError: If none have labels, or the two splits have no class with both outcomes.
        """
        if stage != "fit":
            return
        self._data = self._source(trainer, pl_module)
        manifest = self._data.manifest
        if manifest.task is None or not manifest.classes:
            raise UserError("OnlineProbe needs labels, and these films have none; give it corpora that do.")
        most = 2 * self._data.batch_size if trainer.fast_dev_run else self.films  # type: ignore[attr-defined]
        self._rows = [chosen(manifest, split, most) for split in ("train", "val")]
        sides = [torch.from_numpy(manifest.labels()[rows]) for rows in self._rows]
        defined = [all(both_outcomes(side_NK[:, k]) for side_NK in sides) for k in range(len(manifest.classes))]
        if not any(defined) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            counts = " and ".join(str(len(rows)) for rows in self._rows)
            raise UserError(
                f"OnlineProbe has nothing to measure: among its {counts} films for training and validation no class "
                "has films with and without it in both; raise its films, or give it other corpora."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probes what the training starts from."""
        if trainer.global_step:  # a resumed run has that figure
            return
        figures = self._measure(trainer, pl_module)
        left_out = f"; left out: {', '.join(figures.undefined)}" if figures.undefined else ""
        log.info("Before training, %d films probed by %d others: AUROC %.3f (nearest), %.3f (linear)%s.",
                 len(self._rows[1]), len(self._rows[0]), figures.knn, figures.linear, left_out)  # fmt: skip
        for logger in trainer.loggers:
            logger.log_metrics({**_named(figures), "probe/films": float(len(self._rows[1]))}, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probes and logs, where it is time."""
        if (trainer.current_epoch + 1) % self.every == 0 or ends(trainer):
            for name, value in _named(self._measure(trainer, pl_module)).items():
                pl_module.log(name, value, sync_dist=True)

    def _source(self, trainer: Trainer, model: LightningModule) -> XrayDataModule:
        method, data = parts(trainer, model, "OnlineProbe")
        if self.corpora is None:
            return data
        return type(data)(
            corpora=self.corpora,
            labels=self.labels,
            img_size=method.backbone.img_size,
            batch_size=data.batch_size,
            num_workers=data.workers,
            augment=data.augment,
            window=data.window,
            limits=data.limits,
            first_frame=data.first_frame,
            exclude=data.exclude,
        )

    def _measure(self, trainer: Trainer, model: LightningModule) -> Probe:
        assert isinstance(model, Method)
        return by_the_first(trainer, lambda: self._probe(trainer, model))

    def _probe(self, trainer: Trainer, model: Method) -> Probe:
        if not self._images:
            self._read()
        with frozen(trainer, model, self._images[0].split(self._data.batch_size)):
            bank_ND, query_MD = (self._features(model, images) for images in self._images)
        manifest = self._data.manifest
        assert manifest.task is not None
        return probe(bank_ND, self._labels[0], query_MD, self._labels[1], manifest.task, manifest.classes)

    def _read(self) -> None:
        for rows in self._rows:
            batches = list(self._data.central(rows))
            self._images.append(torch.cat([batch["image"] for batch in batches]))
            self._labels.append(torch.cat([batch["label"] for batch in batches]))

    def _features(self, model: Method, image_NCHW: Tensor) -> Tensor:
        return features(model, image_NCHW, self._data.batch_size)


def chosen(manifest: Manifest, split: str, most: int | None) -> np.ndarray:
    """Rows of labelled films of a split: all, or those of the patients whose names' hashes come first, whole patients,
    as many as fit (of the very first, some films, if it has more).

    Raises:
        UserError: If there are none.
    """
    rows = manifest.rows(split)
    rows = rows[~np.isnan(manifest.labels()[rows]).all(axis=1)]
    if not len(rows):
        raise UserError(f"OnlineProbe finds no labelled film in the split {split!r}; give it corpora that have some.")
    return some(manifest, rows, most)


def _named(figures: Probe) -> dict[str, float]:
    return {"probe/knn_auroc": figures.knn, "probe/linear_auroc": figures.linear}
