"""From a backbone to labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.heads import LinearHead
from xrayssl.methods.base import Batch, Method
from xrayssl.metrics import Gathered, Predictions, auroc


class Finetune(Method):
    """Trains a classifier on a backbone, or only its linear layer, and predicts (recipe: Xiao et al. 2022,
    arXiv:2210.12843, appendix).

    Args:
        classes: Names of the outputs; taken from the data.
        task: "multilabel" (binary cross-entropy per class, unknown labels left out) or "multiclass"
            (cross-entropy); taken from the data.
        mode: "full" trains everything, "linear" keeps the backbone as it is.
        score: What a prediction is measured on: each "film", or each "study" (the mean probability over its films, as
            MURA is scored); taken from the data.
        **kwargs: See `Method`.

    Raises:
        UserError: If the data have no labels.
    """

    monitor: ClassVar[tuple[str, str] | None] = ("val/auroc", "max")
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(
        self,
        classes: list[str] | None = None,
        task: Literal["multilabel", "multiclass"] | None = None,
        mode: Literal["full", "linear"] = "full",
        score: Literal["film", "study"] = "film",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not classes or task is None:
            raise UserError("Fine-tuning needs labels, and these corpora have none in common; see --data.corpora.")
        self.classes, self.task, self.mode, self.score = list(classes), task, mode, score
        self.head = LinearHead(self.backbone.width, len(classes), standardize=mode == "linear")
        self.predictions = Predictions()
        if mode == "linear":
            self.backbone.requires_grad_(False)
        self.train()

    def train(self, training: bool = True) -> Finetune:
        """Sets the mode; a frozen backbone stays in evaluation, or its batch norm would move."""
        super().train(training)
        self.backbone.train(training and self.mode == "full")
        return self

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of normalised films."""
        return self.head(self.backbone(image_BCHW)).float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the known labels."""
        return {"loss": self._loss(self(batch["image"]), batch["label"])}

    def probabilities(self, logits_BK: Tensor) -> Tensor:
        """Probabilities (B, K): they sum to 1 for classes, each stands alone for findings."""
        return logits_BK.softmax(dim=1) if self.task == "multiclass" else logits_BK.sigmoid()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and keeps the predictions."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and keeps the predictions."""
        self._evaluate("test", batch)

    def on_train_start(self) -> None:
        """Looks at the labels of the films that will be validated, before anything is learned.

        Raises:
            UserError: If they define no AUROC; see `on_validation_epoch_end`.
        """
        trainer: Any = self.trainer
        data: Any = getattr(trainer, "datamodule", None)
        learned = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
        validated = learned >= trainer.val_check_batch * (trainer.check_val_every_n_epoch or 1)
        films = sum(trainer.num_val_batches) * getattr(data, "batch_size", 0) * trainer.world_size
        if not films or not validated or trainer.fast_dev_run or not hasattr(data, "manifest"):
            return
        label_NK = data.manifest.labels()[data.manifest.rows("val")]
        if not _defined(label_NK[:films]):
            raise self._undefined(min(films, len(label_NK)))

    def on_validation_epoch_end(self) -> None:
        """Logs the macro AUROC over the classes that the validation films (or studies) define; it selects the
        checkpoint.

        Raises:
            UserError: If they define none: the selection would keep the first epoch for ever.
        """
        films = self._gathered()
        scored = films if self.score == "film" else results.by_study(films, self._place()[1], self.task)
        auroc_K = torch.tensor([auroc(p, y) for p, y in zip(scored.probability.T, scored.label.T, strict=True)])
        trial = self.trainer.sanity_checking or self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if auroc_K.isnan().all() and self.trainer.state.fn == "fit" and not trial:
            raise self._undefined(len(films.index))
        self.log("val/auroc", auroc_K.nanmean(), prog_bar=True)
        if self.trainer.state.fn == "validate":
            self._write(films, "val")

    def on_test_epoch_end(self) -> None:
        """Writes predictions.parquet and metrics.json into the run, and logs the figures."""
        films = self._gathered()
        self._write(films, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities (B, K), which are kept too."""
        probability_BK = self.probabilities(self(self.backbone.normalize(batch["image"])))
        self.predictions.update(batch["index"], probability_BK, batch["label"])
        return probability_BK

    def on_predict_epoch_end(self) -> None:
        """Writes predictions.parquet into the run."""
        films = self._gathered()
        if self.trainer.is_global_zero:
            results.write_predictions(*self._place(), films, self.task, self.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the names of the outputs."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["xrayssl"].update(classes=self.classes, task=self.task)

    def _unlike(self, header: Mapping[str, Any]) -> list[str]:
        """Also refuses a head for other classes: names, order or task."""
        theirs, problems = header["classes"], super()._unlike(header)
        if header["task"] != self.task:
            problems.append(f"The checkpoint learned a {header['task']} task; these data pose a {self.task} one.")
        if theirs != self.classes:
            names = [", ".join(words) for words in (theirs, self.classes)]
            problems.append(f"The checkpoint names {names[0]}; these data have {names[1]}. Choose with --data.labels.")
        return problems

    def _undefined(self, films: int) -> UserError:
        """The refusal of so many validation films, which names what keeps others away."""
        manifest = self.trainer.datamodule.manifest  # type: ignore[attr-defined]
        label_NK = manifest.labels()[manifest.rows("val")]
        limited = films < len(label_NK) and _defined(label_NK)
        which = f"first {films} of {len(label_NK)}" if limited else str(films)
        remedy = "Raise --trainer.limit_val_batches." if limited else "Give --data.val a larger share."
        return UserError(
            f"The {which} validation films define no AUROC, which selects the checkpoint: no class has films with and "
            f"without it. {remedy}"
        )

    def _evaluate(self, stage: str, batch: Batch) -> None:
        logits_BK = self(self.backbone.normalize(batch["image"]))
        self._log(stage, {"loss": self._loss(logits_BK, batch["label"])}, batch)
        self.predictions.update(batch["index"], self.probabilities(logits_BK), batch["label"])

    def _gathered(self) -> Gathered:
        """Every film's prediction, once; the next epoch begins with none."""
        films = self.predictions.compute()
        self.predictions.reset()
        return films

    def _write(self, films: Gathered, split: str) -> None:
        if not self.trainer.is_global_zero:
            return
        figures = results.write(*self._place(), films, self.task, self.classes, split, self.score)
        rank_zero_info(results.summary(figures))
        values = {f"{split}/{name}": entry["value"] for name, entry in figures["metrics"].items()}
        for logger in self.loggers:
            logger.log_metrics({name: value for name, value in values.items() if value is not None})

    def _place(self) -> tuple[Path, pd.DataFrame]:
        """The run's folder, and the manifest's table."""
        return Path(self.trainer.default_root_dir), self.trainer.datamodule.manifest.table  # type: ignore[attr-defined]

    def _loss(self, logits_BK: Tensor, label_BK: Tensor) -> Tensor:
        known_BK = ~label_BK.isnan()
        if self.task == "multiclass":
            row_B = known_BK.all(dim=1)
            terms = nn.functional.cross_entropy(logits_BK[row_B], label_BK[row_B], reduction="none")
        else:
            terms = nn.functional.binary_cross_entropy_with_logits(
                logits_BK[known_BK], label_BK[known_BK], reduction="none"
            )
        return terms.sum() / max(1, terms.numel())


def _defined(label_NK: np.ndarray) -> bool:
    """Whether films with and without a class are known, of any class."""
    return bool(((label_NK == 1).any(axis=0) & (label_NK == 0).any(axis=0)).any())
