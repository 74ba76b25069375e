"""From a backbone to labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from xrayssl.errors import UserError
from xrayssl.finetuning import evaluation, selection, tuning
from xrayssl.finetuning.evaluation import Split
from xrayssl.finetuning.losses import LabelLoss
from xrayssl.finetuning.mixing import Mixing
from xrayssl.finetuning.selection import labels, macro_auroc
from xrayssl.finetuning.tta import TTA
from xrayssl.heads import LinearHead, Pooling, inherit
from xrayssl.methods.base import Batch, Method
from xrayssl.metrics import NOTHING, Gathered, Predictions
from xrayssl.optim import effective_batch

log = logging.getLogger(__name__)
UNSAID = {"model.loss": asdict(LabelLoss()), "model.mixing": asdict(Mixing()), "model.unfreeze_after": 0,
          "model.select_on": "val"}  # fmt: skip
"""How checkpoints were trained from a time when there was no choice."""


class Finetune(Method):
    """Trains a classifier on a backbone, or only its head, and predicts (recipe: Xiao et al. 2022, arXiv:2210.12843,
    appendix).

    Started from a checkpoint of this method, it goes on with its head, too, if the outputs are the same; see
    `heads.inherit`.

    Args:
        classes: Names of the outputs; taken from the data.
        task: "multilabel" (every finding stands alone) or "multiclass" (a film has one class); taken from the data.
        mode: "full" trains everything, "linear" keeps the backbone as it is.
        score: What a prediction is measured on: each "film", or each "study" (the mean probability over its films, as
            MURA is scored); taken from the data.
        pooling: How the grid becomes one vector: its "mean", with which Grad-CAM equals CAM, or "attentive".
        head_hidden: Width of a hidden layer of the head; null for a linear head.
        unfreeze_after: With the mode "full": epochs for which the head alone is trained, on a backbone that stays as it
            is; then the backbone's rates warm up (Kumar et al. 2022, arXiv:2202.10054).
        loss: What is minimised.
        mixing: Mixup and CutMix; off by default.
        tta: Views that are averaged when a finished classifier is measured or predicts (not in the fit's validations).
        select_on: Films whose AUROC selects the checkpoint. "test" is for the replication of published tables that did
            so: it marks every figure, which is then too good.
        **kwargs: See `Method`.

    Raises:
        UserError: If the data have no labels, or an argument does not go with them.
    """

    monitor: ClassVar[tuple[str, str] | None] = ("val/auroc", "max")
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(
        self,
        classes: list[str] | None = None,
        task: Literal["multilabel", "multiclass"] | None = None,
        mode: Literal["full", "linear"] = "full",
        score: Literal["film", "study"] = "film",
        pooling: Pooling = "mean",
        head_hidden: int | None = None,
        unfreeze_after: int = 0,
        loss: LabelLoss = LabelLoss(),  # noqa: B008 - frozen
        mixing: Mixing = Mixing(),  # noqa: B008 - frozen
        tta: TTA = TTA(),  # noqa: B008 - frozen
        select_on: Split = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not classes or task is None:
            raise UserError("Fine-tuning needs labels, and these corpora have none in common; see --data.corpora.")
        if unfreeze_after < 0 or (unfreeze_after and mode == "linear"):
            raise UserError(f"--model.unfreeze_after is a number of epochs of the mode full, not {unfreeze_after}.")
        loss.check(classes, task)
        tta.check(classes)
        self.classes, self.task, self.mode, self.score = list(classes), task, mode, score
        self.unfreeze_after, self.loss, self.mixing, self.tta = unfreeze_after, loss, mixing, tta
        self.select_on = select_on
        self.monitor = (f"{select_on}/auroc", "max")  # type: ignore[misc]
        self.head = LinearHead(self.backbone.width, len(classes), mode == "linear", pooling, head_hidden)
        self.class_weight_2K: Tensor
        self.register_buffer("class_weight_2K", loss.weights(classes, task), loss.class_weights is not None)
        self.predictions = Predictions()
        self._validated: Gathered | None = None
        if mode == "linear":
            self.backbone.requires_grad_(False)
        self.train()

    @property
    def resting(self) -> bool:
        """Whether the backbone stays as it is for now, to be trained later."""
        return self._fits and self.current_epoch < self.unfreeze_after

    @property
    def _awake(self) -> bool:
        return self.mode == "full" and not self.resting

    @property
    def lr(self) -> float:
        """The peak learning rate, as Lightning's LearningRateFinder reads and sets it."""
        return self.optim.lr

    @lr.setter
    def lr(self, peak: float) -> None:
        """Takes what it found."""
        scale = self.optim.peak(effective_batch(self.trainer)) / self.optim.lr
        self.optim = replace(self.optim, lr=peak / scale)

    def start(self) -> None:
        """Takes the weights that `init_from` names, and the head of a checkpoint whose outputs are the same."""
        super().start()
        told = inherit(self.head, self.init_from, self.classes, self.task)
        if told:
            rank_zero_info(told)

    def setup(self, stage: str) -> None:
        """Weighs the classes of the training films.

        Raises:
            UserError: If one of them has no film.
        """
        super().setup(stage)
        tuning.check_order(self.trainer)
        if stage == "fit" and self.loss.class_weights == "balanced":
            label_NK = labels(self.trainer.datamodule, "train")  # type: ignore[attr-defined]
            self.class_weight_2K.copy_(self.loss.weights(self.classes, self.task, label_NK))

    def train(self, training: bool = True) -> Finetune:
        """Sets the mode; a frozen backbone stays in evaluation, or its batch norm would move."""
        super().train(training)
        self.backbone.train(training and self._awake)
        return self

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of normalised films."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.resting):
            grid_BDhw = self.backbone(image_BCHW)
        return self.head(grid_BDhw).float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the known labels, or what `loss` makes of it."""
        image_BCHW, label_BK = batch["image"], batch["label"]
        if self.mixing and self.training:
            image_BCHW, label_BK = self.mixing(image_BCHW, label_BK)
        loss = self._loss(self(image_BCHW), label_BK)
        if self.resting and self.trainer.world_size > 1:  # DDP waits for a gradient of every trainable parameter
            loss = loss + 0.0 * torch.stack([value.sum() for value in self.backbone.parameters()]).sum()
        return {"loss": loss}

    def on_train_start(self) -> None:
        """Looks at the labels of the films that will be validated, before anything is learned; builds the optimiser
        anew if its rate or batch was looked for, for Lightning does not.

        Raises:
            UserError: If they define no AUROC; see `on_validation_epoch_end`. If the backbone would never be trained.
        """
        tuning.adopt(self.trainer, self.optim.lr)
        if 0 < (self.trainer.max_epochs or 0) <= self.unfreeze_after:
            raise UserError(f"--model.unfreeze_after {self.unfreeze_after} leaves no epoch to train the backbone in.")
        if self.select_on == "test":
            log.warning("The test films select the checkpoint (--model.select_on test): all figures of this run are "
                        "too good, and are marked so.")  # fmt: skip
        selection.check(self.trainer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Wakes the backbone after its rest; a run resumed within an epoch sees no epoch begin."""
        if self.backbone.training != self._awake:
            self.backbone.train(self._awake)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Keeps a resting backbone from the optimiser, whose weight decay and moments would move it."""
        if self.resting:
            for parameter in self.backbone.parameters():
                parameter.grad = None

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Keeps the decay over layers under the schedule of Lightning's LearningRateFinder, which knows one rate."""
        super().lr_scheduler_step(scheduler, metric)
        tuning.keep_layer_decay(scheduler)

    def probabilities(self, logits_BK: Tensor) -> Tensor:
        """Probabilities (B, K): they sum to 1 for classes, each stands alone for findings."""
        return logits_BK.softmax(dim=1) if self.task == "multiclass" else logits_BK.sigmoid()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and keeps the predictions."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and keeps the predictions."""
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the macro AUROC over the classes that the validation films (or studies) define; it selects the
        checkpoint, unless that of the test films shall.

        Raises:
            UserError: If they define none: the selection would keep the first epoch for ever.
        """
        self._log_auroc("val", films := self._gathered())
        if self.select_on == "test" and self._fits and not self.trainer.sanity_checking:
            self._log_auroc("test", self._over("test"))
        if self.trainer.state.fn == "validate":
            self._write(films, "val")

    def on_test_start(self) -> None:
        """Predicts the validation films with the weights that are tested: they choose thresholds and temperature."""
        manifest: Any = self.trainer.datamodule.manifest  # type: ignore[attr-defined]
        self._validated = self._over("val") if len(manifest.rows("val")) else None

    def on_test_epoch_end(self) -> None:
        """Writes predictions.parquet and metrics.json into the run, and logs the figures."""
        self._write(self._gathered(), "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities (B, K), which are kept too."""
        return self._keep(batch)[1]

    def on_predict_epoch_end(self) -> None:
        """Writes predictions.parquet into the run."""
        evaluation.write_predictions(self.trainer, self._gathered(), self.task, self.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the names of the outputs."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["xrayssl"].update(classes=self.classes, task=self.task, select_on=self.select_on)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As `Method`; a checkpoint that was selected on the test films stays marked."""
        if self._fits:
            tuning.check(self.trainer)
        super().on_load_checkpoint(checkpoint)
        self.select_on = "test" if checkpoint["xrayssl"].get("select_on") == "test" else self.select_on

    def _settings(self) -> dict[str, Any]:
        parts = {"model.loss": asdict(self.loss), "model.mixing": asdict(self.mixing)}
        rest = {"model.unfreeze_after": self.unfreeze_after, "model.select_on": self.select_on}
        return {**super()._settings(), **parts, **rest}

    def _unlike(self, header: Mapping[str, Any]) -> list[str]:
        """Also refuses a head for other classes: names, order or task."""
        then = {**UNSAID, **header.get("settings", {})}
        theirs, problems = header["classes"], super()._unlike({**header, "settings": then})
        if header["task"] != self.task:
            problems.append(f"The checkpoint learned a {header['task']} task; these data pose a {self.task} one.")
        if theirs != self.classes:
            names = [", ".join(words) for words in (theirs, self.classes)]
            problems.append(f"The checkpoint names {names[0]}; these data have {names[1]}. Choose with --data.labels.")
        return problems

    def _loss(self, logits_BK: Tensor, label_BK: Tensor) -> Tensor:
        return self.loss(logits_BK, label_BK, self.task, self.class_weight_2K)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        logits_BK, _ = self._keep(batch)
        self._log(stage, {"loss": self._loss(logits_BK, batch["label"])}, batch)

    def measured(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) of films, uint8, as they are, and their probabilities (B, K) in the mean over all views."""
        image_BCHW = self.backbone.normalize(image_BCHW)
        logits_BK = self(image_BCHW)
        others = [] if self._fits else [self(view_BCHW) for view_BCHW in self.tta.views(image_BCHW)]
        seen = [self.probabilities(each_BK) for each_BK in (logits_BK, *others)]
        return logits_BK, torch.stack(seen).mean(dim=0)

    def _keep(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits_BK, probability_BK = self.measured(batch["image"])
        self.predictions.update(batch["index"], probability_BK, batch["label"])
        return logits_BK, probability_BK

    def _over(self, split: Split) -> Gathered:
        """Every film of a split by the weights that are measured, beside Lightning's loop over other films."""
        evaluation.over(self.trainer, split, self._keep)
        return self._gathered()

    def _gathered(self) -> Gathered:
        """Every film's prediction, once; the next epoch begins with none."""
        films = self.predictions.compute() if self.predictions.update_called else NOTHING
        self.predictions.reset()
        return films

    def _log_auroc(self, split: Split, films: Gathered) -> None:
        value = macro_auroc(evaluation.scored(self.trainer, films, self.task, self.score))
        trial = self.trainer.sanity_checking or self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if value.isnan() and self._fits and not trial:
            raise selection.undefined(labels(self.trainer.datamodule, split), len(films.index), split)  # type: ignore
        self.log(f"{split}/auroc", value, prog_bar=split == self.select_on)

    def _write(self, films: Gathered, split: Split) -> None:
        how = (self.task, self.classes, self.score, self._validated, self.select_on)
        evaluation.write(self.trainer, films, split, *how)
